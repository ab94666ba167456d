"""`mbevents replication verify`: whether a mirror holds what its master does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import AsJson, Yes, confirm, plural, runtime
from ops.cli.output import mark, put, put_json, say, told_meanwhile

if TYPE_CHECKING:
    from ops.wiring import Runtime
    from schemas.replication import Digest
    from workers.replication.verify.core import Difference
    from workers.replication.verify.service import Compared, Report

MasterUrl = Annotated[
    str | None,
    typer.Option(help="The master's database (default: REPLICATION_MASTER_URL): finds the rows."),
]
DigestFile = Annotated[
    Path | None,
    typer.Option("--digest", help="A digest-N.json (default: of the mirror's packet, from the store or the feed)."),
]
Tables = Annotated[
    list[str] | None, typer.Option("--tables", help="Only these: artist, 'l_artist_*', 'statistics.*' (repeatable).")
]
Repair = Annotated[bool, typer.Option("--repair", help="Write the master's rows into the mirror.")]
Rows = Annotated[int, typer.Option(min=0, help="Most rows of a table to list.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds for the mirror to come to the master's packet.")]


def register(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    *,
    master_url: MasterUrl = None,
    digest: DigestFile = None,
    tables: Tables = None,
    repair: Repair = False,
    rows: Rows = 20,
    wait: Wait = 60.0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Compare a mirror with its master.

    Without the master's database, with the digest that the master published beside a packet: tells the tables and
    ranges of keys that differ. With it, also the rows. Exit code 1 if something differs, 3 if the schema does, 5 if
    they could not be compared.
    """
    from events.errors import UsageError
    from workers.replication.verify.service import Options, compare, compare_with_master

    with runtime(redis=False) as parts:
        kind = parts.settings.replication_type
        if kind != "RT_MIRROR":
            raise UsageError(f"REPLICATION_TYPE is {kind}: only a mirror (RT_MIRROR) is compared with its master.")
        master = master_url or _configured(parts)
        if digest is not None and master_url is None:
            master = None
        if repair and master is None:
            raise UsageError("--repair needs the master's database: --master-url, or REPLICATION_MASTER_URL.")
        if repair:
            confirm(yes, "Rows of this database that differ from the master's are overwritten.")
        with told_meanwhile("Connecting") as progress:
            options = Options(tables=tables or (), rows=rows, repair=repair, wait=wait, progress=progress)
            if master is not None:
                report = compare_with_master(parts.connection, lambda: _connected(master), options)
            else:
                report = compare(parts.connection, _digest(parts, digest), options)
    if as_json:
        put_json(report.to_dict())
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _configured(parts: "Runtime") -> str | None:
    url = parts.settings.replication_master_url
    return None if url is None else url.get_secret_value()


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    import psycopg

    from events.errors import UnreachableError, UsageError
    from ops.private import described
    from ops.urls import database_name, hidden

    try:
        database_name(url)
    except ValueError as error:
        raise UsageError(f"--master-url (or REPLICATION_MASTER_URL) is wrong: {error}.") from None
    try:
        connection: psycopg.Connection[Any] = psycopg.connect(
            url, autocommit=True, connect_timeout=10, application_name="mbevents verify"
        )
    except psycopg.Error as error:
        raise UnreachableError(
            f"The master's database ({hidden(url)}) cannot be reached: {described(error).rstrip('.')}. "
            "Check --master-url or REPLICATION_MASTER_URL."
        ) from None
    with connection:
        yield connection


def _digest(parts: "Runtime", path: Path | None) -> "Digest":
    from events.errors import NotFoundError
    from workers.replication.packet.names import digest_name
    from workers.replication.verify.service import read_digest, sequence

    if path is not None:
        try:
            with path.open("rb") as file:
                return read_digest(iter(lambda: file.read(1 << 20), b""), path.name)
        except OSError as error:
            raise NotFoundError(f"{path} cannot be read: {error.strerror}.") from None
    number = sequence(parts.connection)
    name = digest_name(number)
    try:
        return read_digest(parts.packet_store.read(name), name)
    except NotFoundError:
        pass
    fetched = _fetched(parts, number)
    if fetched is not None:
        return read_digest([fetched], name)
    there = [each.name for each in parts.packet_store.list() if each.name.startswith("digest-")]
    raise NotFoundError(
        f"There is no {name} in {parts.settings.packet_store_url}"
        + (f" (there are {', '.join(there[-5:])})" if there else "")
        + f", nor in the feed at {parts.settings.replication_base_url}"
        + ". Sync up to a packet that has a digest (a master makes one every REPLICATION_DIGEST_INTERVAL packets), "
        "give one with --digest, or name the master's database with --master-url."
    )


def _fetched(parts: "Runtime", number: int) -> bytes | None:
    """The digest from the feed that is synced from; without a token, MetaBrainz's own is not asked in vain."""
    from ops.version import version
    from workers.replication.sync.core import DEFAULT_BASE, parsed_base
    from workers.replication.verify.fetch import fetched_digest

    base, token = parsed_base(parts.settings.replication_base_url), parts.settings.replication_access_token
    if token is None and base.url == DEFAULT_BASE:
        return None
    secret = None if token is None else token.get_secret_value()
    return fetched_digest(base, secret, number, agent=f"mbevents/{version()}")


def _print(report: "Report") -> None:
    for table in report.tables:
        if not table.same:
            _print_table(table)
    good = [table for table in report.tables if table.ok]
    if good:
        rows = sum(table.expected for table in good)
        verb = "holds" if len(good) == 1 else "hold"
        put(
            f"{mark(True)}  {plural(len(good), 'table')} with {plural(rows, 'row')} {verb} what the master does after "
            f"packet {report.sequence}"
        )
    bad = len(report.tables) - len(good)
    if bad:
        put(f"{mark(False)}  {plural(bad, 'table')} {'does' if bad == 1 else 'do'} not")
    if report.absent:
        say(f"Not on this mirror: {', '.join(report.absent)}.")
    say(f"Not compared, as no packet carries them: {', '.join(report.left_out)}.")


def _print_table(table: "Compared") -> None:
    what = f"{plural(table.expected, 'row')} expected, {table.found:,} found"
    if table.ok:
        put(f"repaired  {table.table}: {plural(table.repaired, 'row')} written; before, {what}")
    else:
        put(f"{mark(False)}  {table.table}: {table.reason or 'differs'}; {what}")
    for row in table.differences:
        put(f"       {_row(row)}")
    if table.more:
        put("       … and others (--rows)")
    for each in table.ranges if not table.differences else ():
        if each.low is not None and each.high is not None:
            where = f"{table.key} from {each.low:,} to {each.high - 1:,}"
            if table.uuid:
                where = f"{table.key} from {each.low:08x}… to {each.high - 1:08x}…"
            put(f"       {where}: {plural(each.expected, 'row')} expected, {each.found:,} found")
    if table.repaired and not table.ok:
        put(f"       {plural(table.repaired, 'row')} written")


def _row(row: "Difference") -> str:
    key = ", ".join(f"{name} = {_value(value)}" for name, value in row.key.items())
    if row.kind == "changed" and row.expected is not None and row.found is not None:
        expected, found = row.expected, row.found
        return f"changed {key}: " + "; ".join(
            f"{name} is {_value(found[name])} instead of {_value(expected[name])}" for name in row.columns
        )
    return f"{row.kind} {key}"


def _value(value: str | None) -> str:
    return "null" if value is None else repr(value if len(value) <= 60 else value[:60] + "…")
