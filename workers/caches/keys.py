"""The names of entities in the cache, and what is kept of one."""

import re
from dataclasses import dataclass
from typing import NamedTuple

_MBID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class EntityKey(NamedTuple):
    """One entry of the cache."""

    entity_type: str
    mbid: str

    @property
    def name(self) -> str:
        """In the store; and as a tag of what shows the entity."""
        return f"{self.entity_type}:{self.mbid}"


@dataclass(frozen=True, slots=True)
class Redirect:
    """An MBID of an entity that was merged into this one. A redirect never goes stale with the entity's own changes,
    which only name the MBID that it has now; a copy of its document would."""

    mbid: str


# What is known of an MBID: a JSON document (an object), where it was merged to, or that there is no such entity.
Known = bytes | Redirect | None


@dataclass(frozen=True, slots=True)
class Cached:
    """An entry that is there: a miss is None."""

    known: Known


def is_mbid(text: str) -> bool:
    """As Postgres writes it: lower case, with hyphens."""
    return _MBID.fullmatch(text) is not None


def encode(known: Known) -> bytes | None:
    """As it is kept: a redirect is a JSON string, where a document is an object."""
    return b'"' + known.mbid.encode() + b'"' if isinstance(known, Redirect) else known


def decode(body: bytes | None) -> Known:
    if body is not None and body.startswith(b'"'):
        return Redirect(body[1:-1].decode(errors="replace"))
    return body
