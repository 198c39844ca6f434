"""An agent's folders can be removed whatever it put there, and nothing else goes with them."""

import os
from pathlib import Path

from hyperhive.core.paths import Roots
from hyperhive.host import folders


async def test_no_link_and_no_depth_keeps_a_purge_from_its_end(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    state = roots.state_folder("alice")
    state.mkdir(parents=True)
    other = roots.state_folder("bob")
    other.mkdir(parents=True)
    (other / "notes.md").write_text("bob's")
    (state / "link").symlink_to(other)
    (state / "-rf").mkdir()
    handle = os.open(state, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=handle)
        deeper = os.open("deep", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    assert await folders.measure(roots, "alice") > 0
    await folders.remove(roots, "alice")
    assert not roots.agent_folder("alice").exists()
    assert (other / "notes.md").read_text() == "bob's"
    await folders.remove(roots, "alice")
