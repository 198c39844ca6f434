"""What a copy, an archive or an import has left, for whoever reads it later."""

from dataclasses import dataclass, field

from hyperhive.core.text import cut_text, render_safe_line

_SHOWN_LIMIT_CHARS = 200


@dataclass(slots=True)
class LeftOut:
    """How many, and the first `limit` of them: `named` has each path, safe to show and cut, with the reason."""

    limit: int = 100
    count: int = 0
    named: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def add(self, path: bytes, reason: str) -> None:
        self.count += 1
        if len(self.named) < self.limit:
            shown = render_safe_line(path.decode("utf-8", "backslashreplace"))
            self.named.append((cut_text(shown, _SHOWN_LIMIT_CHARS), reason))
