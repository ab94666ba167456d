"""`mbevents replication …` in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.integration.workers.replication.sync.feed_server import TOKEN, FeedServer

OURS = ("DATABASE_URL", "REDIS_", "BROKER_URL", "MBEVENTS_", "METRICS_", "SENTRY_", "LOG_", "REPLICATION_", "PACKET_")


def environment(mirror_url: str, home: Path, **more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ours = {"DATABASE_URL": mirror_url, "MBEVENTS_HOME": str(home), "REPLICATION_TYPE": "RT_MIRROR"}
    return {**plain, **ours, "REPLICATION_ACCESS_TOKEN": TOKEN, **more}


def start(environ: Mapping[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "ops.cli", "replication", *arguments],
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with start(environ, *arguments) as process:
        try:
            out, err = process.communicate(timeout=25)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(process.communicate()) from None
        return process.returncode, out, err


def sync(feed: FeedServer, environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    return run(environ, "sync", "--base-url", feed.url, *arguments)
