"""bzip2 on all cores, written as one stream and read as whatever is valid.

Blocks of bzip2 know nothing of each other: each can be packed and unpacked as a stream of its own. What is between them
is not a matter of bytes, though: a block starts at any bit, right behind the last one. So blocks are cut out of streams
and put into others bit by bit. (Streams that simply follow each other would be easier to write, and are valid; but
Python's tarfile, reading a stream, stops after the first, and so does mbslave.)
"""

import bz2
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import BinaryIO, NamedTuple, Self

from workers.replication.packet.errors import PacketError

PIECE = 1 << 20
"""What is handed on at a time, in bytes, at most."""

# A block of level 9 takes 899,981 bytes after run-length coding, which makes five bytes of four at the worst.
# So this much is one block, whatever it is.
_INPUT = 719_985
# A block of 900,000 symbols, each of the 20 bits that a code may have, and its tables.
_LARGEST_BLOCK = 2_500_000
_BATCH = 1 << 18

_BLOCK = 0x314159265359
_END = 0x177245385090
_TRAILER_BITS = 48 + 32
_MASK32 = (1 << 32) - 1
_HEADER = re.compile(rb"BZh[1-9](?=1AY&SY|\x17rE8P\x90)")  # before a block, or the end of an empty stream
# Random data has one in 2^48 positions: more of them in one file are no accident, and each costs a block's time.
_MOST_FALSE_STARTS = 16


def _combined(stream: int, block: int) -> int:
    """The check sum of a stream after one more block."""
    return ((stream << 1 | stream >> 31) & _MASK32) ^ block


def _trailer_before(data: bytes, end: int) -> tuple[int, int] | None:
    """Bit position and check sum of the stream's end that lies before byte `end`, with less than a byte between."""
    tail = int.from_bytes(data[max(0, end - 11) : end], "big")
    for padding in range(8):
        trailer = tail >> padding & ((1 << _TRAILER_BITS) - 1)
        if trailer >> 32 == _END:
            return 8 * end - padding - _TRAILER_BITS, trailer & _MASK32
    return None


class Compressor:
    """Writes one bzip2 stream of level 9 to `target`, which stays open.

    Holds at most about `threads` × 3 MB. As a context manager, it closes, or after an error stops without an end.
    Whoever does not use it so must call `close` or `abort`.
    """

    def __init__(self, target: BinaryIO, *, threads: int = 2) -> None:
        self._target = target
        self._pool = ThreadPoolExecutor(threads, "bzip2")
        self._most = 2 * threads
        self._underway: deque[Future[tuple[int, int, int]]] = deque()
        self._input = bytearray()
        self._crc = 0
        # Bits that do not fill a byte yet.
        self._bits = 0
        self._bit_count = 0
        self._put(int.from_bytes(b"BZh9", "big"), 32)

    def write(self, data: bytes) -> None:
        """Take `data`; waits while too much is underway. Raises what `target` raises."""
        view = memoryview(data)
        while view:
            taken = view[: _INPUT - len(self._input)]
            self._input += taken
            view = view[len(taken) :]
            if len(self._input) == _INPUT:
                self._submit()

    def close(self) -> None:
        """Write what is left and the end of the stream."""
        try:
            if self._input:
                self._submit()
            while self._underway:
                self._put_oldest()
            self._put(_END << 32 | self._crc, _TRAILER_BITS)
            self._put(0, -self._bit_count % 8)
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop; the stream stays without an end."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        self._underway.append(self._pool.submit(_packed, bytes(self._input)))
        self._input.clear()
        while len(self._underway) > self._most or (self._underway and self._underway[0].done()):
            self._put_oldest()

    def _put_oldest(self) -> None:
        bits, count, crc = self._underway.popleft().result()
        self._put(bits, count)
        self._crc = _combined(self._crc, crc)

    def _put(self, bits: int, count: int) -> None:
        count += self._bit_count
        bits |= self._bits << (count - self._bit_count)
        self._bit_count = count % 8
        self._bits = bits & ((1 << self._bit_count) - 1)
        self._target.write((bits >> self._bit_count).to_bytes(count // 8, "big"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _packed(data: bytes) -> tuple[int, int, int]:
    """The block that holds `data`: its bits, how many they are, and its check sum."""
    stream = bz2.compress(data, 9)
    trailer = _trailer_before(stream, len(stream))
    crc = int.from_bytes(stream[10:14], "big")
    if trailer is None or trailer[1] != crc:  # of a stream of one block, the check sum is the block's
        raise AssertionError("libbz2 made another than one block")
    end = trailer[0]
    return int.from_bytes(stream[4:], "big") >> (8 * len(stream) - end), end - 32, crc


class _Block(NamedTuple):
    """A block in a file, or what looks like one: `length` bits of `data`, from bit `start` (0 to 7) on."""

    level: bytes
    data: bytes
    start: int
    length: int

    @property
    def crc(self) -> int:
        return int.from_bytes(self.data[6:11], "big") >> (8 - self.start) & _MASK32

    def stream(self) -> bytes:
        """A stream of this block alone."""
        # Shifted to the left, the bits before the block are in the first byte, which falls away.
        aligned = (int.from_bytes(self.data, "big") << self.start).to_bytes(len(self.data) + 1, "big")
        whole, bits = divmod(self.length, 8)
        last = aligned[whole + 1 : whole + 2] if bits else b""
        trailer = int.from_bytes(last, "big") >> (8 - bits) << _TRAILER_BITS | _END << 32 | self.crc
        size = (bits + _TRAILER_BITS + 7) // 8
        end = (trailer << (8 * size - bits - _TRAILER_BITS)).to_bytes(size, "big")
        return b"".join((b"BZh", self.level, aligned[1 : whole + 1], end))

    def joined(self, following: "_Block") -> "_Block":
        """This and what follows it, as if there were no boundary between."""
        shared = 1 if following.start else 0
        return self._replace(data=self.data + following.data[shared:], length=self.length + following.length)


class _End(NamedTuple):
    """The end of a stream, and the check sum of all its blocks."""

    crc: int


class _Mark(NamedTuple):
    """Where, in bits, a block starts or (with `crc`) a stream ends; in `due` then, where the next thing must start."""

    position: int
    crc: int | None = None
    due: int = 0
    level: bytes = b""


def decompressed(chunks: Iterable[bytes], *, threads: int = 2, limit: int) -> Generator[bytes, None, None]:
    """What a bzip2 file of any level and number of streams holds, in pieces of at most PIECE bytes.

    `chunks` are the file's bytes, cut anywhere; what they raise is passed on. Holds at most about `threads` × 10 MB.
    Close the generator to stop early. Raises PacketError where the file is none of bzip2, damaged, cut short, or has
    anything behind its end, and when it holds more than `limit` bytes.
    """
    parts = _parts(chunks)
    pool = ThreadPoolExecutor(threads, "bunzip2")
    underway: deque[tuple[_Block | _End, Future[_Unpacked | None] | None]] = deque()
    total = crc = false_starts = 0

    def ahead() -> bool:
        while len(underway) <= 2 * threads and (part := next(parts, None)) is not None:
            underway.append((part, pool.submit(_unpack, part) if isinstance(part, _Block) else None))
        return bool(underway)

    try:
        while ahead():
            part, future = underway.popleft()
            if isinstance(part, _End):
                if part.crc != crc:
                    raise _damaged()
                crc = 0
                continue
            unpacked = future.result() if future else None
            while unpacked is None:
                # Either it is damaged, or the next block's start is none, but looks like one.
                following = underway.popleft()[0] if ahead() else None
                false_starts += 1
                if not isinstance(following, _Block) or false_starts > _MOST_FALSE_STARTS:
                    raise _damaged()
                part = part.joined(following)
                if len(part.data) > _LARGEST_BLOCK:
                    raise _damaged()
                unpacked = _unpack(part)
            crc = _combined(crc, part.crc)
            for piece in unpacked.pieces():
                total += len(piece)
                if total > limit:
                    raise PacketError(f"holds more than the {limit:,} bytes that are allowed")
                yield piece
    finally:
        pool.shutdown(cancel_futures=True)
        parts.close()


class _Unpacked(NamedTuple):
    """The first piece of a block; in `rest` what is left, if anything: 45 MB at the most, of long runs."""

    first: bytes
    rest: bz2.BZ2Decompressor | None

    def pieces(self) -> Iterator[bytes]:
        yield self.first
        while self.rest and not self.rest.eof:
            try:
                piece = self.rest.decompress(b"", PIECE)
            except OSError as error:
                raise _damaged() from error
            if piece:
                yield piece
            elif not self.rest.eof:
                raise _damaged()
        if self.rest and self.rest.unused_data:
            raise _damaged()


def _unpack(block: _Block) -> _Unpacked | None:
    """The block's content; None where it is no block."""
    decompressor = bz2.BZ2Decompressor()
    try:
        first = decompressor.decompress(block.stream(), PIECE)
    except OSError:
        return None
    # libbz2 hands out nothing of a block before it has read all of it. What is left over are bytes behind the end of a
    # stream that is followed by neither another nor the end of the file, but by something that ends like one.
    if not first or decompressor.unused_data:
        return None
    return _Unpacked(first, None if decompressor.eof else decompressor)


def _parts(chunks: Iterable[bytes]) -> Generator[_Block | _End, None, None]:
    """Cuts a file where blocks start and streams end, as far as that can be seen from outside."""
    # It starts as if an empty stream had just ended.
    window = _END.to_bytes(6, "big") + bytes(4)
    level = b""
    block: int | None = None  # the bit where the block that is not over yet starts
    due = 0  # where there is none, the bit where one, or the end, must start
    scanned = 0
    for batch in chain(_batches(chunks), [b""]):
        window += batch
        for mark in _marks(window, scanned, last=not batch):
            if block is not None:
                first, end = block // 8, (mark.position + 7) // 8
                yield _Block(level, window[first:end], block % 8, mark.position - block)
            elif mark.position != due:
                raise _damaged()
            if mark.crc is None:
                block = mark.position
            else:
                yield _End(mark.crc)
                block, due, level = None, mark.due, mark.level or level
        scanned = max(scanned, len(window) - 9)
        keep = (due if block is None else block) // 8
        if len(window) - keep > (64 if block is None else _LARGEST_BLOCK):
            raise _damaged()
        if batch:
            window = window[keep:]
            scanned -= keep
            due -= 8 * keep
            block = None if block is None else block - 8 * keep
    if not level or block is not None or due != 8 * len(window):
        raise PacketError("is no bzip2 file, is cut short, or has something behind its end: fetch it again")


def _batches(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of about _BATCH, none empty."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _BATCH):
            waiting.append(chunk[start : start + _BATCH])
            size += len(waiting[-1])
            if size >= _BATCH:
                yield b"".join(waiting)
                waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _pattern(shift: int) -> tuple[int, bytes]:
    """The whole bytes of a block's start that lies `shift` bits into a byte, and how many bytes into it they start."""
    if not shift:
        return 0, _BLOCK.to_bytes(6, "big")
    return 1, (_BLOCK << (8 - shift)).to_bytes(7, "big")[1:6]


_PATTERNS = [_pattern(shift) for shift in range(8)]


def _marks(window: bytes, begin: int, *, last: bool) -> list[_Mark]:
    """What starts in a byte from `begin` on, but for the last nine, which are too few to tell; in order."""
    end = len(window) - 9
    marks = []
    for shift, (offset, pattern) in enumerate(_PATTERNS):
        at = begin + offset
        while (at := window.find(pattern, at, end + offset + len(pattern) - 1)) >= 0:
            start = at - offset
            if int.from_bytes(window[start : start + 7], "big") >> (8 - shift) & ((1 << 48) - 1) == _BLOCK:
                marks.append(_Mark(8 * start + shift))
            at += 1
    for header in _HEADER.finditer(window, begin):
        trailer = _trailer_before(window, header.start())
        if trailer:
            marks.append(_Mark(*trailer, 8 * header.end(), header[0][3:]))
    if last and (trailer := _trailer_before(window, len(window))):
        marks.append(_Mark(*trailer, 8 * len(window)))
    return sorted(marks, key=lambda mark: mark.position)


def _damaged() -> PacketError:
    return PacketError("is damaged, or no bzip2 file: fetch it again")
