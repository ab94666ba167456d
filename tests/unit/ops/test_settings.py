from pathlib import Path
from typing import Any

import pytest

from events.errors import UsageError
from ops import loading
from ops.settings import RedisRole, Settings
from ops.settings_page import settings_page

NOWHERE = Path("/nonexistent/.env")
SECRETS = {
    "DATABASE_URL": "postgresql://mb:s3cret@db/musicbrainz",
    "REDIS_SERVER": "redis://:s3cret@cache:6380",
    "REDIS_ENTITIES_URL": "redis://:s3cret@cache/3",
    "REDIS_SESSIONS_URL": "redis://:s3cret@cache/4",
    "REDIS_PUBSUB_URL": "redis://:s3cret@cache/5",
    "BROKER_URL": "amqp://mb:s3cret@rabbit//",
    "SENTRY_DSN": "https://s3cret@sentry.example/1",
}


def load(environ: dict[str, str], env_file: Path = NOWHERE) -> loading.Loaded:
    return loading.load(environ, env_file)


def test_nothing_set_means_embedded_servers() -> None:
    found = load({}).settings
    assert found.needs_embedded_postgres
    assert found.needs_embedded_redis
    assert found.redis_url(RedisRole.BROKER) is None


def test_the_environment_wins_over_the_file_and_the_origin_is_told(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("WORKER_THREADS=3\nexport JOB_MAX_RETRIES='2'\nOF_SOMEBODY_ELSE=1\n")
    found = load({"WORKER_THREADS": "4"}, env_file)
    assert (found.settings.worker_threads, found.settings.job_max_retries) == (4, 2)
    origins = {each.name: each.origin for each in found.shown()}
    assert origins["WORKER_THREADS"] == "environment"
    assert origins["JOB_MAX_RETRIES"] == str(env_file)
    assert origins["LOG_LEVEL"] == "default"


def test_an_empty_value_is_none() -> None:
    assert load({"DATABASE_URL": "", "WORKER_THREADS": ""}).settings == Settings()


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://mb:s3cret@db/musicbrainz\n")
    found = load({"DATABASE_URL_FILE": str(secret)})
    assert found.settings.database_url is not None
    assert found.settings.database_url.get_secret_value() == "postgresql://mb:s3cret@db/musicbrainz"
    assert found.shown()[0].origin == "DATABASE_URL_FILE (environment)"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read: FileNotFoundError"), ("\n", "is empty"), ("\udcff", "UnicodeDecode")]
)
def test_a_secret_file_that_is_no_use_is_told(tmp_path: Path, content: str | None, told: str) -> None:
    secret = tmp_path / "url"
    if content is not None:
        secret.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=rf"DATABASE_URL_FILE names .*{told}"):
        load({"DATABASE_URL_FILE": str(secret)})


def test_a_value_and_a_file_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="SENTRY_DSN and SENTRY_DSN_FILE are both set"):
        load({"SENTRY_DSN": "https://x@h/1", "SENTRY_DSN_FILE": "/x"})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WORKER_THREADS", "many", "WORKER_THREADS 'many' is wrong .from environment.: input should be a valid int"),
        ("WORKER_THREADS", "0", "greater than or equal to 1"),
        ("REPLICATION_TYPE", "MASTER", "'RT_MASTER', 'RT_MIRROR' or 'RT_STANDALONE'"),
        ("REDIS_NAMESPACE", "a b", "REDIS_NAMESPACE 'a b'"),
        ("METRICS_LISTEN", "9100", "must be host:port"),
        ("METRICS_LISTEN", "::1:9100", "in brackets"),
        ("WEB_LISTEN", "0.0.0.0:80", "must be a loopback address"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL 'loud'"),
        ("DATABASE_URL", "postgresql+psycopg://u:s3cret@h/db", "without a driver's name"),
        ("DATABASE_URL", "postgresql://u:s3cret@h", "names no database"),
        ("DATABASE_URL", "s3cret and nonsense", "cannot be read"),
        ("REDIS_SERVER", "http://:s3cret@h", "must be host:port"),
        ("REDIS_SERVER", "redis://:s3cret@h:port", "its port is not a number"),
        ("REDIS_SERVER", "redis://:s3cret@h/3", "must not choose a database"),
        ("REDIS_SERVER", "unix:///run/s3cret?db=2", "must not choose a database"),
        ("REDIS_SERVER", "redis://:s3cret@h?db=2", "must not choose a database"),
        ("REDIS_SERVER", "redis://:s3cret@h?s3cret=5", "option .* that is none of client_name, db"),
        ("REDIS_SERVER", "unix://s3cret", "absolute path"),
        ("REDIS_SERVER", "redis://", "host is missing"),
        ("BROKER_URL", "s3cret", "BROKER_URL is wrong .*redis://, rediss://, unix://, amqp://, amqps://"),
        ("SENTRY_DSN", "s3cret", "SENTRY_DSN is wrong"),
        ("REDIS_PUBSUB_URL", "amqp://s3cret", "REDIS_PUBSUB_URL is wrong"),
        ("REDIS_PUBSUB_URL", "redis://:s3cret@h/five", "its database is not a number: write redis://host:port/5"),
        ("REDIS_PUBSUB_URL", "redis://:s3cret@h/-1", "its database is not a number"),
        ("REDIS_PUBSUB_URL", "redis://:s3cret@h/1/2", "its database is not a number"),
        ("REDIS_ENTITIES_URL", "unix:///run/s3cret?db=x", "its database is not a number"),
        ("REDIS_ENTITIES_URL", "unix://s3cret", "absolute path"),
        ("REDIS_ENTITIES_URL", "redis://:s3cret@h/0?max_connections=5", "option .* that is none of client_name, db"),
        ("REDIS_ENTITIES_URL", "redis://:s3cret@h/0?ssl_ca_certs=ca.pem", "option .* that is none of"),
        ("REDIS_ENTITIES_URL", "redis://:s3cret@a..b/0", "its host is no name"),
        ("REDIS_SESSIONS_URL", "rediss://:s3cret@/1", "host is missing"),
        ("REDIS_SESSIONS_URL", "redis://:s3cret@h:port/1", "its port is not a number"),
        ("BROKER_URL", "redis://:s3cret@h/six", "its database is not a number"),
        ("BROKER_URL", "amqp://u:s3cret@h:port", "its port is not a number"),
        ("REDIS_ENTITY_URL", "redis://:s3cret@h/0", "from environment. is no setting: rename it to REDIS_ENTITIES_URL"),
        ("REDIS_SESSION_URL", "redis://:s3cret@h/1", "rename it to REDIS_SESSIONS_URL, or unset it"),
        ("REDIS_PUBSUB", "redis://:s3cret@h/5", "rename it to REDIS_PUBSUB_URL"),
        ("REDIS_PUB_SUB_URL", "redis://:s3cret@h/5", "rename it to REDIS_PUBSUB_URL"),
        ("REDIS_PUBSUB_URI", "redis://:s3cret@h/5", "rename it to REDIS_PUBSUB_URL"),
        ("REDIS_BROKER_URL", "redis://:s3cret@h/6", "rename it to BROKER_URL"),
        ("REDIS_SERVERS", "s3cret", "rename it to REDIS_SERVER"),
        ("REDIS_NAMESPCE", "MB", "rename it to REDIS_NAMESPACE"),
        ("REDIS_SESSION_URL_FILE", "/s3cret", "REDIS_SESSION_URL_FILE .* rename it to REDIS_SESSIONS_URL"),
    ],
)
def test_a_wrong_value_names_its_variable_and_no_secret(name: str, value: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        load({name: value})
    assert name in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "name",
    [
        "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB", "REDIS_CACHE_URL", "REDIS_SERVICE_HOST",
        "REDIS_SERVICE_PORT", "REDIS_SERVICE_PORT_REDIS", "REDIS_PORT_6379_TCP_ADDR", "REDIS_NAME",
    ],
)  # fmt: skip
def test_other_programs_may_have_names_with_redis_of_their_own(name: str) -> None:
    assert load({name: "redis://elsewhere/x"}).settings == Settings()


def test_an_empty_misspelt_name_is_none_and_one_in_the_file_is_told_with_it(tmp_path: Path) -> None:
    assert load({"REDIS_SESSION_URL": ""}).settings == Settings()
    env_file = tmp_path / ".env"
    env_file.write_text("REDIS_SESSION_URL=redis://h/1\n")
    with pytest.raises(UsageError, match=rf"REDIS_SESSION_URL \(from {env_file}\)"):
        load({}, env_file)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://h/", "redis://h/3", "redis://h?db=3", "unix:///a", "unix:///a?db=3", "rediss://h:1/15",
        "redis://[::1]:1/3?client_name=mbevents", "rediss://my_redis/3?ssl_ca_certs=ca.pem&protocol=2",
    ],
)  # fmt: skip
def test_a_roles_url_may_choose_its_database(url: str) -> None:
    assert load({"REDIS_SERVER": "h", "REDIS_PUBSUB_URL": url}).settings.redis_url(RedisRole.PUBSUB) == url


def test_packets_are_in_our_home_unless_it_is_said_where() -> None:
    assert load({"MBEVENTS_HOME": "/srv/our home"}).settings.packet_store_url == "file:///srv/our%20home/packets"
    assert load({"PACKET_STORE": "s3://bucket/x"}).settings.packet_store_url == "s3://bucket/x"


def test_credentials_that_do_not_belong_into_a_value_are_not_repeated() -> None:
    with pytest.raises(UsageError, match=r"PACKET_STORE .*credentials for S3 come from the AWS settings") as refused:
        load({"PACKET_STORE": "s3://key:s3cret@bucket"})
    assert "s3cret" not in str(refused.value)


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        load({"WORKER_THREADS": "x", "JOB_MAX_RETRIES": "y"})
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["WORKER_THREADS", "JOB_MAX_RETRIES"]


def test_no_secret_is_shown_or_printed() -> None:
    found = load(SECRETS)
    told = repr(found.settings) + str(found.settings) + repr(found.shown())
    assert "s3cret" not in told
    values = {each.name: each.value for each in found.shown()}
    assert values["DATABASE_URL"] == "postgresql://mb:***@db/musicbrainz"
    assert values["BROKER_URL"] == "amqp://mb:***@rabbit//"
    assert values["SENTRY_DSN"] == "https://***@sentry.example/1"


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("cache", "redis://cache:6379/6"),
        ("cache:7000", "redis://cache:7000/6"),
        ("[::1]:7000", "redis://[::1]:7000/6"),
        ("redis://cache", "redis://cache:6379/6"),
        ("redis://u:p%40@cache:1/0", "redis://u:p%40@cache:1/6"),
        ("rediss://cache:1?ssl_ca_certs=/a", "rediss://cache:1/6?ssl_ca_certs=/a"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=6"),
    ],
)
def test_each_role_has_its_database_of_the_one_server(server: str, url: str) -> None:
    assert load({"REDIS_SERVER": server}).settings.redis_url(RedisRole.BROKER) == url


def test_a_role_with_a_url_of_its_own_is_served_from_there() -> None:
    found = load(SECRETS).settings
    assert found.redis_url(RedisRole.BROKER) == "amqp://mb:s3cret@rabbit//"
    assert found.redis_url(RedisRole.ENTITIES) == "redis://:s3cret@cache/3"
    assert not found.needs_embedded_redis


def test_a_configured_database_with_half_of_its_redis_is_refused() -> None:
    with pytest.raises(UsageError, match="REDIS_SERVER: it is needed as long as these are not set: REDIS_SESSIONS_URL"):
        load({"DATABASE_URL": "postgresql://h/mb", "BROKER_URL": "amqp://r", "REDIS_ENTITIES_URL": "redis://h/0"})


def test_settings_made_in_code_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_THREADS", "77")
    assert Settings().worker_threads == 8


def test_every_setting_is_described_and_on_the_page() -> None:
    page = settings_page()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"| `{name.upper()}` |" in page


def test_the_committed_page_is_the_generated_one() -> None:
    committed = Path(loading.__file__).parent / "docs" / "settings.md"
    assert committed.read_text(encoding="utf-8") == settings_page(), "run: make generate"


def test_settings_are_frozen() -> None:
    found: Any = Settings()
    with pytest.raises(ValueError, match="frozen"):
        found.worker_threads = 3


def test_numbers_are_shown_as_they_are_set() -> None:
    values = {each.name: repr(each.value) for each in load({"HTTP_TIMEOUT_SECONDS": "2.5"}).shown()}
    assert (values["SESSION_SECONDS"], values["HTTP_TIMEOUT_SECONDS"]) == ("36000", "2.5")


def test_the_page_tells_which_numbers_a_setting_takes() -> None:
    page = settings_page()
    assert "| `WIKIMEDIA_RATE` | `1.0` | number above 0, at most 50 |" in page
    assert "| `WEB_RATE_LIMIT` | `20` | number, 0 to 100000 |" in page
