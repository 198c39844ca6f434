"""Whether containers of nspawn and gvisor have something to run on: the base image, and the layers on it."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hyperhive.cli.client import Client, Row
from hyperhive.cli.doctor_checks import Check, missing, ok, warn
from hyperhive.cli.rendering import field, line_field, render_age, render_size
from hyperhive.core.errors import HiveError
from hyperhive.core.paths import Roots
from hyperhive.core.text import render_safe_line

NAME = "base image"
_BUILD = "hive up: the first start builds it"


def check_images(roots: Roots, environment: Mapping[str, str], client: Client | None) -> Check:
    """By what the running hive says; without one by what lies in the folder of images."""
    if client is not None:
        try:
            return judge_images(client.get_rows("/api/images"), datetime.now(UTC))
        except HiveError as error:
            return warn(NAME, f"not known: {error.message}", "hive images list")
    return check_folder(roots.images_folder, decide_suite(environment), datetime.now(UTC))


def judge_images(rows: list[Row], now: datetime) -> Check:
    """What `/api/images` says: a base that agents can have, and nothing damaged."""
    damaged = [row for row in rows if row.get("problem")]
    if damaged:
        told = "; ".join(f"{line_field(row, 'id')}: {line_field(row, 'problem')}" for row in damaged)
        return missing(NAME, told, f"hive images rm {line_field(damaged[0], 'id')}")
    bases = [row for row in rows if row.get("kind") == "base" and (row.get("used_by") or row.get("checked"))]
    if not bases:
        return warn(NAME, "not built yet: the first agent that starts waits for it", "hive start manager")
    base = bases[-1]
    checked = "as it was built" if base.get("checked") else "not compared with its manifest yet"
    layers = [row for row in rows if row.get("kind") == "layer"]
    size = render_size(sum(row.get("size_bytes") or 0 for row in layers))
    on_it = f"; {len(layers)} with packages on it, {size}" if layers else ""
    return ok(NAME, f"{_describe(line_field(base, 'suite'), field(base, 'built_at'), now)}, {checked}{on_it}")


def check_folder(folder: Path, suite: str, now: datetime) -> Check:
    """What lies in the folder of images, of `suite`: its manifest is believed, and what it says is not read."""
    if not suite:
        why = "this machine is not a Debian release: nothing says of which one images are to be"
        return missing(NAME, why, "HIVE_IMAGE_SUITE=bookworm, or another of Debian's that this Python runs on")
    try:
        manifests = _load_manifests(folder)
    except OSError as error:
        return warn(NAME, f"not known: {folder}: {error.strerror}", "run this as the user of the hive")
    found = [manifest for manifest in manifests if manifest["suite"] == suite]
    if not found:
        return warn(NAME, f"not built yet, of {suite}: about 250 MB from the sources of this machine's apt", _BUILD)
    newest = max(manifest["built_at"] for manifest in found)
    return ok(NAME, f"{_describe(suite, newest, now)}; compared with its manifest when the hive starts")


def decide_suite(environment: Mapping[str, str]) -> str:
    """The suite that images are of, as the daemon decides it; empty if nothing says so."""
    if environment.get("HIVE_IMAGE_SUITE"):
        return render_safe_line(environment["HIVE_IMAGE_SUITE"])
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""


def _describe(suite: str, built_at: str, now: datetime) -> str:
    return f"of {suite}, built {render_age(built_at, now)} ago"


def _load_manifests(folder: Path) -> list[dict[str, str]]:
    """What the manifests of bases say they were made from, and when. Raises OSError."""
    try:
        # Not by a pattern, for which a folder that is closed has nothing in it.
        bases = [path for path in folder.iterdir() if path.name.startswith("base-")]
    except FileNotFoundError:
        return []
    found: list[dict[str, str]] = []
    for path in bases:
        try:
            content: Any = json.loads((path / "manifest.json").read_bytes())
            found.append({"suite": str(content["made_from"]["suite"]), "built_at": str(content["built_at"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # It is none, and the hive builds another one.
            continue
    return found
