"""The database's side of the export."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from events.errors import MbeventsError, UsageError
from events.locks import EXPORT_KEY
from events.sql import queries
from events.tables import NOT_IN_PACKETS
from workers.replication.export.core import Built, Cut, File, Outlook, Published, Shape

log = structlog.get_logger(__name__)

# Lines that are handed on at a time: enough to be quick, few enough to be nothing in memory.
_LINES = 500
# Also times in a packet are told in UTC, whatever the server's setting.
_OPTIONS = "-c timezone=UTC -c datestyle=ISO -c statement_timeout=0 -c client_encoding=UTF8"


class PostgresOutbox:
    """Packets on their way out, and their rows. `opened` is the way to one, which nobody else has meanwhile."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._sql = queries("workers.replication.export")

    def unpublished(self) -> Cut | None:
        """The packet that is on its way."""
        row = self._connection.execute(self._sql["unpublished"]).fetchone()
        if row is None:
            return None
        fields = [*row[:-1], _files(row[-1] or [])]
        fields[5] = tuple(fields[5])
        return Cut(*fields)

    def begin(self) -> bool:
        """Set the sequence to 0 if it was never set; what is pending then is in the copies that mirrors begin with.

        Raises MbeventsError.
        """
        with self._snapshot():
            row = self._connection.execute(self._sql["control"]).fetchone()
            if row is None:
                raise MbeventsError(
                    "The table musicbrainz.replication_control is empty: this database was never set up for "
                    "replication. Insert its row, with the schema sequence."
                )
            if row[1] is not None:
                return False
            bounds = self._ticked()
            self._connection.execute(self._sql["discard"], bounds)
            self._connection.execute(self._sql["discard_times"], bounds)
            self._connection.execute(self._sql["begin_replication"])
            self._connection.execute(self._sql["forget_own"])
        log.info("replication_begins", sequence=0)
        return True

    def cut(self) -> Cut | None:
        """Decide what the next packet is; None when there is nothing to export."""
        with self._snapshot():
            bounds = self._ticked()
            if not self._value("pending", bounds):
                return None
            self._connection.execute(self._sql["cut"], bounds)
        return self.unpublished()

    def outlook(self) -> Outlook:
        """See `Exporter.outlook`: of all that is committed, for an export begins by having it ticked."""
        row = self._connection.execute(self._sql["outlook"], {"stripped": list(NOT_IN_PACKETS)}).fetchone()
        assert row is not None
        outlook = Outlook(*row)
        if outlook.changes:
            # The packet's own change of replication_control comes to them.
            outlook = outlook._replace(transactions=outlook.transactions + 1, changes=outlook.changes + 1)
        return outlook

    @contextmanager
    def rows(self, cut: Cut) -> Iterator["PostgresRows"]:
        """The rows of a packet, which are the same until it is published."""
        with self._snapshot():
            yield PostgresRows(self._connection, cut)

    def built(self, cut: Cut, built: Built) -> None:
        """Note what a packet's files are."""
        known = {"sequence": cut.sequence, "transactions": built.transactions, "changes": built.changes}
        files = orjson.dumps([file._asdict() for file in built.files]).decode()
        self._connection.execute(self._sql["built"], {**known, "files": files})

    def publish(self, cut: Cut) -> Published:
        """The packet is in the store: its rows go, the sequence advances, and it is told, all in one transaction."""
        bounds = {"until": cut.until, "running": list(cut.running)}
        sequence = {"sequence": cut.sequence}
        with self._connection.transaction():
            if self._connection.execute(self._sql["advance"], sequence).rowcount != 1:
                raise MbeventsError(
                    f"Packet {cut.sequence} cannot follow: somebody else has changed replication_control's "
                    "current_replication_sequence. Only one program may export from this database."
                )
            self._connection.execute(self._sql["forget_own"])
            self._connection.execute(self._sql["discard"], bounds)
            self._connection.execute(self._sql["discard_times"], bounds)
            self._connection.execute(self._sql["forget_ticks"], {"tick": cut.tick})
            row = self._connection.execute(self._sql["published"], sequence).fetchone()
            assert row is not None
            fields = [*row[:-1], _files(row[-1])]
            published = Published(*fields)
            self._connection.execute(self._sql["tell"], {"data": orjson.dumps(published.to_event()).decode()})
        return published

    def _ticked(self) -> dict[str, Any]:
        row = self._connection.execute(self._sql["ticked"]).fetchone()
        if row is None:
            raise UsageError("The bridge was never installed here. Run `mbevents db install`.")
        return {"until": row[0], "running": row[1], "stripped": list(NOT_IN_PACKETS)}

    def _value(self, query: str, parameters: Mapping[str, Any]) -> Any:
        row = self._connection.execute(self._sql[query], parameters).fetchone()
        assert row is not None
        return row[0]

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """A transaction that sees one moment."""
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield


class PostgresRows:
    """See `workers.replication.export.build.Rows`; lives in one transaction."""

    def __init__(self, connection: "psycopg.Connection[Any]", cut: Cut) -> None:
        self._connection = connection
        self._sql = queries("workers.replication.export")
        bounds: dict[str, Any] = {"until": cut.until, "running": list(cut.running), "tick": cut.tick}
        bounds["stripped"] = list(NOT_IN_PACKETS)
        execute = connection.execute
        execute("SET LOCAL work_mem = '64MB'")
        execute(self._sql["make_tables"])
        execute(self._sql["order_transactions"], bounds)
        execute(self._sql["order_rows"], bounds)
        if self._value("contradicted"):
            execute(self._sql["renumber_rows"])
        self.transactions: int = self._value("counted")
        # The order is made of narrow rows; then each wide one is looked up, instead of all of them being sorted.
        execute("SET LOCAL enable_hashjoin = off")
        execute("SET LOCAL enable_mergejoin = off")

    def shapes(self) -> dict[str, Shape]:
        return {
            table: Shape(tuple(key), special)
            for table, key, special in self._connection.execute(self._sql["shapes"]).fetchall()
        }

    def data(self) -> Iterator[list[bytes]]:
        return self._lines("rows")

    def times(self) -> Iterator[list[bytes]]:
        return self._lines("times")

    def _lines(self, query: str) -> Iterator[list[bytes]]:
        with self._connection.cursor() as cursor, cursor.copy(self._sql[query]) as copy:
            lines: list[bytes] = []
            for line in copy:
                lines.append(bytes(line))
                if len(lines) == _LINES:
                    yield lines
                    lines = []
            yield lines

    def _value(self, query: str) -> Any:
        row = self._connection.execute(self._sql[query]).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def opened(database_url: str) -> Iterator[PostgresOutbox | None]:
    """The outbox, for one exporter at a time: None while another has it. The lock ends with the connection."""
    url = make_conninfo(database_url, application_name="mbevents export", connect_timeout="10", options=_OPTIONS)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(queries("workers.replication.export")["lock"], {"key": EXPORT_KEY}).fetchone()
        yield PostgresOutbox(connection) if row is not None and row[0] else None


def _files(raw: list[dict[str, Any]]) -> tuple[File, ...]:
    return tuple(File(**each) for each in raw)
