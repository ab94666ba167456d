"""Every setting, once: environment variables, `NAME_FILE` for secrets, and `.env`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ReplicationType = Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"]


class Settings(BaseSettings):
    """What an operator can set; `mbevents config` prints what is in force, secrets hidden."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL with the MusicBrainz database. Unset: a private server starts from the wheel."
    )
    replication_type: ReplicationType = Field(
        "RT_STANDALONE",
        description="RT_MASTER keeps captured rows for the export, RT_MIRROR captures nothing, RT_STANDALONE trims.",
    )
    redis_server: str | None = Field(
        None, description="Redis as host:port or URL, for all roles. Unset: a private server starts from the wheel."
    )
    redis_namespace: str = Field("MB", description="Prefix of every key and channel.")
    redis_entities_url: SecretStr | None = Field(None, description="Redis of the entity cache (default: database 0).")
    redis_sessions_url: SecretStr | None = Field(
        None, description="Redis of MusicBrainz Server's store, with its invalidation flags (default: database 1)."
    )
    redis_pubsub_url: SecretStr | None = Field(None, description="Redis of the channels (default: database 5).")
    broker_url: SecretStr | None = Field(
        None, description="Queues: redis://… (default: database 6 of REDIS_SERVER) or amqp://… for RabbitMQ."
    )
    event_source: str | None = Field(
        None, description="CloudEvents source, a URI that names this database (default: made from the database's name)."
    )
    event_retention_days: int = Field(7, ge=1, le=366, description="Days that events stay in the log.")
    entity_cache_seconds: int = Field(3600, ge=1, description="Time to live of a cached entity.")
    cache_fanout_limit: int = Field(
        10_000, ge=0, description="Most dependants of one task's events whose cache entries are invalidated one by one."
    )
    worker_threads: int = Field(8, ge=1, le=256, description="Threads of one worker process.")
    job_max_retries: int = Field(5, ge=0, description="Tries after the first before a job is a dead letter.")
    metrics_listen: str | None = Field(
        None, description="host:port where a process serves /metrics, /healthz and /readyz."
    )
    sentry_dsn: SecretStr | None = Field(None, description="Sentry project for errors. Unset: nothing is sent.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Log lines as JSON or for reading (auto: for reading on a terminal)."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severity logged.")
    mbevents_home: Path = Field(Path(".mbevents"), description="Folder of the embedded servers' data.")
