"""A fake of the claude CLI, for load and for faults: no network, no model, a script in the prompt.

It speaks the stream-json protocol with whoever starts it, as `claude-agent-sdk` does. Standard library only, one
thread, one `select`: it starts in the time of a bare Python and a hundred of them fit on a laptop.
"""

import os
import sys
from pathlib import Path

_LAUNCHER = """#!{python} -S
import sys
sys.path.insert(0, {source!r})
from hyperhive.testing.fake_claude.__main__ import main
main()
"""


def install_fake_claude(folder: Path) -> Path:
    """Writes an executable `claude` into `folder` and returns its path, which is a `cli_path` for the SDK.

    It runs with this very Python and this source tree, whatever the environment of its caller says.
    """
    source = Path(__file__).resolve().parents[3]
    launcher = folder / "claude"
    launcher.write_text(_LAUNCHER.format(python=sys.executable, source=os.fspath(source)), encoding="utf-8")
    launcher.chmod(0o755)
    return launcher
