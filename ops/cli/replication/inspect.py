"""`mbevents replication inspect`: what a packet holds."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put, put_json, put_table, say, told_meanwhile

if TYPE_CHECKING:
    from workers.replication.inspection import Contents, PacketRow

_PIECE = 1 << 20

Packet = Annotated[str, typer.Argument(help="A file, or a packet of the store by its name or number.")]
Rows = Annotated[bool, typer.Option("--rows", help="Print the changes instead.")]
Limit = Annotated[int | None, typer.Option(min=1, help="With --rows: only so many.")]


def register(app: typer.Typer) -> None:
    app.command()(inspect)


def inspect(packet: Packet, rows: Rows = False, limit: Limit = None, as_json: AsJson = False) -> None:
    """Print what a packet holds.

    Its members, and its changes by table; with --rows the changes themselves, one JSON object a line with --json.
    """
    from events.errors import UsageError
    from workers.replication import inspection

    if limit is not None and not rows:
        raise UsageError("--limit is for --rows.")
    chunks, name = _opened(packet)
    if rows:
        for row in itertools.islice(inspection.rows(chunks, packet=name), limit):
            put(row.to_json() if as_json else _line(row))
        return
    with told_meanwhile("Reading") as progress:
        found = inspection.contents(_counted(chunks, progress), packet=name)
    if as_json:
        put_json({"packet": name, **found.to_dict()})
    else:
        _print(found)


def _opened(packet: str) -> tuple[Iterator[bytes], str]:
    from events.errors import NotFoundError, UsageError
    from workers.replication.packet.names import packet_name, parse

    path = Path(packet)
    if path.is_file():
        return _pieces(path), packet
    name = packet_name(int(packet), 2) if packet.isascii() and packet.isdigit() and len(packet) < 11 else packet
    if parse(name) is None:
        if path.exists():
            raise UsageError(f"{packet} is not a file.")
        raise NotFoundError(f"There is no file {packet!r:.200}, and it is not the name or number of a packet.")
    with runtime(database=False, redis=False) as parts:
        return parts.packet_store.read(name), name


def _counted(chunks: Iterable[bytes], progress: Callable[[str], None]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(f"{done:,} bytes read")


def _pieces(path: Path) -> Iterator[bytes]:
    from events.errors import UsageError

    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None


def _line(row: "PacketRow") -> str:
    return "  ".join((str(row.seqid), str(row.xid), row.operation, _safe(row.table), _safe(_json(row.data))))


def _json(data: object) -> str:
    import msgspec

    return msgspec.json.encode(data).decode()


def _print(found: "Contents") -> None:
    put_table(("MEMBER", "BYTES"), [(_safe(name), f"{size:,}") for name, size in found.members])
    put("")
    for name in ("TIMESTAMP", "REPLICATION_SEQUENCE", "SCHEMA_SEQUENCE", "DBMIRROR_VERSION"):
        if name in found.texts:
            put(f"{name}: {_safe(found.texts[name])[:100]}")
    put("")
    put_table(
        ("TABLE", "INSERTS", "UPDATES", "DELETES"),
        [
            (_safe(table), *(f"{ops.get(op, 0):,}" for op in ("i", "u", "d")))
            for table, ops in sorted(found.tables.items())
        ],
    )
    agrees = "; the manifest agrees" if found.manifest else ""
    say(f"{plural(found.changes, 'change')} in {plural(found.transactions, 'transaction')}{agrees}.")


def _safe(text: str) -> str:
    """What a packet says must not speak to the terminal."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
