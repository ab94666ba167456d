"""What the entity cache must forget, decided from the events alone.

A cached document of an entity may show: its own row and what hangs off it (aliases, annotations, tags, relationships by
the MBIDs of their ends: a change of any of these is an event of the entity itself); and, of other entities, only this:

- of artists that it credits (a recording, a release group, a release, a release's track): MBID, name, sort name and
  disambiguation, the names of the credit and the phrases that join them;
- of its release group (a release): the MBID;
- of its releases (a release group): dates and countries;
- of the media that it is on (a recording): the release's MBID, the medium's position, format and name.

`RULES` and `MERGED` say which changes reach others by that; whatever shows more needs a rule here first.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.envelope import TYPE_PREFIX, short_name
from schemas.values import ENTITY_TYPES

from . import tags
from .keys import EntityKey, is_mbid

_LARGEST_ID = 2**31 - 1


class Reach(StrEnum):
    """A way from an entity to those whose documents show something of it."""

    CREDITED = "credited"
    """From an artist to the recordings, release groups and releases (also by their tracks) that credit it."""
    GROUP = "group"
    """From a release to its release group."""
    GROUPED = "grouped"
    """From a release group to its releases."""
    RECORDED = "recorded"
    """From a release to the recordings on its media."""


class Rule(NamedTuple):
    """Updates of these columns reach others; `columns` None: any change, also a row that comes or goes."""

    reach: Reach
    columns: frozenset[str] | None


# By entity type and table of a change. What is not here reaches nobody: edits_pending and last_updated (every edit
# touches them), an artist's dates or area.
# Artist credits are not here: MusicBrainz never changes one (a trigger forbids it) but makes another and gives it to
# those that use it, which is a change of theirs; so too in a merge of artists. A medium that comes or goes does so with
# its tracks, which are changes of their recordings.
RULES: Mapping[tuple[str, str], Rule] = {
    ("artist", "musicbrainz.artist"): Rule(Reach.CREDITED, frozenset({"name", "sort_name", "comment"})),
    ("release", "musicbrainz.release"): Rule(Reach.GROUP, frozenset({"release_group"})),
    ("release", "musicbrainz.release_country"): Rule(Reach.GROUP, None),
    ("release", "musicbrainz.release_unknown_country"): Rule(Reach.GROUP, None),
    ("release", "musicbrainz.medium"): Rule(Reach.RECORDED, frozenset({"release", "position", "format", "name"})),
}

# A merge moves what the old entity had to the new one: looked for from there.
MERGED: Mapping[str, tuple[Reach, ...]] = {
    "release": (Reach.GROUP, Reach.RECORDED),
    "release_group": (Reach.GROUPED,),
}

# Whose documents show entities of a type by their MBID. An MBID that changes is so rare that they are forgotten whole.
SHOWN_BY: Mapping[str, tuple[str, ...]] = {
    "artist": ("recording", "release", "release_group"),
    "recording": ("release",),
    "release": ("recording",),
    "release_group": ("release",),
}

REACHED: Mapping[Reach, tuple[str, ...]] = {
    Reach.CREDITED: ("recording", "release", "release_group"),
    Reach.GROUP: ("release_group",),
    Reach.GROUPED: ("release",),
    Reach.RECORDED: ("recording",),
}

# Columns by which entities are searched for.
_FINDABLE = frozenset({"name", "sort_name", "comment", "artist_credit", "url"})

# Tables that are part of no entity, and what shows them.
_SHARED: Mapping[str, Reach] = {
    "musicbrainz.artist_credit": Reach.CREDITED,
    "musicbrainz.artist_credit_name": Reach.CREDITED,
}


class Cause(NamedTuple):
    """The event that asked for an invalidation."""

    id: str
    source: str
    sequence: str


class TheirEntity(NamedTuple):
    """An entity as MusicBrainz Server names it in its own keys: by row id (None: nobody knows it) and by MBID."""

    entity_type: str
    id: int | None
    mbid: str


class Found(NamedTuple):
    """A dependant of the entity with row id `origin`, found by `reach`."""

    reach: Reach
    origin: int
    key: EntityKey


@dataclass(slots=True)
class Plan:
    """What one message asks for; everything once, with the first event that asked.

    `own`: our keys; `theirs`: MusicBrainz Server's; `reach`: row ids whose dependants are due; `void`: entity types to
    forget as a whole; `tags`: what searches and numbers depend on; `problems`: events that make no sense, told.
    """

    own: dict[EntityKey, Cause] = field(default_factory=dict)
    theirs: dict[TheirEntity, None] = field(default_factory=dict)
    reach: dict[Reach, dict[int, Cause]] = field(default_factory=dict)
    void: dict[str, Cause] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def plan(events: Iterable[Any]) -> Plan:
    """Read CloudEvents (dictionaries). What makes no sense becomes a problem of the plan and hinders no other event."""
    result = Plan()
    for number, raw in enumerate(events):
        try:
            _add(result, raw)
        except _NonsenseError as error:
            name = raw.get("id") if isinstance(raw, dict) else None
            result.problems.append(f"event {number} (id {name!r:.60}): {error}")
    return result


def bounded(
    found: Mapping[str, Collection[EntityKey]], overflowed: Collection[str], limit: int
) -> tuple[list[EntityKey], list[str]]:
    """Which dependants are forgotten one by one, and which entity types as a whole, so that keys are at most `limit`.

    `found` is by entity type; of `overflowed` types there are more than were looked for. Small types come first.
    """
    keys: list[EntityKey] = []
    void = sorted(overflowed)
    for entity_type in sorted(found.keys() - set(void), key=lambda each: (len(found[each]), each)):
        if len(keys) + len(found[entity_type]) <= limit:
            keys += found[entity_type]
        else:
            void.append(entity_type)
    return keys, void


def truncated_types(table: str, entity_types: Iterable[str]) -> set[str]:
    """Entity types to forget when `table` was emptied, which held rows or parts of `entity_types`."""
    types = set(entity_types)
    types.update(*(REACHED[rule.reach] for (_, where), rule in RULES.items() if where == table))
    if table in _SHARED:
        types.update(REACHED[_SHARED[table]])
    types.update(SHOWN_BY.get(table.removeprefix("musicbrainz."), ()))
    return types


class _NonsenseError(Exception):
    """An event that cannot be what it says it is."""


def _add(result: Plan, raw: Any) -> None:
    if not isinstance(raw, dict):
        raise _NonsenseError(f"a {type(raw).__name__} is no event")
    full = _text(raw, "type")
    cause = Cause(_text(raw, "id"), _text(raw, "source"), str(raw.get("sequence", "0")))
    data = raw.get("data")
    if not isinstance(data, dict):
        raise _NonsenseError("it has no data")
    match short_name(full) if full.startswith(TYPE_PREFIX) else "":
        case ("entity.created" | "entity.updated") as name:
            _add_changed(result, cause, data, created=name == "entity.created")
        case "entity.deleted":
            entity = _entity(data, "mbid", "id")
            _add_entity(result, cause, entity)
            _add_membership(result, entity.entity_type)
        case "entity.merged":
            _add_merged(result, cause, data)
        case "link.added" | "link.removed":
            # The rows of both ends are as they were, so MusicBrainz Server's keys are too.
            result.own.setdefault(_key(data.get("entity_type"), data.get("mbid")), cause)
        case "table.truncated":
            table, entity_types = _text(data, "table"), data.get("entity_types")
            if not isinstance(entity_types, list | tuple) or not all(each in ENTITY_TYPES for each in entity_types):
                raise _NonsenseError(f"its entity_types {entity_types!r:.60} are no list of entity types")
            for entity_type in truncated_types(table, entity_types):
                result.void.setdefault(entity_type, cause)
        case _:
            raise _NonsenseError(f"its type {full!r:.60} is none that the caches know")


def _add_changed(result: Plan, cause: Cause, data: Mapping[str, Any], *, created: bool) -> None:
    changes = data.get("changes")
    if not isinstance(changes, list | tuple):
        raise _NonsenseError("its changes are not a list")
    # Everything is read before anything is planned.
    read = [_change(change) for change in changes]
    entity = _entity(data, "mbid", "id")
    previous = data.get("previous_mbid")
    if previous is not None:
        _add_entity(result, cause, TheirEntity(entity.entity_type, None, _key(entity.entity_type, previous).mbid))
        for entity_type in SHOWN_BY.get(entity.entity_type, ()):
            result.void.setdefault(entity_type, cause)
    _add_entity(result, cause, entity)
    if created:
        _add_membership(result, entity.entity_type)
    for table, op, columns in read:
        if _finds(entity.entity_type, table, columns):
            result.tags[tags.found(entity.entity_type)] = None
        rule = RULES.get((entity.entity_type, table))
        if rule is not None and (rule.columns is None or (op == "update" and not rule.columns.isdisjoint(columns))):
            _add_reach(result, cause, rule.reach, entity)


def _add_merged(result: Plan, cause: Cause, data: Mapping[str, Any]) -> None:
    old, into = _entity(data, "mbid", "id"), _entity(data, "into_mbid", "into_id")
    _add_entity(result, cause, old)
    _add_entity(result, cause, into)
    _add_membership(result, into.entity_type)
    if old.id is not None:
        for reach in MERGED.get(into.entity_type, ()):
            _add_reach(result, cause, reach, into)


def _add_entity(result: Plan, cause: Cause, entity: TheirEntity) -> None:
    result.own.setdefault(EntityKey(entity.entity_type, entity.mbid), cause)
    result.theirs.setdefault(entity)


def _add_membership(result: Plan, entity_type: str) -> None:
    result.tags[tags.found(entity_type)] = None
    result.tags[tags.counted(entity_type)] = None


def _finds(entity_type: str, table: str, columns: Collection[str]) -> bool:
    """Whether a change may let other words find the entity."""
    own = f"musicbrainz.{entity_type}"
    return table == f"{own}_alias" or (table == own and not _FINDABLE.isdisjoint(columns))


def _add_reach(result: Plan, cause: Cause, reach: Reach, entity: TheirEntity) -> None:
    if entity.id is not None:
        result.reach.setdefault(reach, {}).setdefault(entity.id, cause)


def _entity(data: Mapping[str, Any], mbid_name: str, id_name: str) -> TheirEntity:
    key = _key(data.get("entity_type"), data.get(mbid_name))
    # Null: an old MBID without a row of its own.
    row_id = data.get(id_name, "")
    if row_id is not None and (type(row_id) is not int or not 0 <= row_id <= _LARGEST_ID):
        raise _NonsenseError(f"its {id_name} {row_id!r:.60} is no row id")
    return TheirEntity(key.entity_type, row_id, key.mbid)


def _key(entity_type: Any, mbid: Any) -> EntityKey:
    if entity_type not in ENTITY_TYPES:
        raise _NonsenseError(f"{entity_type!r:.60} is no entity type")
    if not isinstance(mbid, str) or not is_mbid(mbid):
        raise _NonsenseError(f"{mbid!r:.60} is no MBID")
    return EntityKey(entity_type, mbid)


def _change(raw: Any) -> tuple[str, str, list[str]]:
    if not isinstance(raw, dict):
        raise _NonsenseError("one of its changes is not an object")
    table, op, columns = raw.get("table"), raw.get("op"), raw.get("columns", [])
    if not isinstance(table, str) or op not in ("insert", "update", "delete"):
        raise _NonsenseError("one of its changes has no table, or an op that is none")
    if not isinstance(columns, list | tuple) or not all(isinstance(column, str) for column in columns):
        raise _NonsenseError(f"the columns of its change of {table:.60} are no list of names")
    return table, op, list(columns)


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise _NonsenseError(f"it has no {name}")
    return value
