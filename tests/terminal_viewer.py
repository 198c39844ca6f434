"""A viewer of a terminal that remembers what it was told."""


class Viewer:
    def __init__(self) -> None:
        self.shown = b""
        self.sizes: list[tuple[int, int]] = []
        self.replays: list[int] = []
        self.is_dropped = False
        self.endings: list[int | None] = []

    def output(self, data: bytes) -> None:
        self.shown += data

    def replayed(self, count: int) -> None:
        self.replays.append(count)

    def resized(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    def dropped(self) -> None:
        self.is_dropped = True

    def ended(self, status: int | None) -> None:
        self.endings.append(status)
