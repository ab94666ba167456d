"""Processes of our own that are killed: forked from one that has imported what all of them need."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
# For all tests at once: there is one such server for each process that runs tests, and it preloads when it starts.
FORKS.set_forkserver_preload(
    ["tests.chaos.bridge.drain", "tests.chaos.replication.export_process", "tests.chaos.replication.sync_process"]
)
