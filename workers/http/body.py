"""Bodies as they come: decoded piece by piece, and never beyond what is allowed."""

import zlib

from .core import CallError, Kind

_GZIP = 16 + zlib.MAX_WBITS
_IDENTITY = frozenset({"", "identity"})
# Gzip makes what cannot be packed larger, by less than this.
_OVERHEAD = 1 << 16


class Body:
    """What `feed` is given, decoded: at most `most` bytes."""

    def __init__(self, encoding: str, most: int) -> None:
        """Raises CallError."""
        encoding = encoding.strip().lower()
        if encoding not in _IDENTITY and encoding not in {"gzip", "x-gzip"}:
            raise CallError(Kind.BAD_ENCODING, f"It is encoded as {encoding!r:.40}, which was not asked for.")
        self._most = most
        self._raw = 0
        self._decoded = bytearray()
        self._gzip = None if encoding in _IDENTITY else zlib.decompressobj(_GZIP)

    def feed(self, piece: bytes) -> None:
        """Raises CallError."""
        self._raw += len(piece)
        if self._raw > self._most + _OVERHEAD:
            raise self._too_large()
        if self._gzip is None:
            self._add(piece)
            return
        try:
            while piece:
                piece = self._inflate(piece)
        except zlib.error:
            raise CallError(Kind.BAD_ENCODING, "Its gzip is broken.") from None

    def end(self) -> bytes:
        """Raises CallError."""
        if self._gzip is not None and not self._gzip.eof and self._raw:
            raise CallError(Kind.TRUNCATED, "Its gzip ends before its end.")
        return bytes(self._decoded)

    def _inflate(self, piece: bytes) -> bytes:
        """What of a piece is still to be decoded."""
        assert self._gzip is not None
        if self._gzip.eof:
            # A file may have several members, and be padded with zeros.
            piece = piece.lstrip(b"\0")
            if not piece:
                return b""
            self._gzip = zlib.decompressobj(_GZIP)
        # One more than there is room for is enough to know, whatever a bomb would become.
        self._add(self._gzip.decompress(piece, self._most - len(self._decoded) + 1))
        return self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail

    def _add(self, piece: bytes) -> None:
        self._decoded += piece
        if len(self._decoded) > self._most:
            raise self._too_large()

    def _too_large(self) -> CallError:
        return CallError(Kind.TOO_LARGE, f"It is larger than {self._most:,} bytes, the most that is taken.")
