"""One captured row change, as the database's triggers wrote it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Row = Mapping[str, Any]


class RowChange(NamedTuple):
    """A change of one row, in commit order by transaction and by `seqid` inside one.

    `table` is `schema.table` as `quote_ident` writes it (`musicbrainz.artist`, `cover_art_archive.cover_art`), or
    `outbox.<kind>` for what is not replicated: edit, vote, edit_note, editor, packet, truncate.
    `old` and `new` are whole rows (for the outbox: only the columns that may be told); `old` is None for an insert,
    `new` for a delete. `xid` is the 64-bit transaction id, `time` the transaction's start (RFC 3339, UTC).
    """

    seqid: int
    xid: int
    table: str
    op: Literal["i", "u", "d"]
    old: Row | None
    new: Row | None
    time: str
