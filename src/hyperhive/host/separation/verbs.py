"""All that the daemon may ask of its root helper, with what is said on the way there and back.

A request is `{"id": n, "verb": ..., "arguments": {...}}`, with an id higher than all before; `{"cancel": n}` gives one
up. The answer is `{"id": n, "result": ...}` or `{"id": n, "error": {...}}`, also to what was given up. The models say
what form arguments have; whether the helper does what they ask for is for `checks.py`.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from hyperhive.core.errors import HiveError, RefusedError, parse_error
from hyperhive.core.limits import Limits
from hyperhive.host.configs.trees import FILE_LIMIT_BYTES, FILES_LIMIT, TREE_LIMIT_BYTES
from hyperhive.host.drivers.image_manifest import Change
from hyperhive.host.drivers.image_shelf import Shelf
from hyperhive.host.drivers.nix_packages import PACKAGES_LIMIT
from hyperhive.host.drivers.protocol import ContainerSpec, DriverError, Mount, Observation, Package, SizeDifference
from hyperhive.system.cgroups import Usage

# Of a log, and of each of the two that a command says: in base64 they fit into one answer.
PIECE_LIMIT_BYTES: Final = 2 * 1024 * 1024
_NAME_LIMIT_CHARS = 200
_PATH_LIMIT_CHARS = 4096
_LIST_LIMIT = 10_000
_CPUS_LIMIT = 1_000_000
# In base64, of which each four characters are three bytes.
_FILE_LIMIT_CHARS = (FILE_LIMIT_BYTES + 2) // 3 * 4


class Verb(StrEnum):
    PREPARE = "prepare"
    BUILD = "build"
    CREATE = "create"
    OBSERVE = "observe"
    FIND_USAGE = "find_usage"
    START = "start"
    STOP = "stop"
    DESTROY = "destroy"
    EXEC = "exec"
    LOGS = "logs"
    LOG_RANGE = "log_range"
    OBSERVE_IMAGES = "observe_images"
    COMPARE_IMAGE = "compare_image"
    REMOVE_IMAGE = "remove_image"
    REMOVE_UNUSED_IMAGES = "remove_unused_images"
    EVALUATE = "evaluate"
    BUILD_SYSTEM = "build_system"
    LIST_PACKAGES = "list_packages"
    COMPARE_PACKAGES = "compare_packages"


# They change nothing and are asked all the time.
READING: Final = frozenset({Verb.OBSERVE, Verb.FIND_USAGE, Verb.LOGS, Verb.LOG_RANGE, Verb.OBSERVE_IMAGES})


def _refuse_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a zero byte")
    return text


def _decode_file(text: object) -> bytes:
    if not isinstance(text, str) or len(text) > _FILE_LIMIT_CHARS:
        raise ValueError(f"it is no text, or has more than {_FILE_LIMIT_CHARS} characters")
    return b64decode(text, validate=True)


def _refuse_large(files: dict[str, bytes]) -> dict[str, bytes]:
    if sum(map(len, files.values())) > TREE_LIMIT_BYTES:
        raise ValueError(f"the files have together more than {TREE_LIMIT_BYTES} bytes")
    return files


Name = Annotated[str, Field(max_length=_NAME_LIMIT_CHARS)]
PathText = Annotated[str, Field(max_length=_PATH_LIMIT_CHARS), AfterValidator(_refuse_nul)]
Word = Annotated[str, AfterValidator(_refuse_nul)]
StorePaths = Annotated[list[PathText], Field(max_length=PACKAGES_LIMIT)]
Packages = Annotated[list[Name], Field(max_length=_LIST_LIMIT)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# The kernel's numbers are 64 bits wide.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[int, Field(gt=0, lt=2**63)]
File = Annotated[bytes, BeforeValidator(_decode_file), Field(max_length=FILE_LIMIT_BYTES)]
Files = Annotated[dict[PathText, File], Field(max_length=FILES_LIMIT), AfterValidator(_refuse_large)]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def find_name(self) -> str:
        """Whom it is about: a container or an image; empty if it is about none."""
        return ""

    def render(self) -> str:
        """What stands in the audit of it, beside verb and name. Never anything secret."""
        return ""


class NoArguments(Arguments):
    pass


class NameArguments(Arguments):
    name: Name

    def find_name(self) -> str:
        return self.name


class BuildArguments(Arguments):
    packages: Packages

    def render(self) -> str:
        return " ".join(self.packages)


class MountFields(Arguments):
    source: PathText
    target: PathText
    writable: bool


class LimitsFields(Arguments):
    memory_bytes: Amount | None
    cpus: Annotated[float, Field(gt=0, le=_CPUS_LIMIT, allow_inf_nan=False)] | None
    tasks: Amount | None


class SpecArguments(Arguments):
    """A ContainerSpec, every field said."""

    name: Name
    command: Annotated[list[Word], Field(max_length=_LIST_LIMIT)]
    environment: dict[Word, Word]
    mounts: Annotated[list[MountFields], Field(max_length=100)]
    uid: Annotated[int, Field(ge=0, lt=2**32)] | None
    working_folder: PathText
    packages: Packages
    limits: LimitsFields
    host_network: bool

    def find_name(self) -> str:
        return self.name

    def render(self) -> str:
        return f"uid {self.uid}" + (f", packages {' '.join(self.packages)}" if self.packages else "")

    def to_spec(self) -> ContainerSpec:
        return ContainerSpec(
            name=self.name,
            command=tuple(self.command),
            environment=self.environment,
            mounts=tuple(Mount(Path(one.source), Path(one.target), one.writable) for one in self.mounts),
            uid=self.uid,
            working_folder=Path(self.working_folder),
            packages=tuple(self.packages),
            limits=Limits(self.limits.memory_bytes, self.limits.cpus, self.limits.tasks),
            host_network=self.host_network,
        )


class StopArguments(NameArguments):
    timeout_s: Seconds

    def render(self) -> str:
        return f"within {self.timeout_s:g} s"


class ExecArguments(NameArguments):
    command: Annotated[list[Word], Field(min_length=1, max_length=_LIST_LIMIT)]
    timeout_s: Seconds

    def render(self) -> str:
        return " ".join(self.command)


class LogsArguments(NameArguments):
    offset: Count
    limit_bytes: Annotated[int, Field(ge=0, le=PIECE_LIMIT_BYTES)]


class ObserveImagesArguments(Arguments):
    wanted: Annotated[list[Packages], Field(max_length=_LIST_LIMIT)]


class ImageArguments(Arguments):
    image_id: Name

    def find_name(self) -> str:
        return self.image_id


class RemoveUnusedArguments(Arguments):
    keep: Annotated[list[Packages], Field(max_length=_LIST_LIMIT)]
    unused_s: Seconds

    def render(self) -> str:
        return f"unused for {self.unused_s:g} s, kept: those for {len(self.keep)} lists of packages"


class SystemArguments(NameArguments):
    """The files of a config, by their paths in it, in base64."""

    files: Files

    def render(self) -> str:
        return f"{len(self.files)} files"


class ComparisonArguments(Arguments):
    """Packages by their places in the store."""

    before: StorePaths
    after: StorePaths

    def render(self) -> str:
        return f"{len(self.before)} packages with {len(self.after)}"


ARGUMENTS: Final[Mapping[Verb, type[Arguments]]] = {
    Verb.PREPARE: NoArguments,
    Verb.BUILD: BuildArguments,
    Verb.CREATE: SpecArguments,
    Verb.OBSERVE: NameArguments,
    Verb.FIND_USAGE: NameArguments,
    Verb.START: SpecArguments,
    Verb.STOP: StopArguments,
    Verb.DESTROY: NameArguments,
    Verb.EXEC: ExecArguments,
    Verb.LOGS: LogsArguments,
    Verb.LOG_RANGE: NameArguments,
    Verb.OBSERVE_IMAGES: ObserveImagesArguments,
    Verb.COMPARE_IMAGE: ImageArguments,
    Verb.REMOVE_IMAGE: ImageArguments,
    Verb.REMOVE_UNUSED_IMAGES: RemoveUnusedArguments,
    Verb.EVALUATE: SystemArguments,
    Verb.BUILD_SYSTEM: SystemArguments,
    Verb.LIST_PACKAGES: SystemArguments,
    Verb.COMPARE_PACKAGES: ComparisonArguments,
}


def parse_verb(text: object) -> Verb:
    """Raises RefusedError for what is none."""
    try:
        return Verb(text)
    except ValueError as error:
        raise RefusedError("there is no such verb") from error


def parse_arguments(verb: Verb, given: object) -> Arguments:
    """Raises RefusedError that says which field is wrong, and nothing of what it holds."""
    try:
        return ARGUMENTS[verb].model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_context=False, include_url=False)[0]
        # What a field is called may come from outside, too.
        place = ".".join(str(part)[:_NAME_LIMIT_CHARS] for part in problem["loc"]) or "the arguments"
        raise RefusedError(f"{place}: {problem['msg']}") from error


def render_spec(spec: ContainerSpec) -> dict[str, Any]:
    """The arguments that say a spec."""
    limits = spec.limits
    return {
        "name": spec.name,
        "command": list(spec.command),
        "environment": dict(spec.environment),
        "mounts": [
            {"source": str(mount.source), "target": str(mount.target), "writable": mount.writable}
            for mount in spec.mounts
        ],
        "uid": spec.uid,
        "working_folder": str(spec.working_folder),
        "packages": list(spec.packages),
        "limits": {"memory_bytes": limits.memory_bytes, "cpus": limits.cpus, "tasks": limits.tasks},
        "host_network": spec.host_network,
    }


def render_files(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The arguments that say the files of a container's config."""
    return {"name": name, "files": {path: _encode(content) for path, content in files.items()}}


# -- answers -----------------------------------------------------------------------------------------------------


def _encode(piece: bytes) -> str:
    return b64encode(piece).decode()


def _decode(text: str) -> bytes:
    return b64decode(text)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of a driver once it is prepared: what it cannot limit, and what it builds systems from."""

    unlimited: Mapping[str, str]
    revision: str


_Bytes = Annotated[bytes, PlainSerializer(_encode), BeforeValidator(_decode)]
_NOTHING: Final[TypeAdapter[Any]] = TypeAdapter(None)
_SHELF: Final = TypeAdapter(Shelf)

_RESULTS: Final[Mapping[Verb, TypeAdapter[Any]]] = {
    Verb.PREPARE: TypeAdapter(Prepared),
    Verb.BUILD: TypeAdapter(dict[str, str]),
    Verb.OBSERVE: TypeAdapter(Observation),
    Verb.FIND_USAGE: TypeAdapter(Usage),
    # Status, standard output and standard error.
    Verb.EXEC: TypeAdapter(tuple[int, _Bytes, _Bytes]),
    Verb.LOGS: TypeAdapter(tuple[_Bytes, int]),
    Verb.LOG_RANGE: TypeAdapter(tuple[int, int]),
    Verb.COMPARE_IMAGE: TypeAdapter(list[Change] | None),
    Verb.REMOVE_UNUSED_IMAGES: TypeAdapter(list[str]),
    Verb.EVALUATE: TypeAdapter(_Bytes),
    Verb.LIST_PACKAGES: TypeAdapter(list[Package]),
    Verb.COMPARE_PACKAGES: TypeAdapter(SizeDifference),
}


def render_result(verb: Verb, result: Any) -> Any:
    """What a verb came to, as JSON can say it."""
    if verb is Verb.OBSERVE_IMAGES:
        return _render_shelf(result)
    return _RESULTS.get(verb, _NOTHING).dump_python(result, mode="json")


def parse_result(verb: Verb, result: Any) -> Any:
    """What `render_result` was given. Raises ValueError for what it has not made."""
    if verb is Verb.OBSERVE_IMAGES:
        return _parse_shelf(result)
    return _RESULTS.get(verb, _NOTHING).validate_python(result)


def parse_helper_error(error: dict[str, object]) -> HiveError:
    """The error of an answer: drivers' own, too, are again what they were."""
    known = parse_error(error)
    return DriverError(known.message, known.hint) if error.get("code") == DriverError.code else known


def _render_shelf(shelf: Shelf) -> dict[str, Any]:
    # JSON has no keys but texts.
    ids = [[list(packages), list(ids)] for packages, ids in shelf.ids.items()]
    return {**_SHELF.dump_python(replace(shelf, ids={}), mode="json"), "ids": ids}


def _parse_shelf(result: dict[str, Any]) -> Shelf:
    ids = {tuple(packages): tuple(ids) for packages, ids in result["ids"]}
    return _SHELF.validate_python({**result, "ids": ids})
