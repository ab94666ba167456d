from tests.integration.events.pubsub.conftest import log, log_database

__all__ = ["log", "log_database"]
