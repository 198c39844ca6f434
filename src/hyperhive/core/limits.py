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


def parse_memory_bytes(text: str) -> int:
    """The bytes that an amount such as `512M` stands for. Raises ValueError for what is no amount."""
    parse_memory(text)
    return int(text[:-1]) * _UNITS[text[-1]]
