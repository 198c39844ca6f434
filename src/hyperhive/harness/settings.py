"""The harness's settings: one row each, from the environment that the daemon gives the container."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhive.core.config_values import parse_model
from hyperhive.core.errors import InvalidInputError, StorageError
from hyperhive.wire.agent_link import EGRESS_PORT

MODEL_FILE = "hyperhive-model"
# Room for a name and a newline; the file is the agent's to write, so never more of it is read.
_MODEL_FILE_LIMIT_BYTES = 256


def _parse_folder(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("is not an absolute path")
    return path


def _parse_optional_file(text: str) -> Path | None:
    return _parse_folder(text) if text else None


def _parse_generation(text: str) -> int:
    generation = int(text)
    if generation < 0:
        raise ValueError("is negative")
    return generation


def _parse_port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError("is not from 0 to 65535")
    return port


def _parse_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 7 * 24 * 3600:
        raise ValueError("is not from 0 to a week")
    return seconds


@dataclass(frozen=True, slots=True)
class Settings:
    """What the harness is told from outside; `ROWS` says by which variable."""

    sockets: Path
    state: Path
    generation: int
    warm_s: float
    silence_s: float
    claude: Path | None
    egress_port: int
    model_port: int


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: the field of `Settings`, the variable it comes from, what it is without, how it is read."""

    field: str
    variable: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


ROWS = (
    Row("sockets", "HIVE_SOCKETS", "/run/hive", _parse_folder, "the folder of the four sockets"),
    Row("state", "HIVE_STATE", "/state", _parse_folder, "the agent's own folder, with its notes and events"),
    Row("generation", "HIVE_GENERATION", "0", _parse_generation, "which start of the container this is"),
    Row(
        "warm_s",
        "HIVE_WARM_S",
        "300",
        _parse_seconds,
        "how long claude stays open, if the config does not say",
    ),
    Row(
        "silence_s",
        "HIVE_SILENCE_S",
        # The longest answers take most of an hour to write, and claude tells of one when it is whole.
        "3600",
        _parse_seconds,
        "how long claude may say nothing in a turn before it counts as hung",
    ),
    Row("claude", "HIVE_CLAUDE", "", _parse_optional_file, "the CLI; empty: the one of claude-agent-sdk"),
    Row(
        "egress_port",
        "HIVE_EGRESS_PORT",
        str(EGRESS_PORT),
        _parse_port,
        "the port on the loopback that leads to egress.sock; 0: none",
    ),
    Row(
        "model_port",
        "HIVE_MODEL_PORT",
        "0",
        _parse_port,
        "the port on the loopback that leads to model.sock, for a login of claude's own; 0: none",
    ),
)


def load_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that `environment` tells. Raises InvalidInputError, naming the variable that is wrong."""
    values: dict[str, Any] = {}
    for row in ROWS:
        text = environment.get(row.variable, row.default)
        try:
            values[row.field] = row.parse(text)
        except ValueError as error:
            raise InvalidInputError(
                f"{row.variable}={text!r}: {error}", f"set {row.variable} right or leave it out"
            ) from error
    return Settings(**values)


def observe_model(state: Path, default: str) -> str:
    """The model for the next turn: the one kept in `<state>/hyperhive-model`, or else `default`.

    An unreadable or malformed file counts as absent: the agent can write it.
    """
    try:
        descriptor = os.open(state / MODEL_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return default
    try:
        text = os.read(descriptor, _MODEL_FILE_LIMIT_BYTES).decode("utf-8", "replace").strip()
        return parse_model(text) or default
    except (OSError, ValueError):
        return default
    finally:
        os.close(descriptor)


def save_model(state: Path, model: str) -> None:
    """Keeps the model that was chosen by hand, from the next turn on; empty: none.

    Raises InvalidInputError for what is no model, StorageError if it cannot be written.
    """
    try:
        parse_model(model)
    except ValueError as error:
        raise InvalidInputError(f"this is no model: {error}", "name one such as 'opus' or leave it empty") from error
    fresh = state / f"{MODEL_FILE}.new"
    try:
        # Whatever lies there, a link too, is replaced and not written through.
        fresh.unlink(missing_ok=True)
        if model:
            with fresh.open("x", encoding="utf-8") as file:
                file.write(f"{model}\n")
            fresh.replace(state / MODEL_FILE)
        else:
            (state / MODEL_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"the model cannot be kept: {error.strerror}", "make room in /state") from error
