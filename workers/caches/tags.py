"""What pages, searches and statistics may depend on, as tags of their entries. The invalidator forgets them by these.

A page that shows entities has `shown(…)` of each (their names and all else), a search also `found(…)` of the types that
it looked through, a number `counted(…)`. What no event of an entity tells (edits, votes, packets) has no tag: it is as
old as its time to live at most.
"""

from collections.abc import Collection

from .keys import EntityKey


def shown(keys: Collection[EntityKey]) -> tuple[str, ...]:
    """Of what shows these entities; also that their whole type may be forgotten."""
    return tuple(dict.fromkeys([*(key.name for key in keys), *(every(key.entity_type) for key in keys)]))


def every(entity_type: str) -> str:
    """Of what shows any entity of the type."""
    return f"every:{entity_type}"


def found(entity_type: str) -> str:
    """Of what depends on which entities a name finds: they come, go, are merged, renamed, or get another alias."""
    return f"found:{entity_type}"


def counted(entity_type: str) -> str:
    """Of what depends on how many there are."""
    return f"counted:{entity_type}"


def all_of(entity_type: str) -> tuple[str, ...]:
    """When a whole type is forgotten."""
    return (every(entity_type), found(entity_type), counted(entity_type))
