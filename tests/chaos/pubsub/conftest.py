from tests.chaos.redis.conftest import faulty, one_for_all, start_redis
from tests.integration.events.pubsub.conftest import log, log_database

__all__ = ["faulty", "log", "log_database", "one_for_all", "start_redis"]
