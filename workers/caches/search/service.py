"""Searches for a name, read through the cache."""

from functools import partial
from typing import Protocol

import orjson

from workers.leased.core import Loaded
from workers.leased.service import ReadThrough

from .. import tags
from ..keys import EntityKey
from ..service import known_type
from .core import MOST, Names, key, normalised


class Catalogue(Protocol):
    """Which entities have a name, as the database has them now."""

    def named(self, entity_type: str, name: str, *, limit: int) -> Names: ...


class Searches:
    """Never older than the last event that changed what they find, or what they show of it."""

    def __init__(self, cache: ReadThrough, catalogue: Catalogue) -> None:
        self._cache = cache
        self._catalogue = catalogue

    def named(self, entity_type: str, name: str) -> bytes:
        """The entities with exactly this name or alias, case apart, as a JSON object. Raises UsageError."""
        wanted = normalised(known_type(entity_type), name)
        load = partial(self._load, entity_type, wanted)
        return self._cache.get_or_load(key(entity_type, wanted), load) or b""

    def _load(self, entity_type: str, name: str) -> Loaded:
        names = self._catalogue.named(entity_type, name, limit=MOST)
        shown = tags.shown([EntityKey(entity_type, each.mbid) for each in names.found])
        body = {"entities": names.found, "complete": names.complete}
        return Loaded(orjson.dumps(body), (*shown, tags.found(entity_type)))
