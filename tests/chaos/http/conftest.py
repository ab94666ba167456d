from tests.chaos.redis.conftest import faulty, one_for_all

__all__ = ["faulty", "one_for_all"]
