"""Detached signatures, made by GnuPG."""

import subprocess
from pathlib import Path

from events.errors import MbeventsError

_SECONDS = 120


class SigningError(MbeventsError):
    """A packet could not be signed, so it is not published."""


class Gpg:
    """Signs with a key of the user's keyring (GNUPGHOME), which must not ask for a passphrase."""

    def __init__(self, key: str) -> None:
        self._key = key

    def sign(self, path: Path, signature: Path) -> None:
        """Write an armoured signature of a file. Raises SigningError."""
        signature.unlink(missing_ok=True)
        command = ["gpg", "--batch", "--yes", "--no-tty", "--armor", "--local-user", self._key]
        command += ["--output", str(signature), "--detach-sign", str(path)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except FileNotFoundError:
            raise self._error(path, "there is no gpg on PATH. Install GnuPG, or unset GPG_SIGN_KEY") from None
        except subprocess.TimeoutExpired:
            raise self._error(
                path, f"gpg did not end within {_SECONDS} s: does its agent ask for a passphrase?"
            ) from None
        if done.returncode != 0 or not signature.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise self._error(path, f"{lines[-1] if lines else f'gpg ended with {done.returncode}'}")

    def _error(self, path: Path, why: str) -> SigningError:
        return SigningError(
            f"{path.name} cannot be signed with the key of GPG_SIGN_KEY ({self._key}): {why}. "
            "Nothing was published; the next export goes on with this packet."
        )
