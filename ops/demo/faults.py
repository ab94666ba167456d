"""What the demo breaks on purpose, and how it heals."""

import time
from collections.abc import Callable
from typing import Any

import psycopg

from events.catalogue import INVALIDATE_CACHES
from events.errors import MbeventsError
from events.ledger.requeue import Askable
from ops.cli.common import plural
from ops.demo.effects import Expected, Step
from ops.demo.place import Processes
from ops.demo.story import TRENTEMOLLER, Scene, auto_edit, counted, names_of
from ops.settings import RedisRole
from workers.caches.core import TheirEntity
from workers.caches.keys import EntityKey

MURCOF = "e8d1f02e-7e77-4415-85b6-dc17e08debbf"
# Within these everything is to be healed again; it is stated at ten.
_SECONDS = 30.0

Waiting = Callable[[str], None]


class NotBrokenError(MbeventsError):
    """The demo could not break what it wanted to break."""


def worker_killed(scene: Scene, processes: Processes, blocker: "psycopg.Connection[Any]", told: Waiting) -> Step:
    """SIGKILL a worker in the middle of an actor: a lock holds it where it has done half of its work."""
    artist = scene.edits.artist(TRENTEMOLLER)
    keys = names_of(scene, artist)
    scene.fill(keys)
    scene.fill_theirs([artist])
    observer = scene.observer
    observer.begin()
    with blocker.transaction():
        # The actor looks here for whatever shows the artist's name, after it made the artist itself be forgotten.
        blocker.execute("LOCK TABLE musicbrainz.artist_credit_name IN ACCESS EXCLUSIVE MODE")
        committed = scene.edits.disambiguate(artist, "Danish electronic musician", editor=scene.editors["Ada"])
        own = EntityKey("artist", artist.mbid)
        if not observer.wait(lambda: _blocked(scene) and not observer.present([own]), _SECONDS):
            raise NotBrokenError(f"No worker took up the work within {_SECONDS:.0f} s. It said:\n{processes.said()}")
        left = observer.present(keys)
        pid = processes.kill("worker")
        killed = time.monotonic()
    told(f"worker {pid} is dead, {len(left)} cache entries are stale: waiting for its work to be taken up")
    expected = Expected(
        frozenset({*auto_edit(committed.result), ("entity.updated", f"artist/{artist.mbid}")}),
        frozenset(keys),
        frozenset({TheirEntity("artist", artist.id, artist.mbid)}),
        dict.fromkeys(keys, "Danish electronic musician"),
    )
    effects = observer.watch(expected, since=committed.at, seconds=_SECONDS)
    return Step(
        "worker_killed",
        f"Ada disambiguates {artist.name}; the worker is killed in the middle of it",
        committed.rows,
        observer.logged(),
        tuple(effects),
        (f"Killed (pid {pid}) with the artist forgotten and these still to do: {counted(sorted(left))}.",),
        fault="worker killed (SIGKILL) in the middle of an actor",
        recovery=time.monotonic() - killed,
    )


def queues_lost(scene: Scene, processes: Processes, told: Waiting) -> Step:
    """FLUSHALL with work pending and no worker alive: only the ledger knows of it."""
    artist = scene.edits.artist(MURCOF)
    keys = names_of(scene, artist)
    scene.fill(keys)
    observer = scene.observer
    observer.begin()
    processes.hold("worker")
    pid = processes.kill("worker")
    committed = scene.edits.disambiguate(artist, "Fernando Corona", editor=scene.editors["Dunja"])
    queue, broker = INVALIDATE_CACHES.queue, scene.parts.sender
    assert isinstance(broker, Askable)  # the demo's is Redis
    pending = observer.wait(
        lambda: observer.published() and all(broker.has_messages(queue, observer.task_ids())), _SECONDS
    )
    tasks = observer.task_ids()
    scene.parts.client(RedisRole.BROKER).flushall()
    lost = time.monotonic()
    if not pending or not tasks or any(broker.has_messages(queue, tasks)):
        raise NotBrokenError(f"There was no work pending that FLUSHALL could lose. It said:\n{processes.said()}")
    # Readers come back at once, to an empty cache; a worker only then.
    scene.fill(keys)
    processes.release("worker")
    told(f"worker {pid} is dead and Redis is empty: waiting for the ledger's work to be enqueued again")
    expected = Expected(
        frozenset({*auto_edit(committed.result), ("entity.updated", f"artist/{artist.mbid}")}),
        frozenset(keys),
        frozenset({TheirEntity("artist", artist.id, artist.mbid)}),
        # A release shows of its tracks' artists only the name.
        dict.fromkeys((key for key in keys if key.entity_type != "release"), "Fernando Corona"),
    )
    effects = observer.watch(expected, since=committed.at, seconds=_SECONDS)
    return Step(
        "queues_lost",
        f"Dunja disambiguates {artist.name}; Redis loses everything (FLUSHALL) before a worker comes",
        committed.rows,
        observer.logged(),
        tuple(effects),
        (f"{plural(len(tasks), 'task')} pending, in Redis and in the ledger, when it happened.",),
        fault="FLUSHALL with work pending, and no worker alive",
        recovery=time.monotonic() - lost,
    )


def _blocked(scene: Scene) -> bool:
    return bool(scene.edits.one("waiting_workers"))
