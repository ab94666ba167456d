"""The demo's mirror: a second database that follows the first by packets, and what is to be seen there."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from events.log import service as event_log
from ops.cli.common import plural
from ops.demo.effects import Effect, Kind, Step, Watch
from ops.demo.observe import Listener
from ops.demo.place import Processes
from ops.demo.story import MOBY, Scene

if TYPE_CHECKING:
    from ops.wiring import Runtime

NAME = "mirror"
# Its channels and caches are its own, in the same Redis.
NAMESPACE = "MIRROR"
EXPORT_SECONDS = 1
# The master's, and the mirror's: their commands.
_MASTERS = {"web": ["web"], "scheduler": ["scheduler"]}
_MIRRORS = {"mirror bridge": ["bridge"], "mirror sync": ["replication", "sync", "--follow"]}
PROCESSES = _MASTERS | _MIRRORS
_SECONDS = 60.0
_EVERY_SECONDS = 0.005

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Mirror:
    """A database as MusicBrainz sets a mirror up, at packet 0 like its master."""

    url: str
    # Where the master's feed is served.
    listen: str

    def masters(self) -> dict[str, str]:
        """Settings of all processes."""
        return {
            "REPLICATION_TYPE": "RT_MASTER",
            "REPLICATION_EXPORT_INTERVAL": str(EXPORT_SECONDS),
            "WEB_LISTEN": self.listen,
        }

    def settings(self, token: str) -> dict[str, str]:
        """What is other for its own processes."""
        return {
            "DATABASE_URL": self.url,
            "REPLICATION_TYPE": "RT_MIRROR",
            "REDIS_NAMESPACE": NAMESPACE,
            "REPLICATION_BASE_URL": f"http://{self.listen}/api/musicbrainz",
            "REPLICATION_ACCESS_TOKEN": token,
            "REPLICATION_SYNC_INTERVAL": "1",
        }

    def connect(self) -> Connection:
        return psycopg.connect(self.url, autocommit=True, application_name="mbevents demo")


def make(parts: "Runtime") -> Mirror:
    """Copy the database, to which nobody may be connected and of which nothing may be captured yet."""
    from ops.stack.schema import make_mirror, use_search_path
    from producers.capture import service

    assert parts.servers is not None
    with parts.connection() as master:
        master.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
        original = sql.Identifier(master.info.dbname)
    with psycopg.connect(parts.servers.database_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(NAME), original))
    mirror = Mirror(parts.servers.database_url(NAME), _free_address())
    with mirror.connect() as connection:
        use_search_path(connection)
        make_mirror(connection)
        service.install(connection, replication_type="RT_MIRROR")
    return mirror


def start(processes: Processes, mirror: Mirror, token: str) -> None:
    """Feed and schedule of the master, bridge and sync of the mirror."""
    for name in PROCESSES:
        processes.release(name, mirror.settings(token) if name in _MIRRORS else None)


def followed(scene: Scene, processes: Processes, mirror: Mirror, told: Callable[[str], None]) -> list[Step]:
    """Start feed, schedule and sync: all that happened arrives, and then one edit, as rows and as events."""
    start(processes, mirror, scene.parts.feed_tokens.create("mirror"))
    with mirror.connect() as there:
        heard = Listener(scene.parts.channels, NAMESPACE)
        try:
            return [_caught_up(scene, there, told), _edited(scene, there, mirror, heard)]
        finally:
            heard.close()


def _caught_up(scene: Scene, there: Connection, told: Callable[[str], None]) -> Step:
    began = time.monotonic()
    told("the mirror applies its first packet")
    packet = Watch(Kind.PACKET, [("packet.applied", "packet/1")])
    _watch(scene, [packet], lambda: packet.saw(_events(there, 0), time.monotonic()))
    rows = scene.edits.one("packet_changes", sequence=1) if packet.done else 0
    events = event_log.head(there).position
    return Step(
        "mirror",
        "A mirror begins to follow: everything up to here is its first packet",
        rows,
        events,
        _effects([packet], began),
        (f"{plural(rows, 'change')} in one transaction, with {plural(events, 'event')} of the mirror's own.",),
        bulk=True,
    )


def _edited(scene: Scene, there: Connection, mirror: Mirror, heard: Listener) -> Step:
    from workers.replication.verify.service import Options, compare_with_master

    artist = scene.edits.artist(MOBY)
    comment = "US electronica musician"
    after = event_log.head(there).position
    heard.take()
    scene.observer.begin()
    committed = scene.edits.disambiguate(artist, comment, editor=scene.editors["Béla"])
    event = ("entity.updated", f"artist/{artist.mbid}")
    row, logged = Watch(Kind.MIRROR, [f"artist {artist.mbid}"]), Watch(Kind.MIRROR_LOG, [event])
    channel = Watch(Kind.MIRROR_CHANNEL, [event])

    def look() -> None:
        now = time.monotonic()
        found = there.execute("SELECT comment FROM musicbrainz.artist WHERE id = %s", (artist.id,)).fetchone()
        if found == (comment,):
            row.saw([f"artist {artist.mbid}"], now)
            logged.saw(_events(there, after), now)
        channel.saw(((each.name, each.subject) for each in heard.take() if each.sequence > after), now)

    _watch(scene, [row, logged, channel], look)
    equal = Watch(Kind.EQUAL, ["every table"])
    report = compare_with_master(mirror.connect, scene.parts.connection, Options(wait=_SECONDS))
    if report.ok:
        equal.saw(["every table"], time.monotonic())
    seen = {"rows": sum(each.found for each in report.tables), "tables": len(report.tables)}
    return Step(
        "followed",
        f"Béla disambiguates {artist.name}; the mirror follows, a packet every {EXPORT_SECONDS} s",
        committed.rows,
        scene.observer.logged(),
        _effects([row, logged, channel, equal], committed.at),
        (f"Compared after packet {report.sequence}: {seen['rows']:,} rows of {seen['tables']} tables.",),
    )


def _watch(scene: Scene, watches: "list[Watch[Any]]", look: Callable[[], None]) -> None:
    def done() -> bool:
        look()
        time.sleep(_EVERY_SECONDS)
        return all(each.done for each in watches)

    scene.observer.wait(done, _SECONDS)


def _events(there: Connection, after: int) -> "list[tuple[str, str]]":
    return [(event.name, event.subject) for event in event_log.read(there, after=after, limit=1_000_000)]


def _effects(watches: "list[Watch[Any]]", since: float) -> tuple[Effect, ...]:
    return tuple(effect for watch in watches if (effect := watch.effect(since)) is not None)


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
