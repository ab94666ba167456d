"""From settings to running parts: the only module that knows the concrete classes.

A part is made when it is first asked for, and closed with the runtime: a command pays for what it uses.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psycopg

from events.catalogue import EXPORT_PACKET
from events.errors import UnreachableError, UsageError
from events.log import service as event_log
from events.telemetry import NoTelemetry, Telemetry
from ops.settings import RedisRole, Settings
from ops.urls import database_name

if TYPE_CHECKING:
    from threading import Event

    import redis
    from psycopg_pool import ConnectionPool

    from events.catalogue import ActorSpec
    from events.ledger.requeue import Requeuer
    from events.queues.dead_letters import DeadLetters
    from events.queues.factory import Broker
    from events.queues.reaper import Reaper
    from ops.stack import Stack
    from producers.bridge.publishing import Publisher
    from producers.bridge.service import Bridge, BridgeOptions
    from producers.schedule.service import Scheduler
    from workers.caches.service import EntityCache, Load
    from workers.replication.apply.options import OnDivergence
    from workers.replication.export.service import Exporter
    from workers.replication.status.service import StatusReader
    from workers.replication.store import PacketStore
    from workers.replication.sync.service import Syncer
    from workers.replication.tokens import Doorkeeper, Tokens

Connection = psycopg.Connection[Any]
Progress = Callable[[str], None]
# Connections to the caches' Redis of one process: as many as its actors can use at once is too many to be idle.
CACHE_CONNECTIONS = 10


class Runtime:
    """The parts of one process. `servers` are the embedded ones, if it uses any."""

    def __init__(
        self, settings: Settings, servers: "Stack | None", closing: ExitStack, telemetry: Telemetry | None = None
    ) -> None:
        self.settings = settings
        self.servers = servers
        self.telemetry = telemetry or NoTelemetry()
        self._closing = closing
        self._clients: dict[str, redis.Redis] = {}

    # Where the servers are

    @cached_property
    def database_url(self) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        assert self.servers is not None
        return self.servers.database_url()

    def redis_url(self, role: RedisRole) -> str:
        configured = self.settings.redis_url(role)
        if configured is not None:
            return configured
        assert self.servers is not None
        return self.servers.redis_url(role)

    @property
    def source(self) -> str:
        """CloudEvents source: names the database, the same from every process that works on it."""
        return self.settings.event_source or f"/databases/{database_name(self.database_url)}"

    # Connections

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of its own, for one command; autocommit."""
        with psycopg.connect(
            self.database_url, autocommit=True, connect_timeout=10, application_name="mbevents"
        ) as connection:
            yield connection

    @cached_property
    def pool(self) -> "ConnectionPool[Connection]":
        from workers.middleware import make_pool

        pool = make_pool(self.database_url)
        self._closing.callback(pool.close)
        return pool

    def connect(self) -> AbstractContextManager[Connection]:
        """An autocommitting connection of the pool for the length of a block."""
        return self.pool.connection()

    def client(self, role: RedisRole) -> "redis.Redis":
        """For cache commands, which may be repeated. Bounded, so that a burst of work waits instead of connecting."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        url = self.redis_url(role)
        if url not in self._clients:
            keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=CACHE_CONNECTIONS,
                timeout=5,
                socket_timeout=5,
                socket_connect_timeout=3,
                health_check_interval=30,
                # redis-py's own ten tries would turn a dead cache, which is a miss, into seconds.
                retry=Retry(NoBackoff(), 1),
                **keepalive,
            )
            client = redis.Redis.from_pool(pool)
            self._closing.callback(client.close)
            self._clients[url] = client
        return self._clients[url]

    @cached_property
    def channels(self) -> "redis.Redis":
        """For publishing and listening, which must not be repeated by itself."""
        from events.queues.broker import connect_redis

        client = connect_redis(self.redis_url(RedisRole.PUBSUB))
        self._closing.callback(client.close)
        return client

    # Queues

    @cached_property
    def sender(self) -> "Broker":
        """A broker to send with; it has no actors."""
        broker = self.new_sender()
        self._closing.callback(broker.close)
        return broker

    def new_sender(self) -> "Broker":
        """Another one, which is the caller's to close: RabbitMQ's client keeps a connection for each thread."""
        from events.catalogue import ACTORS

        broker = self._broker([])
        # The queues' depths are known before anything is sent.
        for queue in sorted({actor.queue for actor in ACTORS.values()}):
            broker.declare_queue(queue)
        return broker

    @cached_property
    def worker_broker(self) -> "Broker":
        """A broker to work on, with every actor of the catalogue."""
        from ops import sentry
        from ops.end_to_end import EndToEnd
        from workers.middleware import PostgresLedger, standard_middleware

        standard = standard_middleware(
            PostgresLedger(self.connect), self.telemetry, max_retries=self.settings.job_max_retries
        )
        # What is after an actor runs from last to first: it measures what succeeded, and reports last.
        reported = [sentry.Reported()] if self.settings.sentry_dsn is not None else []
        broker = self._broker([*reported, EndToEnd(self.telemetry), *standard])
        self._closing.callback(broker.close)
        self.register_actors(broker)
        return broker

    def _broker(self, middleware: Sequence[Any]) -> "Broker":
        from events.queues.factory import make_broker

        return make_broker(self.redis_url(RedisRole.BROKER), self.settings.redis_namespace, middleware)

    def register_actors(self, broker: Any) -> None:
        """Every actor that the catalogue names; a test compares the two."""
        from workers.caches import actors as caches
        from workers.caches.adapters import (
            PostgresDependants,
            RedisAnnouncements,
            RedisEntries,
            RedisMusicBrainz,
        )
        from workers.caches.service import Invalidator
        from workers.replication import actors as replication

        namespace = self.settings.redis_namespace
        entities, sessions = self.client(RedisRole.ENTITIES), self.client(RedisRole.SESSIONS)
        caches.register(
            broker,
            Invalidator(
                entries=RedisEntries(entities, namespace=namespace),
                dependants=PostgresDependants(self.connect),
                announcements=RedisAnnouncements(self.client(RedisRole.PUBSUB), namespace=namespace),
                musicbrainz=RedisMusicBrainz(store=sessions, cache=entities, namespace=namespace),
                fanout_limit=self.settings.cache_fanout_limit,
                telemetry=self.telemetry,
            ),
        )
        replication.register(broker, lambda: self.exporter, self.telemetry)

    @cached_property
    def reaper(self) -> "Reaper":
        from events.queues.adapters import PostgresDeadLetters
        from events.queues.reaper import Reaper

        return Reaper(self.worker_broker, PostgresDeadLetters(self.connect), telemetry=self.telemetry)

    @cached_property
    def requeuer(self) -> "Requeuer":
        from events.ledger.requeue import GRACE

        return self._requeuer(GRACE)

    def refill(self) -> int:
        """Enqueue again what a broker lost, at once; how many."""
        return self._impatient.run_once()

    @cached_property
    def _impatient(self) -> "Requeuer":
        return self._requeuer(0)

    def _requeuer(self, grace: float) -> "Requeuer":
        from events.ledger.requeue import Requeuer

        def load(positions: Sequence[int]) -> list[dict[str, Any]]:
            with self.connect() as connection:
                return [event.to_dict() for event in event_log.at(connection, positions)]

        return Requeuer(self.connect, self.worker_broker, load, telemetry=self.telemetry, grace=grace)

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from events.queues.adapters import PostgresDeadLetters
        from events.queues.dead_letters import DeadLetters

        def enqueue_many(messages: Iterable[Any]) -> object:
            # Only a retry needs the broker.
            return self.sender.enqueue_many(messages)

        return DeadLetters(PostgresDeadLetters(self.connect), enqueue_many)

    # Replication

    @cached_property
    def packet_store(self) -> "PacketStore":
        from workers.replication.store import open_store

        return open_store(self.settings.packet_store_url)

    @cached_property
    def feed_tokens(self) -> "Tokens":
        from workers.replication.tokens import Tokens

        return Tokens(self.connect)

    @cached_property
    def doorkeeper(self) -> "Doorkeeper":
        from workers.replication.tokens import Doorkeeper

        return Doorkeeper(self.feed_tokens.hashes)

    @cached_property
    def exporter(self) -> "Exporter":
        """Raises UsageError where packets do not come from."""
        from datetime import UTC, datetime
        from functools import partial

        from ops.export import tick
        from workers.replication.export.adapters import opened
        from workers.replication.export.service import Exporter
        from workers.replication.export.signing import Gpg
        from workers.replication.store.service import retain
        from workers.replication.verify.service import publish_digest

        found = self.settings
        if found.replication_type != "RT_MASTER":
            raise UsageError(
                f"Packets are exported from a master, and REPLICATION_TYPE is {found.replication_type}. "
                "Set it to RT_MASTER if this database is where changes begin, for the bridge too."
            )
        days, count = found.packet_retention_days, found.packet_retention_count
        spool = found.mbevents_home.absolute() / "export" / database_name(self.database_url)

        def prove(sequence: int) -> None:
            every = found.replication_digest_interval
            if every and sequence % every == 0:
                publish_digest(self.connection, self.packet_store, spool.with_suffix(".digest"), sequence)

        return Exporter(
            partial(opened, self.database_url),
            self.packet_store,
            spool,
            signer=None if found.gpg_sign_key is None else Gpg(found.gpg_sign_key),
            ready=lambda: tick(self),
            prove=prove,
            tidy=lambda: retain(self.packet_store, now=datetime.now(UTC), days=days, count=count),
            note=self._note_export,
            telemetry=self.telemetry,
        )

    def _note_export(self, error: Exception | None) -> None:
        from ops.private import described
        from workers.replication.status.adapters import note_export

        # What went wrong may be the database itself; the export's own error is what is to be told then.
        with suppress(psycopg.Error), self.connection() as connection:
            note_export(connection, None if error is None else described(error))

    @cached_property
    def replication_status(self) -> "StatusReader":
        """Works in every mode. Its answers of other servers are a minute old at most."""
        from ops.checks import connected
        from ops.private import scrubbed
        from workers.replication.status.adapters import Patient, PostgresStatus, newest_upstream, packets_in
        from workers.replication.status.service import StatusReader
        from workers.replication.sync.core import parsed_base

        @contextmanager
        def known() -> Iterator[PostgresStatus]:
            with connected(self) as connection:
                yield PostgresStatus(connection)

        found = self.settings
        base = parsed_base(found.replication_base_url)
        token = None if found.replication_access_token is None else found.replication_access_token.get_secret_value()
        return StatusReader(
            found.replication_type,
            known,
            upstream=Patient(lambda: newest_upstream(base, token)).get,
            stored=Patient(lambda: packets_in(self.packet_store)).get,
            interval=(
                found.replication_export_interval
                if found.replication_type == "RT_MASTER"
                else found.replication_sync_interval
            ),
            clean=scrubbed,
        )

    @cached_property
    def scheduler(self) -> "Scheduler":
        """Raises UsageError where nothing comes with the clock."""
        from producers.schedule.service import Job, Scheduler

        if self.settings.replication_type != "RT_MASTER":
            raise UsageError(
                "Only exports are scheduled as yet, and they are a master's: "
                f"REPLICATION_TYPE is {self.settings.replication_type}."
            )
        interval = self.settings.replication_export_interval
        return Scheduler(self.database_url, [Job(EXPORT_PACKET.name, interval, lambda: self._send(EXPORT_PACKET))])

    def _send(self, actor: "ActorSpec") -> None:
        """Send scheduled work, unless it waits in its queue already."""
        from events.ledger.messages import task_message

        self.sender.declare_queue(actor.queue)
        depth = self.sender.depths().get(actor.queue)
        if depth is None or depth.waiting == 0:
            self.sender.enqueue_many([task_message(None, queue=actor.queue, actor=actor.name, events=[])])

    def syncer(
        self,
        *,
        base_url: str | None,
        on_divergence: "OnDivergence",
        stop: "Event",
        hurry: "Event",
        say: Progress,
    ) -> "Syncer":
        """Raises UsageError where packets do not go."""
        from functools import partial

        from ops.private import described
        from ops.version import version
        from workers.replication.apply.options import ApplyOptions
        from workers.replication.apply.source import open_source
        from workers.replication.packet.archive import Limits
        from workers.replication.sync.core import parsed_base, parsed_filters
        from workers.replication.sync.fetch import Feed, FeedOptions
        from workers.replication.sync.service import Syncer, SyncOptions
        from workers.replication.sync.spool import Spool

        found = self.settings
        if found.replication_type != "RT_MIRROR":
            raise UsageError(
                f"Packets are applied to a mirror only, and REPLICATION_TYPE is {found.replication_type}. "
                "Set it to RT_MIRROR if nobody edits this database. Nothing was done."
            )
        try:
            base = parsed_base(base_url or found.replication_base_url)
        except ValueError as error:
            raise UsageError(f"--base-url is wrong: {error}.") from None
        token = found.replication_access_token
        filters = parsed_filters(
            ignore_schemas=found.replication_ignore_schemas,
            ignore_tables=found.replication_ignore_tables,
            keep_tables=found.replication_keep_tables,
        )
        most = found.replication_packet_mb << 20
        limits = Limits(total_bytes=16 * most, member_bytes=16 * most, line_bytes=found.replication_row_mb << 20)
        spool = Spool(found.replication_spool or found.mbevents_home.absolute() / "spool", base.url)
        feed = FeedOptions(agent=f"mbevents/{version()}", most_bytes=most, signed=found.replication_gpg_key is not None)
        options = SyncOptions(
            apply=ApplyOptions(on_divergence, filters.wanted, self.source),
            filters=filters,
            interval=found.replication_sync_interval,
            open_source=partial(open_source, limits=limits),
            describe=described,
            key=found.replication_gpg_key,
            hooks=found.replication_hooks,
            hook_seconds=found.replication_hook_seconds,
        )
        secret = None if token is None else token.get_secret_value()
        return Syncer(
            self.connection,
            lambda say_retry: Feed(base, secret, spool, feed, self.telemetry, say=say_retry),
            spool,
            options,
            stop=stop,
            hurry=hurry,
            say=say,
            telemetry=self.telemetry,
        )

    # Bridge and caches

    @property
    def bridge_options(self) -> "BridgeOptions":
        from producers.bridge.service import BridgeOptions

        return BridgeOptions(
            source=self.source,
            replication_type=self.settings.replication_type,
            retention_days=self.settings.event_retention_days,
        )

    @cached_property
    def publisher(self) -> "Publisher":
        from producers.bridge.adapters import RedisPublisher

        return RedisPublisher(self.channels, self.sender, self.settings.redis_namespace)

    @cached_property
    def bridge(self) -> "Bridge":
        return self.make_bridge()

    def make_bridge(self) -> "Bridge":
        from producers.bridge.service import Bridge

        return Bridge(self.database_url, self.publisher, options=self.bridge_options, telemetry=self.telemetry)

    @cached_property
    def entity_cache(self) -> "EntityCache":
        from workers.caches.adapters import RedisEntries
        from workers.caches.service import EntityCache

        return EntityCache(
            RedisEntries(self.client(RedisRole.ENTITIES), namespace=self.settings.redis_namespace),
            ttl=self.settings.entity_cache_seconds,
            telemetry=self.telemetry,
        )

    def check_entities(self) -> None:
        """Raises redis.ConnectionError when the entity cache is away, which to readers looks like a miss."""
        self.client(RedisRole.ENTITIES).ping()

    @cached_property
    def load_entity(self) -> "Load":
        """Reads an entity from the database, as `EntityCache.get_or_load` wants it."""
        from workers.caches.adapters import PostgresEntities

        return PostgresEntities(self.connect).load


@contextmanager
def open_runtime(
    settings: Settings,
    *,
    progress: Progress = lambda _: None,
    telemetry: Telemetry | None = None,
    create: bool = False,
    create_redis: bool = False,
    database: bool = True,
    with_redis: bool = True,
) -> Iterator[Runtime]:
    """The parts of a process. Embedded servers that it needs are started; made from nothing only with `create`.

    `create_redis` is for processes that need no more than a Redis beside a configured database.
    """
    with ExitStack() as closing:
        postgres = database and settings.needs_embedded_postgres
        store = with_redis and settings.needs_embedded_redis
        servers = None
        if postgres or store:
            import ops.stack

            if not create:
                _refuse_to_make(settings, postgres=postgres, store=store and not create_redis)
            servers = ops.stack.start(settings.mbevents_home, postgres=postgres, redis=store, progress=progress)
            closing.callback(servers.close)
        yield Runtime(settings, servers, closing, telemetry)


def _refuse_to_make(settings: Settings, *, postgres: bool, store: bool) -> None:
    """A question is no reason to make servers. Raises UnreachableError where there are none of these yet."""
    from ops.stack import control

    home = settings.mbevents_home
    if postgres and control.data_folder(home) is None:
        raise UnreachableError(
            f"No DATABASE_URL is set, and there is no embedded database in {home} yet. "
            "Run `mbevents up` to make one, or set DATABASE_URL."
        )
    if store and not postgres and not control.is_home(home):
        raise UnreachableError(
            f"No REDIS_SERVER is set, and there is no embedded Redis in {home} yet. "
            "Run `mbevents up` to make one, or set REDIS_SERVER."
        )


def ensure_database(runtime: Runtime, progress: Progress) -> bool:
    """The embedded database with the real schema and its sample data; True if it was made now."""
    if runtime.servers is None or runtime.servers.postgres is None:
        raise UsageError("A configured database is the operator's: only an embedded one is made.")
    import ops.stack

    return ops.stack.ensure_musicbrainz(runtime.servers, progress=progress)
