import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_that_a_page_names_is_there() -> None:
    named = {
        (page.name, file, name)
        for page in (ROOT / "ops/docs").rglob("*.md")
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text())
    }
    assert len(named) > 100
    missing = [each for each in named if not _is_there(ROOT / each[1], each[2])]
    assert missing == []


def _is_there(file: Path, name: str) -> bool:
    if not file.is_file():
        return False
    return not name or any(
        isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(file.read_text()).body
    )
