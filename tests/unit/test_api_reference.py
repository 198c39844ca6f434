"""The reference page of the API is made from the code, and leaves nothing out."""

import subprocess
from pathlib import Path

from hyperhive.host.api.reference import describe_api, render_reference

ROOT = Path(__file__).parents[2]


def test_every_route_and_every_body_is_on_the_page() -> None:
    document = describe_api()
    text = render_reference(document)
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`" in text
    for name in document["components"]["schemas"]:
        assert f"### {name}\n" in text or name in {"HTTPValidationError", "ValidationError"}


def test_the_script_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "api.md"
    subprocess.run([ROOT / "scripts/api-reference", page], check=True)
    assert page.read_text() == render_reference(describe_api())
