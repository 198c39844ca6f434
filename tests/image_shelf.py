"""Images for tests: small ones, made by hand, whose manifests are right."""

import platform
from pathlib import Path

from hyperhive.host.drivers.image_build import Plan, plan_base, plan_layer
from hyperhive.host.drivers.image_manifest import Manifest, digest_lines, find_manifest, save_manifest, scan_tree
from hyperhive.host.drivers.images import Images

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04"\nID=ubuntu\nVERSION_CODENAME=noble\nID_LIKE=debian\n'
ARCH = 'PRETTY_NAME="Arch Linux"\nID=arch\n'


class Shelf:
    """A folder of images on a machine with the given os-release."""

    def __init__(self, folder: Path, os_release: str = DEBIAN) -> None:
        self.folder = folder / "images"
        self.folder.mkdir()
        release = folder / "os-release"
        release.write_text(os_release)
        self.images = Images(self.folder, os_release=release)
        self.other_suite = Images(self.folder, "trixie", os_release=release)

    def put(self, plan: Plan, **versions: str) -> Manifest:
        folder = self.folder / plan.id
        (folder / "root/etc").mkdir(parents=True)
        (folder / "root/etc/name").write_text(plan.id)
        lines, size_bytes = scan_tree(folder / "root")
        built_at = f"2026-11-22T10:00:{len(self.names()):02}+00:00"
        manifest = Manifest(plan.id, plan.kind, plan.made_from, versions, digest_lines(lines), size_bytes, built_at)
        save_manifest(folder, manifest, lines)
        found = find_manifest(folder)
        assert found is not None
        return found

    def put_base(self) -> Manifest:
        return self.put(plan_base("bookworm", platform.machine()), git="2.39", jq="1.6")

    def put_layer(self, base: Manifest, *packages: str) -> Manifest:
        return self.put(plan_layer(base, packages), git="2.39", jq="1.6", **dict.fromkeys(packages, "1"))

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.name.startswith(("base-", "layer-"))}
