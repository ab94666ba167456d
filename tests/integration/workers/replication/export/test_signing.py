"""Packets are signed by a real gpg, with a keyring of its own; where there is no gpg, this says so by failing."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workers.replication.export.support import Master
from workers.replication.export.signing import Gpg, SigningError

KEY = "packets@example.org"


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # At a short path: the agent's socket is in it.
    folder = Path(tempfile.mkdtemp(prefix="gpg-"))
    folder.chmod(0o700)
    monkeypatch.setenv("GNUPGHOME", str(folder))
    gpg("--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", KEY, "ed25519", "sign", "never")
    yield folder
    subprocess.run(["gpgconf", "--kill", "all"], check=True, timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


def gpg(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["gpg", "--batch", "--yes", *arguments], capture_output=True, text=True, timeout=60, check=True
    )


def test_both_packets_have_a_signature_that_is_theirs_and_is_there_first(master: Master, keyring: Path) -> None:
    master.signer = Gpg(KEY)
    master.rename(master.artists(1)[0])
    master.export()
    packets = ["replication-1-v2.tar.bz2", "replication-1.tar.bz2"]
    assert master.store.names == [*(f"{name}.asc" for name in packets), *packets]
    for name in packets:
        signature = master.store.folder / f"{name}.asc"
        assert signature.read_text().startswith("-----BEGIN PGP SIGNATURE-----\n")
        assert "GOODSIG" in gpg("--status-fd", "1", "--verify", str(signature), str(master.store.folder / name)).stdout


def test_without_a_key_nothing_is_published_and_the_next_export_goes_on(master: Master, keyring: Path) -> None:
    master.signer = Gpg("nobody@example.org")
    master.rename(master.artists(1)[0])
    with pytest.raises(
        SigningError, match=r"replication-1-v2\.tar\.bz2 cannot be signed .* \(nobody@example\.org\): gpg: .*"
    ):
        master.export()
    assert master.store.there() == {}
    assert master.value("SELECT count(*) FROM dbmirror2.pending_data") == 1
    assert master.value("SELECT current_replication_sequence FROM replication_control") == 0
    master.signer = Gpg(KEY)
    assert [packet.sequence for packet in master.export()] == [1]


def test_a_machine_without_gpg_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SigningError, match="Install GnuPG"):
        Gpg(KEY).sign(tmp_path / "packet", tmp_path / "signature")
