"""What `hive images` prints, and what it asks of the hive."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli_process import asked, call
from fake_hive import answer_with, run_fake_hive
from hyperhive.cli.images import render_images, render_pruned, render_verdicts
from hyperhive.cli.rendering import Screen
from hyperhive.wire.operator.images import Image, ImageCheck, ImageDifference, PrunedImages

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BASE = Image(
    id="base-1",
    kind="base",
    suite="bookworm",
    packages={"git": "2.39"},
    size_bytes=250 * 1024**2,
    built_at=datetime(2026, 1, 1, tzinfo=UTC),
    used_by=["a", "b", "c", "d", "manager"],
    mounted=True,
    checked=True,
    problem="",
)
LAYER = BASE.model_copy(update={"id": "layer-1", "kind": "layer", "suite": "", "used_by": [], "mounted": False})
DAMAGED = LAYER.model_copy(update={"problem": "it was\x1b[31m changed", "size_bytes": None, "built_at": None})
CHANGED = ImageCheck(
    id="layer-1",
    problem="it was changed: 2 entries",
    hint="`hive images rm layer-1`",
    differences=[ImageDifference(path="etc/\x1b[31mname", change="changed")],
    count=2,
)
WELL = CHANGED.model_copy(update={"problem": "", "hint": "", "differences": [], "count": 0})


def rows(*models: Any) -> list[dict[str, Any]]:
    return [model.model_dump(mode="json") for model in models]


def test_each_image_is_a_line_with_who_needs_it() -> None:
    head, *lines = (
        " ".join(line.split()) for line in render_images(rows(BASE, LAYER, DAMAGED), Screen(NOW)).split("\n")
    )
    assert head == "ID SIZE BUILT AGENTS WHAT"
    assert lines[0] == "base-1 250.0 MiB 1 d ago a, b, c and 2 more the base, of bookworm"
    assert lines[1] == "layer-1 250.0 MiB 1 d ago none git"
    assert lines[2].startswith("layer-1 ? ? none it was") and "\x1b" not in lines[2]
    running = render_images(rows(LAYER.model_copy(update={"mounted": True})), Screen(NOW))
    assert "none, but a container runs on it" in running
    assert "there are no images" in render_images([], Screen(NOW))


def test_what_differs_is_told_line_by_line() -> None:
    text = render_verdicts(rows(WELL, CHANGED), Screen(NOW))
    first, second, entry, more, hint = text.split("\n")
    assert (first, second) == ("layer-1: as it was built", "layer-1: it was changed: 2 entries")
    assert entry.startswith("  changed  etc/") and "\x1b" not in text
    assert (more, hint) == ("  … 1 more", "  `hive images rm layer-1`")


def test_what_was_removed_is_counted() -> None:
    assert render_pruned({"removed": [], "freed_bytes": 0}) == "every image is needed"
    assert render_pruned({"removed": ["a"], "freed_bytes": 1024**2}) == "removed 1 image: 1.0 MiB are free again"
    assert render_pruned({}) == "every image is needed"


async def test_all_are_verified_unless_one_is_named_and_the_status_tells(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path) as hive:
        hive.answers["GET /api/images"] = answer_with(rows(BASE, LAYER))
        hive.answers["POST /api/images/base-1/verify"] = answer_with(WELL)
        hive.answers["POST /api/images/layer-1/verify"] = answer_with(CHANGED)
        every = await call(tmp_path, "images", "verify")
        assert (every.status, b"it was changed" in every.stdout) == (1, True)
        one = await call(tmp_path, "images", "verify", "base-1", "--json")
        assert (one.status, one.stdout.startswith(b"[{")) == (0, True)
        assert asked(hive)[-1] == "POST /api/images/base-1/verify"


async def test_an_id_stays_one_word_of_the_path(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path) as hive:
        hive.answers["POST /api/images/prune"] = answer_with(PrunedImages(removed=["layer-1"], freed_bytes=1))
        done = await call(tmp_path, "images", "prune")
        assert (done.status, b"removed 1 image" in done.stdout) == (0, True)
        await call(tmp_path, "images", "rm", "../inbox")
        assert asked(hive)[-1] == "DELETE /api/images/..%2Finbox"
