"""A master and its mirror."""

from tests.integration.workers.replication.conftest import (  # noqa: F401 (fixtures of the tests here)
    master,
    master_template,
    master_url,
    mirror,
    mirror_template,
    mirror_url,
)
