"""The page of replication's state, served over HTTP: as JSON, as a page, and as metrics."""

from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from events.locks import SYNC_KEY
from ops.settings import ReplicationType, Settings
from ops.wiring import Runtime
from tests.waiting import wait_for
from workers.replication.status.adapters import Patient, UpstreamError, newest_upstream
from workers.replication.sync.core import parsed_base

EVIL = "<script>alert('no route')</script> to postgresql://mb:s3cret@db/mb?token=t0ken &amp; <b>"
TOKEN = "s3cretS3cretS3cretS3cretS3cretS3cretS3cr"
VOID = {"meta", "link", "br"}


@pytest.fixture
def mode() -> ReplicationType:
    return "RT_MIRROR"


@pytest.fixture
def settings(settings: Settings, mode: ReplicationType, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings.model_copy(
        update={
            "replication_type": mode,
            "mbevents_home": tmp_path_factory.mktemp("home"),
            # Nobody listens there.
            "replication_base_url": "http://127.0.0.1:1/api/musicbrainz",
            "replication_access_token": SecretStr(TOKEN),
        }
    )


@pytest.fixture
def address(port: int) -> str:
    return f"http://127.0.0.1:{port}/replication-status"


class Page(HTMLParser):
    """What a browser makes of it: elements, text by element, and addresses. Fails where elements are not closed."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(answer.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    @property
    def facts(self) -> dict[str, str]:
        return dict(zip(self.texts["dt"], self.texts["dd"], strict=True))


def page(address: str) -> Page:
    answer = httpx.get(address, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer)


def replicated(runtime: Runtime, *, error: str | None = None) -> None:
    """A mirror at packet 100, an hour old, with two passes."""
    with runtime.connection() as connection:
        connection.execute(
            "UPDATE musicbrainz.replication_control SET current_replication_sequence = 100, "
            "last_replication_date = now() - interval '1 hour'"
        )
        connection.execute(
            "INSERT INTO mbevents.sync_run (started_at, ended_at, to_sequence, packets, changes, outcome, error) "
            "VALUES (now() - interval '9 min', now() - interval '8 min', 100, 3, 1200, 'applied', NULL), "
            "(now() - interval '2 min', now() - interval '1 min', 100, 0, 0, %s, %s)",
            ("failed" if error else "applied", error),
        )


def test_programs_get_json(address: str, runtime: Runtime) -> None:
    replicated(runtime)
    answer = httpx.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept"
    told = answer.json()
    assert (told["mode"], told["schema_sequence"], told["replication_sequence"]) == ("RT_MIRROR", 31, 100)
    assert 3600 <= told["packet_seconds"] < 3700
    mirror = told["mirror"]
    assert (mirror["lag_packets"], mirror["lag_seconds"], mirror["catch_up_seconds"]) == (None, None, None)
    assert mirror["upstream_problem"] == "127.0.0.1:1 does not answer: Connection refused"
    assert mirror["rate"] == {"packets_per_second": 0.05, "changes_per_second": 20}
    assert (mirror["running"], mirror["paused"], mirror["error"]) == (False, False, None)
    assert [run["outcome"] for run in mirror["runs"]] == ["applied", "applied"]
    assert told["next_run_at"] is None
    assert httpx.head(address).status_code == 200


def test_people_get_a_page_that_says_the_same(address: str, runtime: Runtime) -> None:
    replicated(runtime)
    with psycopg.connect(runtime.database_url) as syncer:
        syncer.execute("SELECT pg_advisory_lock(%s)", (SYNC_KEY,))
        found = page(address)
    assert found.texts["h1"] == ["Replication"]
    assert found.facts["replication sequence"] == "100"
    assert found.facts["last packet made"].endswith("UTC, 60 min ago")
    assert found.facts["upstream's newest packet"] == "unknown: 127.0.0.1:1 does not answer: Connection refused"
    assert found.facts["rate"] == "0.05 packets/s, 20 changes/s"
    assert found.facts["running"] == "yes"
    assert found.facts["next run"].startswith("about ")
    assert found.facts["next run"].endswith(", if REPLICATION_SYNC_INTERVAL is the same there as here")
    assert found.texts["strong"] == ["OK"]
    assert found.elements.count("tr") == 3


def test_the_page_needs_nothing_from_elsewhere_and_its_policy_says_so(address: str, runtime: Runtime) -> None:
    replicated(runtime)
    answer = httpx.get(address, headers={"Accept": "text/html"})
    found = Page(answer)
    assert not {"script", "link", "img", "iframe", "form", "object", "embed"} & set(found.elements)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "style", "action")]
    assert [value for name, value in found.attributes if name == "href"] == [""]
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    policy = answer.headers["content-security-policy"].split("; ")
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert ("name", "viewport") in found.attributes
    assert ("lang", "en") in found.attributes


def test_what_an_error_quotes_is_text_and_without_secrets(address: str, runtime: Runtime) -> None:
    replicated(runtime, error=EVIL)
    answer = httpx.get(address, headers={"Accept": "text/html"})
    found = Page(answer)
    assert {"script", "b"}.isdisjoint(found.elements)
    told = "<script>alert('no route')</script> to postgresql://mb:***@db/mb?token=*** &amp; <b>"
    assert any(told in text for text in found.texts["td"])
    assert any(told in text for text in found.texts["p"])
    assert found.texts["strong"] == ["WARNING"]
    assert httpx.get(address).json()["mirror"]["error"] == told
    for text in (answer.text, httpx.get(address).text, str(answer.headers)):
        assert not [secret for secret in ("s3cret", "t0ken", TOKEN) if secret in text]


def test_without_a_database_it_is_said_in_words(address: str, runtime: Runtime) -> None:
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE musicbrainz.replication_control RENAME COLUMN last_replication_date TO gone")
    answer = httpx.get(address)
    assert (answer.status_code, answer.json()) == (503, {"problem": "The database does not answer as it should."})
    answer = httpx.get(address, headers={"Accept": "text/html"})
    assert (answer.status_code, Page(answer).texts["strong"]) == (503, ["UNKNOWN"])


@pytest.mark.parametrize("mode", ["RT_MASTER"])
def test_on_a_master_it_says_what_is_out_and_what_waits(address: str, runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
        connection.execute("UPDATE musicbrainz.artist SET comment = 'x' WHERE id = 1")
    found = page(address).facts
    assert found["last packet published"] == "none yet"
    assert int(found["changes in no packet yet"]) > 0
    assert found["last export's error"] == "none"
    assert found["packets in the store"] == "0"
    runtime.exporter.export()
    told = httpx.get(address).json()
    assert (told["replication_sequence"], told["master"]["published"]) == (1, 1)
    assert told["master"]["pending_changes"] == 0
    assert "mirror" not in told


@pytest.mark.parametrize("mode", ["RT_MASTER"])
def test_a_mirror_learns_from_our_feed_what_the_newest_packet_is(port: int, runtime: Runtime) -> None:
    base, token = parsed_base(f"http://127.0.0.1:{port}/api/musicbrainz"), runtime.feed_tokens.create("mirror")
    with pytest.raises(UpstreamError, match="has no packets"):
        newest_upstream(base, token)
    with runtime.connection() as connection:
        connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 6")
        connection.execute("UPDATE musicbrainz.artist SET comment = 'x' WHERE id = 1")
    runtime.exporter.export()
    wait_for(lambda: Patient(lambda: newest_upstream(base, token)).get().value == 7)
    with pytest.raises(UpstreamError, match="refuses the access token"):
        newest_upstream(base, TOKEN)


@pytest.mark.parametrize("mode", ["RT_MASTER"])
def test_a_failed_export_is_told_until_one_succeeds(address: str, runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
        connection.execute("UPDATE musicbrainz.artist SET comment = 'x' WHERE id = 1")
        connection.execute("ALTER TABLE mbevents.packet RENAME TO elsewhere")
    with pytest.raises(psycopg.Error):
        runtime.exporter.export()
    with runtime.connection() as connection:
        connection.execute("ALTER TABLE mbevents.elsewhere RENAME TO packet")
    assert "does not exist" in httpx.get(address).json()["master"]["error"]
    runtime.exporter.export()
    assert httpx.get(address).json()["master"]["error"] is None


@pytest.mark.parametrize("mode", ["RT_STANDALONE"])
def test_where_nothing_is_replicated_it_says_so(address: str) -> None:
    found = page(address)
    assert found.facts["replication"] == "none: this database neither sends packets nor takes them"
    assert found.texts["strong"] == ["UNKNOWN"]
    assert {"mirror", "master"}.isdisjoint(httpx.get(address).json())


def samples(port: int) -> dict[str, float]:
    body = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    assert TOKEN not in body
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name.startswith("mbevents_replication_")
    }


def test_a_mirrors_metrics_are_served(port: int, runtime: Runtime) -> None:
    replicated(runtime, error="no route")
    with runtime.connection() as connection:
        connection.execute("UPDATE mbevents.replication_state SET paused = true")
    found = samples(port)
    assert found["mbevents_replication_sequence"] == 100
    assert 3600 <= found["mbevents_replication_packet_age_seconds"] < 3700
    assert found["mbevents_replication_paused"] == 1
    assert found["mbevents_replication_runs_totalapplied"] == 1
    assert found["mbevents_replication_runs_totalfailed"] == 1
    assert found["mbevents_replication_applied_changes_total"] == 1200
    assert found["mbevents_replication_last_success_timestamp_seconds"] > 1.7e9
    # Not known is not zero.
    assert not [name for name in found if "lag" in name or "pending" in name]


@pytest.mark.parametrize("mode", ["RT_MASTER"])
def test_a_masters_metrics_are_served(port: int, runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
        connection.execute("UPDATE musicbrainz.artist SET comment = 'x' WHERE id = 1")
    found = samples(port)
    assert found["mbevents_replication_pending_changes"] > 0
    assert 0 <= found["mbevents_replication_pending_age_seconds"] < 60
    assert found["mbevents_replication_sequence"] == 0
    assert "mbevents_replication_paused" not in found


@pytest.mark.parametrize("mode", ["RT_STANDALONE"])
def test_a_standalone_database_has_no_such_metrics(port: int) -> None:
    assert samples(port) == {}
