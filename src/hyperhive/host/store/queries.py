"""SQL by its name: every statement of the daemon stands in `sql/*.sql` under a line `-- name: <name>`."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


def load_queries(folder: Path = _FOLDER) -> dict[str, str]:
    """All named statements of `folder`. Raises ValueError for text without a name and for a name used twice."""
    queries: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        head, *blocks = file.read_text(encoding="utf-8").split("-- name: ")
        if head.strip():
            raise ValueError(f"{file.name} begins with a statement that has no name")
        for block in blocks:
            name, _, statement = block.partition("\n")
            if name.strip() in queries:
                raise ValueError(f"{file.name}: the name {name.strip()} is used twice")
            queries[name.strip()] = statement.strip()
    return queries


QUERIES = load_queries()
