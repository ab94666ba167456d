"""Retention: what has had its time leaves the store."""

from datetime import datetime

from workers.replication.store.core import PacketStore, expired


def retain(store: PacketStore, *, now: datetime, days: int | None, count: int | None) -> list[str]:
    """Delete what `expired` says, in its order; their names. The next run goes on where a killed one stopped."""
    gone = expired(store.list(), now=now, days=days, count=count)
    for name in gone:
        store.delete(name)
    return gone
