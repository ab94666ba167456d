import sys

import pytest

from events.errors import UsageError
from ops.cli import app
from ops.version import version

COMMANDS = (
    "", "up", "bridge", "worker", "web", "doctor", "config", "version", "db", "db init", "db install", "db check",
    "db uninstall", "events", "events list", "events show", "events tail", "events replay", "jobs", "jobs list",
    "jobs show", "jobs retry", "jobs discard", "cache", "cache get", "cache why", "cache stats", "cache invalidate",
    "stack", "stack start", "stack stop", "stack status", "stack destroy",
)  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mbevents", *command.split()])
    # Nothing here may get as far as a server.
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/mb")
    monkeypatch.setenv("REDIS_SERVER", "nowhere.invalid")
    with pytest.raises(SystemExit) as ended:
        app.run()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, f"{command} --help") == 0
    assert f"Usage: mbevents {command}".rstrip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("nonsense", "No such command"),
        ("events list --since yesterday", "is no time"),
        ("events list --since 9999999d", "is no time"),
        ("events list --after 1 --subject edit/1", "give one of them"),
        ("events list --subject artist/\udcff", "must be UTF-8"),
        ("events list --subject artist/\0", "must be UTF-8"),
        ("events show \udcff", "must be UTF-8"),
        ("events replay", "Say from where on"),
        ("jobs show 9223372036854775808", "Invalid value for 'job'"),
        ("jobs list --queue \udcff", "must be UTF-8"),
        ("jobs discard --actor \udcff", "must be UTF-8"),
        ("jobs retry", "Say which"),
        ("jobs retry 1 --all", "--all goes with nothing else"),
        ("worker --queues nonsense", "no queues called nonsense. There are: accounts, caches"),
        ("worker --queues ,", "nothing named. There are: accounts, caches"),
        ("worker --threads 0", "--threads"),
        ("bridge --drain --reset", "do one after the other"),
        ("bridge --reset", "add --yes"),
        ("cache get planet 95e9aba6-f85c-48a0-9ec9-395d4f0e3875", "is no entity type"),
        ("cache get artist 1", "is no MBID"),
        ("cache invalidate artist", "Give a type with MBIDs, or with --all"),
        ("sessions list 0", "Invalid value for 'editor_id'"),
        ("sessions end 2147483648", "Invalid value for 'editor_id'"),
    ],
)
def test_nonsense_is_exit_code_2_and_says_what_would_make_sense(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, told: str
) -> None:
    assert run(monkeypatch, command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert "Traceback" not in captured.err


def test_an_error_of_ours_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "events list --type edit.opend") == UsageError.exit_code
    assert capsys.readouterr().err.startswith("mbevents: There is no event type 'edit.opend'")


def test_the_release_is_an_option_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    printed = capsys.readouterr().out
    assert run(monkeypatch, "version") == 0
    assert capsys.readouterr().out == printed == f"{version()}\n"


def fail() -> None:
    raise RuntimeError("of jane@example.org")


def test_a_bug_is_told_without_a_traceback_or_private_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.version.version", fail)
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    assert run(monkeypatch, "version") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    told = printed.err
    assert told.startswith("mbevents: this should not have happened (RuntimeError: of <e-mail>)")
    assert "LOG_LEVEL=DEBUG" in told
    assert "Traceback" not in told


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ops.version.version", interrupted)
    assert run(monkeypatch, "version") == 130
