"""What happens in the demo: who edits what, and what each edit is to cause."""

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.demo.edits import Artist, Committed, Edits
from ops.demo.effects import Expected, Step
from ops.demo.observe import Observer
from ops.settings import RedisRole
from workers.caches.core import TheirEntity
from workers.caches.keys import EntityKey

if TYPE_CHECKING:
    from ops.wiring import Runtime

# Of the sample data.
TRENTEMOLLER = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"
FINAL_FANTASY = "dcbd7e51-de76-47d6-aadc-7e38b779f82d"
OWEN_PALLETT = "6d394418-a565-4c16-9dec-f5a89e213cde"
MOBY = "8970d868-0723-483b-a75b-51088913d3d4"
PHILIP_GLASS = "5ae54dee-4dba-49c0-802a-a3b3b3adfe9b"
GLASS_ID = 9193
WIKIDATA = "https://www.wikidata.org/wiki/Q14045"

EDITORS = ("Ada", "Béla", "Chidi", "Dunja")
RECORDINGS = 2_000
_SECONDS = 15.0
_BULK_SECONDS = 40.0
_FILLING_THREADS = 4


@dataclass(slots=True)
class Scene:
    """What the steps work with; `editors` and `edit` are the ids that earlier steps made."""

    parts: "Runtime"
    edits: Edits
    observer: Observer
    editors: dict[str, int] = field(default_factory=dict)
    edit: int = 0

    def fill(self, keys: Iterable[EntityKey]) -> int:
        """Have them cached, as readers do; how many."""
        cache, load = self.parts.entity_cache, self.parts.load_entity

        def read(key: EntityKey) -> None:
            self.observer.check()
            cache.get_or_load(*key, load)

        with ThreadPoolExecutor(_FILLING_THREADS) as readers:
            return sum(1 for _ in readers.map(read, keys))

    def fill_theirs(self, artists: Collection[Artist]) -> None:
        """What MusicBrainz Server has cached of them. Its own values are Perl's, and nobody else reads them."""
        prefix = f"{self.parts.settings.redis_namespace}:artist"
        values: dict[str, bytes] = {}
        for artist in artists:
            values |= {f"{prefix}:{artist.id}": random.randbytes(64), f"{prefix}:{artist.mbid}": b"%d" % artist.id}
        self.parts.client(RedisRole.ENTITIES).mset(values)
        sessions = self.parts.client(RedisRole.SESSIONS)
        sessions.delete(*(f"{prefix}:recently_invalidated:{artist.id}" for artist in artists))


@dataclass(frozen=True, slots=True)
class Told:
    """What a step did and what is to come of it."""

    title: str
    committed: Committed
    expected: Expected
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """A step of the story: `do` fills the caches, edits, and says what is to come."""

    name: str
    do: Callable[[Scene], Told]
    bulk: bool = False

    def play(self, scene: Scene) -> Step:
        scene.observer.begin()
        told = self.do(scene)
        seconds = _BULK_SECONDS if self.bulk else _SECONDS
        effects = scene.observer.watch(told.expected, since=told.committed.at, seconds=seconds)
        events = scene.observer.logged()
        return Step(self.name, told.title, told.committed.rows, events, tuple(effects), told.notes, bulk=self.bulk)


def names_of(scene: Scene, artist: Artist) -> list[EntityKey]:
    """The artist, and what shows its name."""
    shown = [EntityKey(entity_type, mbid) for entity_type, mbid in scene.edits.shows(artist)]
    return [EntityKey("artist", artist.mbid), *shown]


def counted(keys: Collection[EntityKey]) -> str:
    """`1 artist, 8 recordings, 2 releases`."""
    types = [key.entity_type for key in keys]
    words = []
    for entity_type in sorted(set(types), key=types.index):
        number, word = types.count(entity_type), entity_type.replace("_", " ")
        words.append(f"{number:,} {word}{'' if number == 1 else 's'}")
    return ", ".join(words)


def _theirs(*artists: Artist) -> frozenset[TheirEntity]:
    return frozenset(TheirEntity("artist", artist.id, artist.mbid) for artist in artists)


def auto_edit(edit: int) -> set[tuple[str, str]]:
    """The events of an edit that is closed as soon as it is opened."""
    return {("edit.opened", f"edit/{edit}"), ("edit.closed", f"edit/{edit}")}


def register(scene: Scene) -> Told:
    committed = scene.edits.register(EDITORS)
    scene.editors = dict(zip(EDITORS, committed.result, strict=True))
    expected = Expected(frozenset(("editor.registered", f"editor/{each}") for each in committed.result))
    return Told(f"{', '.join(EDITORS[:-1])} and {EDITORS[-1]} register", committed, expected)


def propose(scene: Scene) -> Told:
    artist = scene.edits.artist(TRENTEMOLLER)
    key = EntityKey("artist", artist.mbid)
    scene.fill([key])
    scene.fill_theirs([artist])
    committed = scene.edits.propose_name(
        artist, "Anders Trentemøller", "Trentemøller, Anders", editor=scene.editors["Ada"]
    )
    scene.edit = committed.result
    expected = Expected(
        frozenset({("edit.opened", f"edit/{scene.edit}"), ("entity.updated", f"artist/{artist.mbid}")}),
        frozenset({key}),
        _theirs(artist),
    )
    return Told(f"Ada opens edit {scene.edit}: rename {artist.name} to Anders Trentemøller", committed, expected)


def vote(scene: Scene) -> Told:
    committed = scene.edits.vote(scene.edit, editor=scene.editors["Béla"])
    return Told(
        f"Béla votes yes on edit {scene.edit}",
        committed,
        Expected(frozenset({("edit.voted", f"edit/{scene.edit}")})),
    )


def note(scene: Scene) -> Told:
    committed = scene.edits.note(scene.edit, "His label writes it so.", editor=scene.editors["Chidi"])
    return Told(
        f"Chidi leaves a note on edit {scene.edit}",
        committed,
        Expected(frozenset({("edit.noted", f"edit/{scene.edit}")})),
        ("The text of a note is in no event.",),
    )


def rename(scene: Scene) -> Told:
    artist = scene.edits.artist(TRENTEMOLLER)
    keys = names_of(scene, artist)
    scene.fill(keys)
    scene.fill_theirs([artist])
    name = "Anders Trentemøller"
    committed = scene.edits.apply_name(scene.edit, artist, name, "Trentemøller, Anders")
    expected = Expected(
        frozenset({("edit.closed", f"edit/{scene.edit}"), ("entity.updated", f"artist/{artist.mbid}")}),
        frozenset(keys),
        _theirs(artist),
        dict.fromkeys(keys, name),
    )
    return Told(f"Edit {scene.edit} is applied: the artist is renamed", committed, expected, (_cached(keys),))


def merge(scene: Scene) -> Told:
    old, into = scene.edits.artist(FINAL_FANTASY), scene.edits.artist(OWEN_PALLETT)
    children = [key for key in names_of(scene, old) if key.entity_type != "artist"]
    keys = [EntityKey("artist", old.mbid), EntityKey("artist", into.mbid), *children]
    scene.fill(keys)
    scene.fill_theirs([old, into])
    committed = scene.edits.merge(old, into, editor=scene.editors["Dunja"])
    # The survivor's own row is as it was: it is the merge that tells of it.
    updated = {("entity.updated", f"{key.entity_type}/{key.mbid}") for key in children}
    expected = Expected(
        frozenset({*auto_edit(committed.result), ("entity.merged", f"artist/{old.mbid}"), *updated}),
        frozenset(keys),
        _theirs(old, into),
        # The old MBID leads to the new artist, and what credited the old one credits the new.
        {EntityKey("artist", old.mbid): into.mbid} | dict.fromkeys(children[:1], into.mbid),
    )
    return Told(
        f"Dunja merges {old.name} into {into.name}",
        committed,
        expected,
        (_cached(keys), f"The old MBID {old.mbid} leads to {into.name} now."),
    )


def link(scene: Scene) -> Told:
    artist = scene.edits.artist(MOBY)
    key = EntityKey("artist", artist.mbid)
    scene.fill([key])
    committed = scene.edits.link(artist, WIKIDATA, editor=scene.editors["Ada"])
    edit, url = committed.result
    expected = Expected(
        frozenset(
            {
                *auto_edit(edit),
                ("link.added", f"artist/{artist.mbid}"),
                ("entity.updated", f"artist/{artist.mbid}"),
                ("entity.created", f"url/{url}"),
            }
        ),
        frozenset({key}),
    )
    return Told(f"Ada links {artist.name} to {WIKIDATA}", committed, expected)


def correct_titles(scene: Scene) -> Told:
    mbids = scene.edits.recordings(scene.edits.artist(PHILIP_GLASS))
    keys = [EntityKey("recording", mbid) for mbid in mbids]
    scene.fill(keys)
    committed = scene.edits.correct_titles(mbids, editor=scene.editors["Chidi"])
    edits = (event for edit in committed.result for event in auto_edit(edit))
    expected = Expected(
        frozenset([*edits, *(("entity.updated", f"recording/{mbid}") for mbid in mbids)]),
        frozenset(keys),
        reads={keys[0]: "№", keys[-1]: "№"},
    )
    return Told(
        f"Chidi corrects the titles of {len(mbids):,} recordings of Philip Glass in one transaction",
        committed,
        expected,
        (_cached(keys),),
    )


def _cached(keys: Collection[EntityKey]) -> str:
    return f"Cached before, gone after: {counted(keys)}."


ACTS: Sequence[Act] = (
    Act("register", register),
    Act("propose", propose),
    Act("vote", vote),
    Act("note", note),
    Act("rename", rename),
    Act("merge", merge),
    Act("link", link),
    Act("bulk", correct_titles, bulk=True),
)
