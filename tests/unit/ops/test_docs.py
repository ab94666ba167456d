"""The documentation is of this code: links lead somewhere, tests that it names are there, generated pages are fresh."""

import re
from pathlib import Path

import pytest

from events.catalogue import EVENT_TYPES
from ops.events_page import events_page
from ops.generate import ROOT, Generated, pages

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "ops/docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_are_there(page: Path) -> None:
    for path, name in TEST.findall(page.read_text()):
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.mark.parametrize("wanted", [*pages()], ids=lambda wanted: wanted.path)
def test_a_generated_page_is_what_the_code_says(wanted: Generated) -> None:
    assert (ROOT / wanted.path).read_bytes() == wanted.content, "run: make generate"


def test_every_event_has_its_place_on_the_page_of_events() -> None:
    page = events_page()
    for name, event in EVENT_TYPES.items():
        assert f"\n## {name}\n" in page
        for field in event.payload.model_fields:
            assert f"| `{field}` |" in page
    assert "`artist/<MBID>`" in page
