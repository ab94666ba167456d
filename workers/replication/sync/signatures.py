"""Whether a packet is signed by the one key that is trusted."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from events.errors import MbeventsError, UsageError

_SECONDS = 300
# What GnuPG says beside GOODSIG when the signature is right and still not to be trusted.
_NOT_GOOD = ("BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "NO_PUBKEY")
_WORDS = {
    "BADSIG": "it is of other bytes (BADSIG)",
    "ERRSIG": "gpg cannot check it (ERRSIG)",
    "EXPSIG": "it has expired (EXPSIG)",
    "EXPKEYSIG": "its key has expired (EXPKEYSIG)",
    "REVKEYSIG": "its key was revoked (REVKEYSIG)",
    "NODATA": "it is none (NODATA)",
}


class SignatureError(MbeventsError):
    """A packet that was not signed, or not by the key that is trusted: nothing of it was applied."""


def check_key(key: Path) -> None:
    """Raises UsageError if it cannot be used."""
    with _keyring(key):
        pass


def check_signature(packet: Path, signature: Path | None, key: Path) -> None:
    """Raises SignatureError, and UsageError when nothing can be checked."""
    if signature is None:
        raise SignatureError(
            f"{packet.name} has no signature, and REPLICATION_GPG_KEY asks for one. Nothing of it was applied."
        )
    with _keyring(key) as home:
        told = _gpg(home, "--trust-model", "always", "--verify", str(signature), str(packet))
    said = {words[1]: words[2:] for words in _status(told)}
    if "GOODSIG" in said and "VALIDSIG" in said and said.keys().isdisjoint(_NOT_GOOD):
        return
    wrong = next((each for each in _NOT_GOOD if each in said), "no signature")
    if "NO_PUBKEY" in said:
        why = f"it is of another key ({' '.join(said['NO_PUBKEY'])}) than the one in {key} (REPLICATION_GPG_KEY)"
    else:
        why = f"{_WORDS.get(wrong, wrong)}. It must be the packet that the holder of the key in {key} signed"
    raise SignatureError(f"The signature of {packet.name} is not good: {why}. Nothing of it was applied.")


@contextmanager
def _keyring(key: Path) -> Iterator[str]:
    """gpg's home in which nothing but this key is known, whatever the user's own keyring trusts."""
    try:
        key.open("rb").close()
    except OSError as error:
        raise UsageError(f"REPLICATION_GPG_KEY: {key} cannot be read: {error.strerror}.") from None
    with tempfile.TemporaryDirectory(prefix="mbevents-gpg-") as home:
        if all(words[1] != "IMPORT_OK" for words in _status(_gpg(home, "--import", str(key)))):
            raise UsageError(f"REPLICATION_GPG_KEY: {key} is no armoured public key that gpg can read.")
        yield home


def _status(told: str) -> list[list[str]]:
    """The lines that are for programs, in words."""
    found = [line.split() for line in told.splitlines() if line.startswith("[GNUPG:] ")]
    return [words for words in found if len(words) > 1]


def _gpg(home: str, *arguments: str) -> str:
    command = ["gpg", "--homedir", home, "--batch", "--no-tty", "--no-autostart", "--status-fd", "1", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise UsageError("REPLICATION_GPG_KEY is set, but there is no `gpg` here: install GnuPG.") from None
    except subprocess.TimeoutExpired:
        raise SignatureError(f"gpg did not end within {_SECONDS} s.") from None
    return done.stdout
