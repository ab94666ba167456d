"""Every setting, once: environment variables, `NAME_FILE` for secrets, and `.env`."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from events.errors import UsageError
from ops.urls import check_role_url, database_name, hidden, is_loopback, numbered, parsed_listen, redis_base
from workers.replication.store.core import parsed

ReplicationType = Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
# REDIS_SESSION_URL and REDIS_ENTITY_URL are misspelt; REDIS_SERVICE_HOST and REDIS_CACHE_URL are somebody else's.
_LIKE = 0.85


class RedisRole(IntEnum):
    """What Redis is used for; the number is the role's database where all of them share one server."""

    ENTITIES = 0
    SESSIONS = 1
    PUBSUB = 5
    BROKER = 6


class Settings(BaseSettings):
    """What an operator can set; `mbevents config` prints what is in force, secrets hidden."""

    # Errors must never quote what was given: it may be a secret.
    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL with the MusicBrainz database. Unset: a private server starts from the wheel.",
    )
    replication_type: ReplicationType = Field(
        default="RT_STANDALONE",
        description="RT_MASTER keeps captured rows for the export, RT_MIRROR captures nothing, RT_STANDALONE trims.",
    )
    redis_server: SecretStr | None = Field(
        default=None,
        description="Redis as host:port or URL, for all roles. Unset: a private server starts from the wheel.",
    )
    redis_namespace: str = Field(
        default="MB",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="Prefix of every key and channel (letters, digits, _ . -).",
    )
    redis_entities_url: SecretStr | None = Field(
        default=None, description="Redis of the entity cache (default: database 0 of REDIS_SERVER)."
    )
    redis_sessions_url: SecretStr | None = Field(
        default=None,
        description="Redis of MusicBrainz Server's store, with its invalidation flags (default: database 1).",
    )
    redis_pubsub_url: SecretStr | None = Field(default=None, description="Redis of the channels (default: database 5).")
    broker_url: SecretStr | None = Field(
        default=None, description="Queues: redis://… (default: database 6 of REDIS_SERVER) or amqp://… for RabbitMQ."
    )
    event_source: str | None = Field(
        default=None,
        min_length=1,
        description="CloudEvents source, a URI that names this database (default: from its name).",
    )
    event_retention_days: int = Field(default=7, ge=1, le=366, description="Days that events stay in the log.")
    entity_cache_seconds: int = Field(default=3600, ge=1, description="Time to live of a cached entity.")
    cache_fanout_limit: int = Field(
        default=10_000,
        ge=0,
        description="Most dependants of one task's events whose cache entries are invalidated one by one.",
    )
    worker_threads: int = Field(default=8, ge=1, le=256, description="Threads of one worker process.")
    job_max_retries: int = Field(default=5, ge=0, description="Tries after the first before a job is a dead letter.")
    metrics_listen: str | None = Field(
        default=None,
        description="host:port where bridge and workers serve /metrics, /healthz and /readyz. Unset: they do not. "
        "Of several worker processes each takes the next port.",
    )
    web_listen: str = Field(
        default="127.0.0.1:8000",
        description="host:port of `mbevents web`; it has no sign-in yet, so only a loopback address is taken.",
    )
    packet_store: str | None = Field(
        default=None,
        description="Where packets are: file:///folder or s3://bucket/prefix (where S3 is, and as whom, is said by the "
        "usual AWS settings). Unset: the folder `packets` in MBEVENTS_HOME.",
    )
    replication_export_interval: int = Field(
        default=3600, ge=1, le=7 * 86_400, description="Seconds from one packet of a master to the next."
    )
    gpg_sign_key: str | None = Field(
        default=None,
        min_length=1,
        description="Key (id, fingerprint or address in GNUPGHOME's keyring, without a passphrase) that signs packets. "
        "Unset: they are not signed.",
    )
    packet_retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Days that a packet stays in the store at least. Unset: as long as the count says.",
    )
    packet_retention_count: int | None = Field(
        default=None,
        ge=1,
        description="Newest packets that stay in the store at least. Unset: as the days say; neither set: all stay.",
    )
    replication_digest_interval: int = Field(
        default=0,
        ge=0,
        description="On a master: after every so many packets, digests of all tables are published beside the packet "
        "(digest-N.json), which reads the whole database. 0: never.",
    )
    replication_master_url: SecretStr | None = Field(
        default=None,
        description="On a mirror: the master's PostgreSQL, if it can be reached, for `replication verify` to find and "
        "repair the rows that differ.",
    )
    sentry_dsn: SecretStr | None = Field(default=None, description="Sentry project for errors. Unset: nothing is sent.")
    sentry_environment: str = Field(default="production", description="Name of this installation in Sentry.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Log lines as JSON or for reading (auto: for reading on a terminal)."
    )
    log_level: LogLevel = Field(default="INFO", description="Least severity logged.")
    mbevents_home: Path = Field(default=Path(".mbevents"), description="Folder of the embedded servers' data.")

    @field_validator("database_url", "replication_master_url")
    @classmethod
    def _database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            database_name(value.get_secret_value())
        return value

    @field_validator("redis_server")
    @classmethod
    def _server(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            redis_base(value.get_secret_value())
        return value

    @field_validator("redis_entities_url", "redis_sessions_url", "redis_pubsub_url")
    @classmethod
    def _role(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_role_url(value.get_secret_value(), "redis", "rediss", "unix")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_role_url(value.get_secret_value(), "redis", "rediss", "unix", "amqp", "amqps")
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _sentry(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("it must be a URL that begins with http://, https://")
        return value

    @field_validator("packet_store")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        if value is not None:
            parsed(value)
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _listen(cls, value: str | None) -> str | None:
        if value is not None:
            parsed_listen(value)
        return value

    @field_validator("web_listen")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if not is_loopback(parsed_listen(value)[0]):
            raise ValueError(
                "it must be a loopback address, for there is no sign-in yet; put a proxy that asks for one before it"
            )
        return value

    @model_validator(mode="after")
    def _embedded_whole(self) -> Self:
        roles = {"REDIS_ENTITIES_URL": self.redis_entities_url, "REDIS_SESSIONS_URL": self.redis_sessions_url}
        roles |= {"REDIS_PUBSUB_URL": self.redis_pubsub_url, "BROKER_URL": self.broker_url}
        if self.redis_server is None and self.database_url is not None:
            missing = [name for name, value in roles.items() if value is None]
            if missing and len(missing) < len(roles):
                # Half of the roles on a private server that ends with its last user would lose work without a word.
                raise ValueError(f"REDIS_SERVER: it is needed as long as these are not set: {', '.join(missing)}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is pydantic's)
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only `load` reads the environment: settings made in code mean what they say."""
        return (init_settings,)

    def redis_url(self, role: RedisRole) -> str | None:
        """Where a role's Redis is; None when it is the embedded one. The broker's may be `amqp://`."""
        own = {
            RedisRole.ENTITIES: self.redis_entities_url,
            RedisRole.SESSIONS: self.redis_sessions_url,
            RedisRole.PUBSUB: self.redis_pubsub_url,
            RedisRole.BROKER: self.broker_url,
        }[role]
        if own is not None:
            return own.get_secret_value()
        if self.redis_server is None:
            return None
        return numbered(redis_base(self.redis_server.get_secret_value()), role)

    @property
    def packet_store_url(self) -> str:
        return self.packet_store or (self.mbevents_home.absolute() / "packets").as_uri()

    @property
    def needs_embedded_postgres(self) -> bool:
        return self.database_url is None

    @property
    def needs_embedded_redis(self) -> bool:
        return any(self.redis_url(role) is None for role in RedisRole)


class Shown(BaseModel, frozen=True):
    """One setting for people: its value without secrets, and where it comes from."""

    name: str
    value: str | int | None
    origin: str
    description: str


class Loaded:
    """Settings, and for each that was given where it was found."""

    def __init__(self, settings: Settings, origins: Mapping[str, str]) -> None:
        self.settings = settings
        self._origins = origins

    def shown(self) -> list[Shown]:
        """In the order of declaration."""
        return [
            Shown(
                name=name.upper(),
                value=_shown(getattr(self.settings, name)),
                origin=self._origins.get(name, "default"),
                description=field.description or "",
            )
            for name, field in Settings.model_fields.items()
        ]


def load(environ: Mapping[str, str] | None = None, env_file: Path = Path(".env")) -> Loaded:
    """Read the settings: the environment wins over `.env`; an empty value is none. Raises UsageError for wrong ones."""
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    sources: list[tuple[str, Mapping[str, str | None]]] = [
        (str(env_file), _env_file(env_file)),
        ("environment", dict(os.environ if environ is None else environ)),
    ]
    for origin, source in sources:
        _refuse_misspelt(source, origin)
        for name in Settings.model_fields:
            found = _find(name.upper(), source)
            if found is not None:
                values[name], how = found
                origins[name] = f"{how} ({origin})" if how else origin
    try:
        return Loaded(Settings.model_validate(values), origins)
    except ValidationError as error:
        raise UsageError("\n".join(_problem(each, values, origins) for each in error.errors())) from None


def is_secret(name: str) -> bool:
    """Whether a setting (by field name) is never shown as it is."""
    return SecretStr in get_args(Settings.model_fields[name].annotation)


def settings_page() -> str:
    """The settings page of the documentation, in Markdown."""
    lines = [
        "# Settings",
        "",
        "<!-- Written by `make generate` from ops/settings.py. -->",
        "",
        "Each is an environment variable, or a line of a file `.env` in the working directory; the environment wins, "
        "and an empty value counts as none.",
        "Instead of any `NAME`, `NAME_FILE` may hold the path of a file with the value: for secrets. "
        "`mbevents config` prints what is in force, secrets hidden, and where each comes from.",
        "A wrong value, or a name that is nearly that of a Redis setting, is told by every command, which then does "
        "nothing (exit code 2).",
        "",
        "| Name | Default | Values | What it does |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        text = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name.upper()}` | {default} | {_values(name)} | {text} |")
    lines += [
        "",
        "One `REDIS_SERVER` serves all roles, each in its own database: "
        + ", ".join(f"{role.name.lower()} {role.value}" for role in RedisRole)
        + ". A role with a URL of its own is served from there. "
        "The broker and MusicBrainz Server's store must not evict keys (`maxmemory-policy noeviction`).",
        "",
    ]
    return "\n".join(lines)


def _values(name: str) -> str:
    schema = Settings.model_json_schema(mode="serialization")["properties"][name]
    options = [schema, *schema.get("anyOf", ())]
    for each in options:
        if "enum" in each:
            return ", ".join(f"`{value}`" for value in each["enum"])
        if each.get("type") == "integer":
            least, most = each.get("minimum"), each.get("maximum")
            return f"number, {least} to {most}" if most is not None else f"number, at least {least}"
    if is_secret(name):
        return "secret"
    return "path" if any(each.get("format") == "path" for each in options) else "text"


def _env_file(path: Path) -> Mapping[str, str | None]:
    try:
        return DotEnvSettingsSource(Settings, env_file=path, env_file_encoding="utf-8", case_sensitive=True).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} cannot be read: {type(error).__name__}.") from None


def _refuse_misspelt(source: Mapping[str, str | None], origin: str) -> None:
    """A role's URL under a name that nobody reads would leave the role on another Redis without a word.

    Other programs have names with REDIS_ too: only what is like one of ours is refused. Raises UsageError.
    """
    ours = [name for name in (each.upper() for each in Settings.model_fields) if name.startswith("REDIS_")]
    for given, value in source.items():
        name = given.removesuffix("_FILE")
        if not value or not name.startswith("REDIS_") or name in ours:
            continue
        if name.startswith("REDIS_BROKER"):
            meant = ["BROKER_URL"]
        else:
            role = next((role.name for role in RedisRole if name.startswith(f"REDIS_{role.name}")), None)
            meant = [f"REDIS_{role}_URL"] if role else get_close_matches(name, ours, n=1, cutoff=_LIKE)
        if meant:
            raise UsageError(f"{given} (from {origin}) is no setting: rename it to {meant[0]}, or unset it.")


def _find(name: str, source: Mapping[str, str | None]) -> tuple[str, str] | None:
    """The value, and the name of the variable that named its file if one did."""
    direct, by_file = source.get(name) or None, source.get(f"{name}_FILE") or None
    if by_file is None:
        return None if direct is None else (direct, "")
    if direct is not None:
        raise UsageError(f"{name} and {name}_FILE are both set: unset one of them.")
    try:
        value = Path(by_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}_FILE names {by_file}, which cannot be read: {type(error).__name__}.") from None
    if not value:
        raise UsageError(f"{name}_FILE names {by_file}, which is empty.")
    return value, f"{name}_FILE"


def _problem(error: Mapping[str, object], values: Mapping[str, str], origins: Mapping[str, str]) -> str:
    location = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not isinstance(location, tuple) or not location:
        return message
    name = str(location[0])
    given = "" if is_secret(name) else f" {hidden(values[name])!r}"
    return f"{name.upper()}{given} is wrong (from {origins[name]}): {message[:1].lower()}{message[1:]}."


def _shown(value: object) -> str | int | None:
    if isinstance(value, SecretStr):
        return hidden(value.get_secret_value())
    return value if value is None or isinstance(value, int) else str(value)
