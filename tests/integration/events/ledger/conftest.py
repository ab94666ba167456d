"""The ledger's tables, and brokers."""

from tests.integration.events.queues.conftest import ledger_url, pool, quick_stop, redis_broker

__all__ = ["ledger_url", "pool", "quick_stop", "redis_broker"]
