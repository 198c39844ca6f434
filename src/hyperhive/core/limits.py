"""What a container may use of the machine: bounds that the kernel keeps, where the driver can set them."""

from dataclasses import dataclass
from typing import Final

from hyperhive.core.config_values import parse_memory

# As the kernel and systemd read them: K is 1024.
_UNITS: Final = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


@dataclass(frozen=True, slots=True)
class Limits:
    """`cpus` counts cores, `tasks` processes and threads together. None: no limit."""

    memory_bytes: int | None = None
    cpus: float | None = None
    tasks: int | None = None


UNLIMITED: Final = Limits()


def parse_default_limits(memory: str, cpus: float, tasks: int, total_bytes: int) -> Limits:
    """What counts where a config says nothing: `memory` is an amount, a part of `total_bytes` such as 80 %, or empty.

    0 and an empty text are no limit. Raises ValueError for what is no amount.
    """
    return Limits(_parse_part(memory, total_bytes) if memory else None, cpus or None, tasks or None)


def _parse_part(text: str, total_bytes: int) -> int:
    if text.endswith("%") and text[:-1].isascii() and text[:-1].isdigit() and 1 <= int(text[:-1]) <= 100:
        return total_bytes * int(text[:-1]) // 100
    return parse_memory_bytes(text)


def parse_memory_bytes(text: str) -> int:
    """The bytes that an amount such as `512M` stands for. Raises ValueError for what is no amount."""
    parse_memory(text)
    return int(text[:-1]) * _UNITS[text[-1]]
