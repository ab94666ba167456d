import ast
import re
from pathlib import Path

from events.catalogue import ACTORS

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


def test_who_names_queues_to_workers_is_told_of_all() -> None:
    page = (ROOT / "ops/docs/operating.md").read_text()
    table = page.partition("| Queue |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {actor.queue for actor in ACTORS.values()}


def _is_there(file: Path, name: str) -> bool:
    if not file.is_file():
        return False
    return not name or any(
        isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(file.read_text()).body
    )
