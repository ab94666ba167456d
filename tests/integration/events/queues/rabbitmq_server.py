"""A private RabbitMQ on loopback, from Debian's `rabbitmq-server`, for one run of the tests."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pika
import pika.exceptions

from tests.ports import free_port

# Before the one on PATH: on Debian, run by root, that one becomes another user, who cannot read the tests' folder.
DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_SECONDS = 60.0


def find() -> Path | None:
    """The server's program, if it and Erlang's port mapper are installed."""
    on_path = shutil.which("rabbitmq-server")
    server = DEBIAN if DEBIAN.exists() else Path(on_path) if on_path else None
    return server if shutil.which("epmd") else None


@contextmanager
def running(server: Path, home: Path) -> Iterator[str]:
    """URL of a server that keeps everything below `home` and listens nowhere beyond loopback."""
    amqp, distribution, mapper = (free_port() for _ in range(3))
    config = home / "rabbitmq.conf"
    config.write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\ndisk_free_limit.absolute = 10MB\nlog.console.level = error\n"
        "raft.wal_max_size_bytes = 8000000\n"
    )
    environment = {
        **os.environ,
        "HOME": str(home),  # Erlang's cookie
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(mapper),
        "RABBITMQ_NODENAME": f"mbevents-test-{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": str(home / "no-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "no-plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
    }
    with (home / "output").open("wb") as output:
        # Erlang's port mapper is started here, because one that RabbitMQ starts stays when RabbitMQ has ended.
        port_mapper = subprocess.Popen(["epmd"], env=environment, stdout=output, stderr=output)
        process = subprocess.Popen(
            [server], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"amqp://guest:guest@127.0.0.1:{amqp}/"
        _wait(url, process, home / "output")
        yield url
    finally:
        _end(process)
        port_mapper.terminate()
        port_mapper.wait(10)


def _wait(url: str, server: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            pika.BlockingConnection(pika.URLParameters(url)).close()
        except (pika.exceptions.AMQPError, OSError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ does not start. It said:\n{output.read_text()[-3000:]}") from None
            time.sleep(0.2)
        else:
            return


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(20)
    # Its helpers (a shell, a port mapper's client) are in its session.
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(10)
