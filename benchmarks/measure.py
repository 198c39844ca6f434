"""What a measurement gives: rounds of figures, medians of the ratios within each round, rows of a table."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Context:
    """What every benchmark is given: a new folder on the disk to be measured, and how thorough to be."""

    folder: Path
    quick: bool

    def choose(self, thorough: int, quick: int) -> int:
        return quick if self.quick else thorough


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is ours to `against`'s; `goal` says what is aimed at, empty if nothing is."""

    what: str
    ours: str
    against: str = ""
    ratio: str = ""
    goal: str = ""


Benchmark = Callable[[Context], list[Row]]


class Rounds:
    """Figures by name, one for each round. Contenders take turns within a round: a noisy moment meets all of them."""

    def __init__(self) -> None:
        self._figures: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, figure: float) -> None:
        self._figures[name].append(figure)

    def has(self, name: str) -> bool:
        return name in self._figures

    def median(self, name: str) -> float:
        return median(self._figures[name])

    def render_ratio(self, ours: str, *theirs: str) -> str:
        """The median of the rounds' ratios of `ours` to the sum of `theirs`, with the least and the greatest."""
        sums = [sum(figures) for figures in zip(*(self._figures[name] for name in theirs), strict=True)]
        ratios = [mine / other for mine, other in zip(self._figures[ours], sums, strict=True)]
        return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest sample; `samples` is not empty."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def render_table(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    header = ("what", "hive", "against", "ratio", "goal")
    lines = [header, ("---",) * len(header), *((r.what, r.ours, r.against, r.ratio, r.goal) for r in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
