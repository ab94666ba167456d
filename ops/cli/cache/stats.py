"""`mbevents cache stats`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from events.errors import UnreachableError
from ops.cli.common import AsJson, runtime
from ops.cli.output import put, put_json, put_table, told_meanwhile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.caches.stats import Cache, Server
    from workers.caches.statistics.core import Statistic


def register(app: typer.Typer) -> None:
    app.command()(stats)


def stats(as_json: AsJson = False) -> None:
    """Show what the caches have, how their Redis are doing, and the statistics.

    Exits with 6 when one of them does not answer.
    """
    from ops.caches.stats import gather
    from workers.leased.service import StoreUnavailableError

    with runtime(database=False) as parts, told_meanwhile("Counting the keys of the caches") as progress:
        caches, servers = gather(parts, progress)
        try:
            statistics = parts.statistics.read()
        except StoreUnavailableError:
            statistics = []
    if as_json:
        put_json(_as_json(caches, servers, statistics))
    else:
        _put(caches, servers, statistics)
    if any(server.problem for server in servers):
        raise typer.Exit(UnreachableError.exit_code)


def _as_json(
    caches: "Sequence[Cache]", servers: "Sequence[Server]", statistics: "Sequence[Statistic]"
) -> dict[str, Any]:
    return {"caches": caches, "servers": servers, "statistics": {each.name: each for each in statistics}}


def _put(caches: "Sequence[Cache]", servers: "Sequence[Server]", statistics: "Sequence[Statistic]") -> None:
    rows: list[tuple[object, ...]] = []
    for cache in caches:
        if cache.problem is None:
            rows.append((cache.name, "all", cache.entries, cache.leases, cache.tags))
            rows += ((cache.name, kind, number, None, None) for kind, number in sorted(cache.kinds.items()))
    put_table(("CACHE", "KIND", "ENTRIES", "LEASES", "TAGS"), rows)
    put("")
    put_table(
        ("REDIS", "OF", "KEYS", "MIB", "AT MOST", "POLICY", "EVICTED", "HITS", "MISSES"),
        [_of_server(server) for server in servers],
    )
    put("")
    now = datetime.now(UTC)
    put_table(
        ("STATISTIC", "VALUE", "AGE", "TOOK", "EXPIRED"),
        [
            (
                each.name,
                each.value,
                each.counted_at and f"{(now - each.counted_at).total_seconds():.0f} s",
                None if each.seconds is None else f"{each.seconds:.3f} s",
                "yes" if each.expired else "no",
            )
            for each in statistics
        ],
    )


def _of_server(server: "Server") -> tuple[object, ...]:
    names = ", ".join(server.caches)
    if server.problem is not None:
        return (server.address, names, f"does not answer: {server.problem}", *("" for _ in range(6)))
    return (
        server.address,
        names,
        server.keys,
        f"{(server.bytes or 0) / 2**20:.1f}",
        f"{(server.most_bytes or 0) / 2**20:.0f}" if server.most_bytes else "no bound",
        server.policy,
        server.evicted,
        server.hits,
        server.misses,
    )
