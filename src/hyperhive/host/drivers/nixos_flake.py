"""The flake that an agent's container is built from: the hive's own text, who it is, and the agent's files. Pure, but
for `write_flake` and `load_inputs`.

A folder with `flake.nix`, `identity.json` and `config/`. Nothing of an agent is ever written into the text of a flake:
names and files are data that the flake reads.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.files import sync_folder, write_folder
from hyperhive.wire.agent_nix import NIX_FILE

CONFIG_FOLDER = "config"

_HINT = "nix_inputs is hyperhive=/PATH nixpkgs=/PATH, and unstable=/PATH if there is one; services.hyperhive sets it"
_NAMES = ("hyperhive", "nixpkgs", "unstable")
# Nothing that means something in a URL, in a text of Nix or in an argument.
_PATH = re.compile(r"(?:/[A-Za-z0-9_+=-][A-Za-z0-9._+=-]*)+")
_INPUT_LINE = re.compile(r'^ {4}([a-z]+)\.url = "path:([^"]+)";$', re.MULTILINE)

_FLAKE = """\
# Written by the hive, anew for each build: what is changed here is lost.
{{
  inputs = {{
{inputs}
  }};

  outputs =
    {{ hyperhive, nixpkgs, ... }}@inputs:
    hyperhive.lib.makeAgent {{
      inherit nixpkgs;
      unstable = inputs.unstable or null;
      identity = builtins.fromJSON (builtins.readFile ./identity.json);
      modules = [ ./{config}/{agent_file} ];
    }};
}}
"""


@dataclass(frozen=True, slots=True)
class NixInputs:
    """Where on this machine a container's system comes from: the hive's Nix files, nixpkgs, and a newer nixpkgs."""

    hyperhive: Path
    nixpkgs: Path
    unstable: Path | None = None

    @property
    def revision(self) -> str:
        """Another one whenever an input has moved. In the Nix store what changes does move."""
        return hashlib.sha256(render_nix_inputs(self).encode()).hexdigest()[:12]

    def list_paths(self) -> list[Path]:
        return list(self.name_paths().values())

    def name_paths(self) -> dict[str, Path]:
        """The inputs by their names, without those that are not set."""
        return {name: path for name in _NAMES if (path := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is: its name, its machine's, the port of its own page, and the kind of system (x86_64-linux)."""

    name: str
    machine: str
    port: int
    system: str


def parse_nix_inputs(text: str) -> NixInputs:
    """The inputs from `NAME=/PATH …`. Raises InvalidInputError: hyperhive and nixpkgs must be there."""
    found: dict[str, Path] = {}
    for entry in text.split():
        name, equals, path = entry.partition("=")
        if not equals or name not in _NAMES or name in found:
            raise InvalidInputError(f"{entry[:200]!r} is no input of a container's system, or its second", _HINT)
        if not _PATH.fullmatch(path):
            what = f"{path[:200]!r} is not a plain absolute path"
            raise InvalidInputError(f"the input {name} cannot be taken from there: {what}", _HINT)
        found[name] = Path(path)
    for name in ("hyperhive", "nixpkgs"):
        if name not in found:
            raise InvalidInputError(f"the input {name} is missing", _HINT)
    return NixInputs(**found)


def render_nix_inputs(inputs: NixInputs) -> str:
    """What `parse_nix_inputs` reads."""
    return " ".join(f"{name}={path}" for name, path in inputs.name_paths().items())


def render_flake(inputs: NixInputs, identity: Identity) -> dict[str, bytes]:
    """The hive's own files of an agent's flake, by their names. Nothing is fetched for it: every input is a path."""
    paths = inputs.name_paths()
    lines = [f'{name}.url = "path:{path}";' for name, path in paths.items()]
    # The hive's flake has inputs of its own, which are on the network.
    follows = {"nixpkgs": "nixpkgs", "unstable": "unstable" if inputs.unstable else "nixpkgs"}
    lines += [f'hyperhive.inputs.{name}.follows = "{target}";' for name, target in follows.items()]
    text = _FLAKE.format(inputs="\n".join(f"    {line}" for line in lines), config=CONFIG_FOLDER, agent_file=NIX_FILE)
    return {
        "flake.nix": text.encode(),
        "identity.json": json.dumps(asdict(identity), sort_keys=True).encode(),
    }


def write_flake(folder: Path, inputs: NixInputs, identity: Identity, files: Mapping[str, bytes]) -> None:
    """Writes an agent's flake to `folder`, readable for everybody; what was there is replaced, its lock file, too.

    `files` are those of its config by their paths. One at a time for a folder, which must be where no agent can
    write. Raises InvalidInputError for a config without agent.nix or with a path that leads out, and DriverError if
    it cannot be written; what was there before may be gone then.
    """
    check_config(files)
    contents = render_flake(inputs, identity) | {f"{CONFIG_FOLDER}/{path}": text for path, text in files.items()}
    draft = folder.with_name(f".{folder.name}.new")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in (draft, folder):
            if old.exists():
                shutil.rmtree(old)
        write_folder(draft, {path: (content, False) for path, content in contents.items()})
        draft.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise DriverError(
            f"the flake of {identity.name} cannot be written: {error.strerror}", "is the disk full?"
        ) from (error)


def check_config(files: Mapping[str, bytes]) -> None:
    """Raises InvalidInputError for files that are no config of this kind."""
    if NIX_FILE not in files:
        raise InvalidInputError(f"the config has no {NIX_FILE}", "nixos containers are described by one at its top")
    for path in files:
        if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise InvalidInputError(f"{path[:200]!r} is no path of a config", "files are below the config's folder")


def load_inputs(folder: Path) -> NixInputs:
    """The inputs of a flake that `write_flake` wrote. Raises DriverError if that is none."""
    try:
        text = (folder / "flake.nix").read_text()
        return NixInputs(**{name: Path(path) for name, path in _INPUT_LINE.findall(text)})
    except (OSError, UnicodeDecodeError, TypeError) as error:
        raise DriverError(f"{folder} is no flake of an agent: {error}", "it is written at each build") from error
