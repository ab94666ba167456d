import threading

import pytest
from fastapi import FastAPI

from ops.web import replication, threads
from tests.browsing import Browser
from workers.replication.status.core import Status


class Hanging:
    def __init__(self) -> None:
        self.let_go = threading.Event()

    def read(self) -> Status:
        self.let_go.wait(10)
        raise AssertionError


@pytest.mark.parametrize(("accept", "media_type"), [("text/html", "text/html"), ("*/*", "application/json")])
def test_that_it_takes_too_long_is_told_as_it_was_asked_for(
    accept: str, media_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LONGEST_SECONDS", 0.05)
    app, reader = FastAPI(), Hanging()
    replication.register(app, reader)
    answer = Browser(app).get(replication.PATH, headers={"Accept": accept})
    reader.let_go.set()
    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith(media_type)
    assert "A server did not answer within" in answer.text


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/HTML;charset=utf-8", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json,text/html", False),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("application/json, text/html; q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=high", True),
        (";;,,q=", False),
    ],
)
def test_who_likes_html_better_gets_the_page(accept: str, html: bool) -> None:
    assert replication.wants_page(accept) is html
