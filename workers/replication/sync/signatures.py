"""Whether a packet is signed by the one key that is trusted."""

import os
import subprocess
import tempfile
from pathlib import Path

from events.errors import MbeventsError, UsageError

_SECONDS = 300
# What GnuPG says beside GOODSIG when the signature is right and still not to be trusted.
_NOT_GOOD = ("BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "NO_PUBKEY")


class SignatureError(MbeventsError):
    """A packet that was not signed, or not by the key that is trusted: nothing of it was applied."""


def check_signature(packet: Path, signature: Path | None, key: Path) -> None:
    """Raises SignatureError, and UsageError when nothing can be checked."""
    if signature is None:
        raise SignatureError(
            f"{packet.name} has no signature, and REPLICATION_GPG_KEY asks for one. Nothing of it was applied."
        )
    # Nothing but this key is known there, whatever the user's own keyring trusts.
    with tempfile.TemporaryDirectory(prefix="mbevents-gpg-") as home:
        imported = _gpg(home, "--import", str(key))
        if " IMPORT_OK " not in imported:
            raise UsageError(f"REPLICATION_GPG_KEY: {key} is no armoured public key that gpg can read.")
        told = _gpg(home, "--trust-model", "always", "--verify", str(signature), str(packet))
    said = {line.split()[1] for line in told.splitlines() if line.startswith("[GNUPG:] ") and len(line.split()) > 1}
    if "GOODSIG" in said and "VALIDSIG" in said and said.isdisjoint(_NOT_GOOD):
        return
    wrong = next((each for each in _NOT_GOOD if each in said), "no signature")
    raise SignatureError(
        f"The signature of {packet.name} is not good ({wrong}): it is not the packet that the holder of the key in "
        f"REPLICATION_GPG_KEY signed. Nothing of it was applied."
    )


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
