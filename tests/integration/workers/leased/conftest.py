from tests.integration.workers.caches.conftest import clients

__all__ = ["clients"]
