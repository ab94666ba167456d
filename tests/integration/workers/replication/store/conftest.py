"""Stores of each kind."""

from pathlib import Path

import pytest

from workers.replication.store import PacketStore, open_store


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PacketStore:
    """An empty store, of each kind."""
    if request.param == "file":
        return open_store(f"file://{tmp_path}/store/packets")
    return open_store(f"s3://{request.getfixturevalue('bucket')}/some/packets")
