"""The names of keys, and what is in them."""

import re
from dataclasses import dataclass
from typing import NamedTuple

GENERATION_LENGTH = 16

_MBID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ABSENT = b'"absent":true}'
_REDIRECT = b'"redirect":"'
_DOCUMENT = b'"document":'


class EntityKey(NamedTuple):
    """One entry of the cache."""

    entity_type: str
    mbid: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """An MBID of an entity that was merged into this one. A redirect never goes stale with the entity's own changes,
    which only name the MBID that it has now; a copy of its document would."""

    mbid: str


# What is known of an MBID: a JSON document, where it was merged to, or that there is no such entity.
Known = bytes | Redirect | None


@dataclass(frozen=True, slots=True)
class Cached:
    """An entry that is there: a miss is None."""

    known: Known


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to store one entry; void once the entry or its whole type was invalidated, or another holds it."""

    token: str
    generation: str


def is_mbid(text: str) -> bool:
    """As Postgres writes it: lower case, with hyphens."""
    return _MBID.fullmatch(text) is not None


def encode(generation: str, known: Known) -> bytes:
    """The entry as a JSON object; its generation comes first, at a fixed place."""
    prefix = f'{{"generation":"{generation}",'.encode()
    match known:
        case None:
            return prefix + _ABSENT
        case Redirect(mbid):
            return prefix + _REDIRECT + mbid.encode() + b'"}'
        case _:
            return prefix + _DOCUMENT + known + b"}"


def decode(generation: bytes | None, raw: bytes | None) -> Cached | None:
    """None unless the entry is of this generation; what we did not write is a miss too."""
    if generation is None or raw is None:
        return None
    prefix = b'{"generation":"' + generation + b'",'
    if len(generation) != GENERATION_LENGTH or not raw.startswith(prefix):
        return None
    body = raw[len(prefix) :]
    if body.startswith(_DOCUMENT) and body.endswith(b"}"):
        return Cached(body[len(_DOCUMENT) : -1])
    if body.startswith(_REDIRECT) and body.endswith(b'"}'):
        return Cached(Redirect(body[len(_REDIRECT) : -2].decode(errors="replace")))
    return Cached(None) if body == _ABSENT else None


class Names:
    """Our keys under a namespace. Beside each entry is its lease; each entity type has its generation.

    `MB:entity:artist:<mbid>`, `MB:entity:artist:<mbid>:lease`, `MB:entity:artist:generation`.
    """

    def __init__(self, namespace: str) -> None:
        self._prefix = f"{namespace}:entity"

    def entry(self, key: EntityKey) -> str:
        return f"{self._prefix}:{key.entity_type}:{key.mbid}"

    def lease(self, key: EntityKey) -> str:
        return f"{self._prefix}:{key.entity_type}:{key.mbid}:lease"

    def generation(self, entity_type: str) -> str:
        return f"{self._prefix}:{entity_type}:generation"
