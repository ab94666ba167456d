from tests.own_redis import server

__all__ = ["server"]
