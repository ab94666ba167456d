import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

import ops.stack
from events.errors import UnreachableError, UsageError, VersionMismatchError
from ops.stack import control, place
from ops.stack.errors import EmbeddedServerError
from ops.stack.postgres import wheel_folder
from tests.integration.stack.conftest import missing

USER = """
import sys, time
from pathlib import Path
import ops.stack
stack = ops.stack.start(Path(sys.argv[1]), durable=False)
print(stack.postgres.pid, stack.redis.pid, flush=True)
time.sleep(600)
"""


def start(home: Path, told: list[str] | None = None, *, postgres: bool = True, redis: bool = True) -> ops.stack.Stack:
    progress: Callable[[str], None] = (lambda _: None) if told is None else told.append
    return ops.stack.start(home, postgres=postgres, redis=redis, durable=False, progress=progress)


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_of(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(home) in part for part in line):
            found.append(" ".join(line))
    return found


def put(stack: ops.stack.Stack) -> None:
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")


def is_there(stack: ops.stack.Stack) -> bool:
    with psycopg.connect(stack.database_url("postgres")) as connection:
        return connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_stopped_cleanly_and_started_again_on_the_same_data(home: Path) -> None:
    with start(home) as stack:
        put(stack)
        client = redis.Redis.from_url(stack.redis_url(3))
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.close()
    assert processes_of(home) == []
    assert "database system is shut down" in (home / "postgres.log").read_text()
    told: list[str] = []
    with start(home, told) as stack:
        assert is_there(stack)
    assert not any("killed" in line for line in told)


def test_several_homes_at_once_do_not_meet(home: Path) -> None:
    other = home.with_name("other")
    with start(home) as one, start(other) as two:
        put(one)
        with psycopg.connect(two.database_url("postgres")) as connection:
            assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
    assert processes_of(home.parent) == []


def test_the_last_of_several_users_stops_the_servers(home: Path) -> None:
    told: list[str] = []
    first = start(home)
    second = start(home, told)
    assert [line for line in told if "already running" in line]
    first.close()
    put(second)
    second.close()
    assert processes_of(home) == []


def test_users_that_start_at_the_same_time_share_one_server(home: Path) -> None:
    stacks: list[ops.stack.Stack] = []
    threads = [threading.Thread(target=lambda: stacks.append(start(home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stack.postgres.pid for stack in stacks if stack.postgres}) == 1
    assert len(stacks) == 4
    for stack in stacks:
        stack.close()
    assert processes_of(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_servers_of_a_killed_user_are_stopped(home: Path, number: signal.Signals) -> None:
    user = subprocess.Popen([sys.executable, "-c", USER, str(home)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert user.stdout is not None
    pids = [int(pid) for pid in user.stdout.readline().split()]
    assert len(pids) == 2
    user.send_signal(number)
    user.wait()
    user.stdout.close()
    assert wait_until(lambda: all(is_gone(pid) for pid in pids))
    assert wait_until(lambda: processes_of(home) == [])
    assert "database system is shut down" in (home / "postgres.log").read_text()


def test_the_keeper_leaves_the_servers_to_who_still_uses_them(home: Path) -> None:
    user = subprocess.Popen([sys.executable, "-c", USER, str(home)], stdout=subprocess.PIPE)
    assert user.stdout is not None
    user.stdout.readline()
    user.stdout.close()
    with start(home) as stack:
        user.kill()
        user.wait()
        # Longer than the keeper's interval.
        time.sleep(2.5)
        put(stack)
    assert wait_until(lambda: processes_of(home) == [])


def test_killed_servers_are_started_again_and_it_is_told(home: Path) -> None:
    stack = start(home)
    put(stack)
    assert stack.postgres is not None
    assert stack.redis is not None
    pids = [stack.postgres.pid, stack.redis.pid]
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: all(pid is None or is_gone(pid) for pid in pids))
    told: list[str] = []
    with start(home, told) as again:
        assert is_there(again)
    stack.close()
    assert any("PostgreSQL was killed" in line for line in told)
    assert any("Redis was killed" in line for line in told)


def test_a_redis_that_hangs_is_told_soon_from_one_that_does_not_start(home: Path) -> None:
    with start(home, postgres=False) as stack:
        assert stack.redis is not None
        pid = stack.redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(UnreachableError, match=rf"\(pid {pid}\), but does not answer: it hangs"):
                start(home, postgres=False)
            assert time.monotonic() - began < 10
        finally:
            os.kill(pid, signal.SIGCONT)
        with start(home, postgres=False) as again:
            assert again.redis is not None
            assert again.redis.pid == pid


def test_a_stale_pid_that_is_now_somebody_elses_is_no_server(home: Path) -> None:
    with start(home, redis=False) as stack:
        put(stack)
    pid_file = home / "postgres" / "postmaster.pid"
    owner = (home / "postgres").stat()
    pid_file.write_text(f"{os.getpid()}\n{home / 'postgres'}\n1\n5432\n{home / 'run'}\n\n  1 1\nready   \n")
    os.chown(pid_file, owner.st_uid, owner.st_gid)
    told: list[str] = []
    with start(home, told, redis=False) as stack:
        assert is_there(stack)
    assert any(f"PostgreSQL was killed (pid {os.getpid()})" in line for line in told)


def test_a_half_made_data_directory_is_set_aside_and_told(home: Path) -> None:
    with start(home, redis=False):
        pass
    (home / "postgres" / "global" / "pg_control").unlink()
    told: list[str] = []
    with start(home, told, redis=False) as stack:
        put(stack)
    assert any("only half a data directory: moved to" in line for line in told)
    assert list(home.glob("postgres.broken-*"))


def test_a_killed_initdb_is_made_again_and_told(home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    unfinished = home / "postgres.unfinished"
    (unfinished / "base").mkdir(parents=True)
    told: list[str] = []
    with start(home, told, redis=False) as stack:
        put(stack)
    assert any("An earlier start was killed while it made" in line for line in told)
    assert not unfinished.exists()


def test_data_of_another_major_version_are_refused_and_kept(home: Path) -> None:
    with start(home, redis=False):
        pass
    (home / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(
        VersionMismatchError, match=r"made by PostgreSQL 16, and the installed one is 18.*embedded-postgr"
    ):
        start(home, redis=False)
    assert (home / "postgres" / "global" / "pg_control").exists()


@pytest.mark.parametrize("name", ["with spaces and 'quotes' & é", "long-" + "x" * 180])
def test_a_home_with_an_odd_or_long_path_works(home: Path, name: str) -> None:
    odd = home.with_name(name)
    with start(odd) as stack:
        put(stack)
        client = redis.Redis.from_url(stack.redis_url())
        assert client.ping()
        client.close()
    assert processes_of(odd) == []
    assert not place.socket_folder(odd / "run", ".s.PGSQL.5432").exists()


def test_as_root_a_home_that_the_server_cannot_enter_is_served_from_elsewhere(home: Path) -> None:
    if os.geteuid() != 0:
        assert place.server_user(home / "postgres").uid == os.geteuid()
        return
    home.mkdir(mode=0o700)
    told: list[str] = []
    with start(home, told, redis=False) as stack:
        put(stack)
    assert any(f"cannot reach {home}: PostgreSQL's data are in /var/tmp/mbevents-" in line for line in told)
    with start(home, redis=False) as stack:
        assert is_there(stack)
    assert control.destroy(home)
    assert not place.outside_of(home).exists()


def test_a_server_that_cannot_start_leaves_nothing_running(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stack.redis.find_binary", lambda: Path("/bin/false"))
    with pytest.raises(EmbeddedServerError, match="Redis does not start"):
        start(home)
    assert processes_of(home) == []


def test_a_failed_start_does_not_stop_a_server_that_others_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(home, redis=False) as stack:
        with monkeypatch.context() as patched:
            patched.setattr("ops.stack.redis.find_binary", lambda: Path("/bin/false"))
            with pytest.raises(EmbeddedServerError):
                start(home)
        put(stack)


def test_kept_servers_stay_until_they_are_stopped(home: Path) -> None:
    with start(home) as stack:
        stack.keep()
    status = control.status(home)
    assert (status.kept, status.in_use) == (True, False)
    assert status.postgres_pid is not None
    assert status.redis_pid is not None
    time.sleep(1.5)
    # Killed, they are brought back by whoever comes next, and stay when it goes.
    for pid in (status.postgres_pid, status.redis_pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
    assert control.status(home).redis_pid is None
    with start(home):
        pass
    back = control.status(home)
    assert back.kept
    assert back.postgres_pid not in (None, status.postgres_pid)
    assert back.redis_pid not in (None, status.redis_pid)
    with start(home) as stack, pytest.raises(EmbeddedServerError, match="are in use"):
        control.stop(home)
    # It was asked to stop, so the last user stopped it.
    assert control.status(home).postgres_pid is None
    assert not control.stop(home)


def test_destroy_removes_a_home_and_nothing_that_is_none(home: Path) -> None:
    with start(home):
        pass
    assert control.destroy(home)
    assert not home.exists()
    assert not control.destroy(home)
    home.mkdir()
    (home / "thesis.txt").write_text("precious")
    with pytest.raises(EmbeddedServerError, match="not a home of embedded servers"):
        control.destroy(home)
    assert (home / "thesis.txt").read_text() == "precious"


def python_for(user: place.ServerUser) -> str | None:
    """An interpreter of our version that another user can run: ours may lie in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, *(f"{folder}/{version}" for folder in ("/usr/local/bin", "/usr/bin"))):
        if user.can([path, "--version"]):
            return path
    return None


def test_a_user_who_is_not_root_starts_it_too(home: Path) -> None:
    """As root this runs as `nobody`; else as ourselves, as every other test does."""
    home.mkdir()
    user = place.ServerUser("nobody", 65534, 65534) if os.geteuid() == 0 else place.server_user(home / "postgres")
    user.own(home)
    python = python_for(user)
    if python is None:
        missing(f"User {user.name} can run no {sys.version.split()[0]}: ours, {sys.executable}, is closed to others.")
    script = (
        "import sys\nfrom pathlib import Path\nimport ops.stack\n"
        "with ops.stack.start(Path(sys.argv[1]), durable=False) as stack:\n"
        "    ops.stack.ensure_musicbrainz(stack, progress=print)\n"
        "    print('ready', stack.postgres.url())\n"
    )
    # A patch release before 3.11.3 would need this package for asyncio, which nobody uses here.
    (home.parent / "async_timeout.py").write_text("timeout = None\n")
    paths = [str(each) for each in (Path(ops.__file__).parents[1], Path(psycopg.__file__).parents[1], home.parent)]
    arguments = user.popen_arguments()
    arguments["env"] = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [python, "-W", "error", "-c", script, str(home)], capture_output=True, text=True, check=False, **arguments
    )
    assert done.returncode == 0, done.stderr
    assert "ready" in done.stdout
    assert (home / "postgres").stat().st_uid == user.uid
    assert processes_of(home) == []


def test_the_sample_is_built_once_and_a_killed_build_again(home: Path) -> None:
    with start(home) as stack:
        with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE musicbrainz_unfinished")
        assert ops.stack.ensure_musicbrainz(stack, progress=lambda _: None)
        assert not ops.stack.ensure_musicbrainz(stack, progress=lambda _: None)


def test_the_wheel_is_found() -> None:
    assert (wheel_folder() / "pginstall" / "bin" / "postgres").exists()


def test_destroy_leaves_what_others_put_into_the_folder(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "thesis.txt").write_text("mine")
    with start(home, postgres=False):
        pass
    assert control.destroy(home)
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_a_port_in_the_environment_is_not_the_embedded_servers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "5433")
    with (
        start(home, redis=False) as stack,
        psycopg.connect(stack.database_url("postgres")) as connection,
    ):
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_home_that_is_a_file_is_told_and_left_alone(home: Path, below: str) -> None:
    home.write_text("precious")
    for ask in (start, control.status, control.stop, control.destroy, control.data_folder):
        with pytest.raises(UsageError, match=r"home is no folder\. Set MBEVENTS_HOME to a folder"):
            ask(home / below)
    assert home.read_text() == "precious"
    home.unlink()
