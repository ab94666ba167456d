"""Events before they have a position, with their deterministic ids."""

from hashlib import blake2b
from typing import Any, NamedTuple

from events.derivation.state import KIND_BITS, Transaction
from schemas.envelope import Draft


class Ordered(NamedTuple):
    """A draft and its place in its transaction; `rank` orders what one row caused."""

    first: int
    rank: int
    draft: Draft


class Resolved:
    """What was looked up for a batch besides the MBIDs of touched entities, which are in the touches themselves."""

    def __init__(self) -> None:
        self.mbids: dict[int, str] = {}
        self.urls: dict[int, str] = {}
        self.unresolved = 0


class Drafting:
    """Makes the drafts of one transaction."""

    def __init__(self, source: str, tx: Transaction, resolved: Resolved) -> None:
        self.tx = tx
        self._source = source
        self._resolved = resolved

    def draft(self, first: int, rank: int, name: str, subject: str, data: dict[str, Any]) -> Ordered:
        """The id depends on nothing but the change and the database, so a replay makes the same."""
        tx = self.tx
        digest = blake2b(f"{self._source}|{tx.xid}|{first}|{name}|{subject}".encode(), digest_size=16)
        return Ordered(first, rank, Draft(digest.hexdigest(), name, subject, tx.time, tx.xid, data))

    def mbid(self, kind: int, row_id: int) -> str | None:
        """Of an entity as this transaction knows it, else as the database does; None counts as unresolved."""
        key = row_id << KIND_BITS | kind
        touch = self.tx.entities.get(key)
        found = self._resolved.mbids.get(key) if touch is None or touch.gid is None else touch.gid
        if found is None:
            self.unresolved()
        return found

    def url(self, row_id: int) -> str | None:
        """The text of a URL; None counts as unresolved."""
        found = self.tx.extras.urls.get(row_id) or self._resolved.urls.get(row_id)
        if found is None:
            self.unresolved()
        return found

    def unresolved(self) -> None:
        """Count something that cannot be told."""
        self._resolved.unresolved += 1
