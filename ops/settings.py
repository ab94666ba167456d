"""Every setting, once. `ops.loading` reads them."""

from enum import IntEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ops.urls import check_role_url, database_name, is_loopback, numbered, parsed_listen, redis_base
from workers.limits.core import MOST, WithoutRedis
from workers.replication.store.core import parsed
from workers.replication.sync.core import DEFAULT_BASE, listed_tables, parsed_base

ReplicationType = Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class RedisRole(IntEnum):
    """What Redis is used for; the number is the role's database where all of them share one server."""

    ENTITIES = 0
    SESSIONS = 1
    SEARCH = 2
    STATISTICS = 3
    LIMITS = 4
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
        description="Redis of sessions, and of MusicBrainz Server's invalidation flags (default: database 1).",
    )
    redis_search_url: SecretStr | None = Field(
        default=None, description="Redis of cached searches and outside answers (default: database 2)."
    )
    redis_statistics_url: SecretStr | None = Field(
        default=None, description="Redis of the statistics (default: database 3)."
    )
    redis_limits_url: SecretStr | None = Field(default=None, description="Redis of rate limits (default: database 4).")
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
    search_cache_seconds: int = Field(default=900, ge=1, description="Time to live of a cached search or page.")
    statistics_cache_seconds: int = Field(default=3600, ge=1, description="Time to live of a counted statistic.")
    cache_fanout_limit: int = Field(
        default=10_000,
        ge=0,
        description="Most dependants of one task's events whose cache entries are invalidated one by one.",
    )
    worker_threads: int = Field(
        default=8, ge=1, le=256, description="Threads of one worker process, beside one for each queue of slow work."
    )
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
    session_seconds: int = Field(
        default=36_000, ge=60, description="Seconds after which a session ends, however busy: from the sign-in."
    )
    session_idle_seconds: int = Field(default=10_800, ge=60, description="Seconds without use after which it ends.")
    session_replicas: int = Field(
        default=0,
        ge=0,
        description="Replicas of that Redis that must know of a log-out before it is told as done: as many as there "
        "are, and no failover undoes it.",
    )
    sessions_without_redis: Literal["refuse", "anonymous"] = Field(
        default="refuse",
        description="What the web does for who has a session while its Redis is away: refuse (503), or go on as for "
        "anybody.",
    )
    web_rate_limit: int = Field(
        default=20,
        ge=0,
        le=MOST,
        description="Most requests to `mbevents web` of one client in any second. 0: no limit.",
    )
    limits_without_redis: WithoutRedis = Field(
        default="open", description="What is decided while the Redis of the limits is away: let through, or refuse."
    )
    operator_contact: str | None = Field(
        default=None,
        min_length=3,
        max_length=200,
        pattern=r"^[\x21-\x7e][\x20-\x7e]*$",
        description="Who runs this, as a URL or e-mail address: told to the services that are asked. Needed for "
        "Wikimedia's.",
    )
    http_timeout_seconds: float = Field(
        default=30, gt=0, le=600, description="Seconds that an outside server may say nothing."
    )
    http_deadline_seconds: float = Field(
        default=60, gt=0, le=3600, description="Seconds that a call may take with all its tries and waits."
    )
    http_body_mb: int = Field(default=16, ge=1, le=1024, description="Largest answer taken, unpacked.")
    user_urls: Literal["https", "any"] = Field(
        default="https", description="Which URLs that users give are called: https, or any (http too)."
    )
    wikimedia_rate: float = Field(
        default=1.0,
        gt=0,
        le=50,
        description="Requests a second to Wikipedia, and to Wikidata, of all processes together.",
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
    replication_base_url: str = Field(
        default=DEFAULT_BASE,
        description="Feed that a mirror follows: the address before /replication-N-v2.tar.bz2, over https "
        "(http only to this machine).",
    )
    replication_access_token: SecretStr | None = Field(
        default=None, description="A mirror's token for that feed; sent to no other host. Unset: none is sent."
    )
    replication_sync_interval: int = Field(
        default=60, ge=1, le=86_400, description="Seconds until a mirror that is up to date looks at the feed again."
    )
    replication_spool: Path | None = Field(
        default=None, description="Folder of packets on their way into a mirror (default: `spool` in MBEVENTS_HOME)."
    )
    replication_packet_mb: int = Field(
        default=1024, ge=1, description="Largest packet that a mirror downloads; unpacked it may be 16 times as large."
    )
    replication_row_mb: int = Field(
        default=8, ge=1, le=1024, description="Largest change of a row, old and new, that a mirror takes from a packet."
    )
    replication_gpg_key: Path | None = Field(
        default=None,
        description="File with the armoured public key that signs the feed's packets; a packet without its good "
        "signature is refused. Unset: signatures are not looked at.",
    )
    replication_ignore_schemas: str | None = Field(
        default=None, description="Schemas that a mirror leaves as they are, with commas."
    )
    replication_ignore_tables: str | None = Field(
        default=None, description="Tables that it leaves as they are: schema.table, with commas."
    )
    replication_keep_tables: str | None = Field(
        default=None, description="The only tables that it brings up to date. Unset: all that it has."
    )
    replication_hooks: Path | None = Field(
        default=None, description="Folder of executables that are run after each packet, with its number."
    )
    replication_hook_seconds: int = Field(
        default=300, ge=1, le=86_400, description="Seconds after which one of them is killed."
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

    @field_validator(
        "redis_entities_url",
        "redis_sessions_url",
        "redis_search_url",
        "redis_statistics_url",
        "redis_limits_url",
        "redis_pubsub_url",
    )
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

    @field_validator("replication_base_url")
    @classmethod
    def _feed(cls, value: str) -> str:
        return parsed_base(value).url

    @field_validator("replication_ignore_tables", "replication_keep_tables")
    @classmethod
    def _tables(cls, value: str | None) -> str | None:
        listed_tables(value)
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
        roles = {f"REDIS_{role.name}_URL": self._own(role) for role in RedisRole if role is not RedisRole.BROKER}
        roles["BROKER_URL"] = self.broker_url
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
        own = self._own(role)
        if own is not None:
            return own.get_secret_value()
        if self.redis_server is None:
            return None
        return numbered(redis_base(self.redis_server.get_secret_value()), role)

    def _own(self, role: RedisRole) -> SecretStr | None:
        return {
            RedisRole.ENTITIES: self.redis_entities_url,
            RedisRole.SESSIONS: self.redis_sessions_url,
            RedisRole.SEARCH: self.redis_search_url,
            RedisRole.STATISTICS: self.redis_statistics_url,
            RedisRole.LIMITS: self.redis_limits_url,
            RedisRole.PUBSUB: self.redis_pubsub_url,
            RedisRole.BROKER: self.broker_url,
        }[role]

    @property
    def packet_store_url(self) -> str:
        return self.packet_store or (self.mbevents_home.absolute() / "packets").as_uri()

    @property
    def needs_embedded_postgres(self) -> bool:
        return self.database_url is None

    @property
    def needs_embedded_redis(self) -> bool:
        return any(self.redis_url(role) is None for role in RedisRole)
