"""bzip2 in threads writes and reads what bzip2 alone does."""

import bz2
import io
import random
import shutil
import subprocess
import tracemalloc
from collections import deque
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.replication.packet import bzip2
from workers.replication.packet.bzip2 import Compressor, decompressed
from workers.replication.packet.errors import PacketError

from .making import cut, threads_of_bzip2

_FEW = settings(max_examples=60, deadline=None)
_NO_LIMIT = 1 << 40

# Runs, which bzip2 counts before anything else, words and noise, larger than the blocks of level 1.
contents = st.one_of(
    st.binary(max_size=3000),
    st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, 250_000)),
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=9), st.integers(0, 60_000)),
)


def packed(data: bytes, *, threads: int = 2, size: int = 100_000) -> bytes:
    target = io.BytesIO()
    with Compressor(target, threads=threads) as compressor:
        for chunk in cut(data, size):
            compressor.write(chunk)
    return target.getvalue()


def unpacked(data: bytes, *, threads: int = 2, size: int = 4096, limit: int = _NO_LIMIT) -> bytes:
    return b"".join(decompressed(cut(data, size), threads=threads, limit=limit))


@_FEW
@given(contents, st.integers(1, 3), st.integers(1, 20_000), st.integers(100, 50_000))
def test_what_is_written_is_one_stream_that_libbz2_reads(data: bytes, threads: int, size: int, block: int) -> None:
    with mock.patch.object(bzip2, "_INPUT", block):  # many small blocks, so that they meet at all bits
        stream = packed(data, threads=threads, size=size)

    reader = bz2.BZ2Decompressor()
    assert reader.decompress(stream) == data
    assert reader.eof
    assert not reader.unused_data
    assert unpacked(stream) == data


@_FEW
@given(
    st.lists(st.tuples(contents, st.integers(1, 9)), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 9000)
)
def test_any_levels_and_numbers_of_streams_are_read(streams: list[tuple[bytes, int]], threads: int, size: int) -> None:
    file = b"".join(bz2.compress(data, level) for data, level in streams)

    assert unpacked(file, threads=threads, size=size) == b"".join(data for data, _ in streams)


def test_blocks_are_full_whatever_the_data() -> None:
    worst = b"".join(bytes([i % 256]) * 4 for i in range(400_000))  # run-length coding makes five bytes of each four
    for data in (worst, bytes(3_000_000), random.Random(1).randbytes(1_600_000)):
        stream = packed(data)
        assert bz2.decompress(stream) == data
        assert unpacked(stream) == data


def test_the_same_data_makes_the_same_bytes_however_it_comes() -> None:
    data = random.Random(2).randbytes(1_000_000)

    assert packed(data, threads=1, size=999) == packed(data, threads=3, size=1_000_000)


def test_pieces_are_small_whatever_a_block_grows_to() -> None:
    sizes = [len(piece) for piece in decompressed([bz2.compress(bytes(20_000_000))], limit=_NO_LIMIT)]

    assert sum(sizes) == 20_000_000
    assert max(sizes) <= bzip2.PIECE


@pytest.mark.skipif(not shutil.which("bzip2"), reason="no bzip2 command here")
def test_the_bzip2_command_and_we_read_each_other() -> None:
    data = random.Random(3).randbytes(300_000) * 5

    ours = subprocess.run(["bzip2", "-dc"], input=packed(data), capture_output=True, check=True)
    theirs = subprocess.run(["bzip2", "-9c"], input=data, capture_output=True, check=True)

    assert ours.stdout == data
    assert not ours.stderr
    assert unpacked(theirs.stdout) == data


@pytest.mark.parametrize("times", [1, 5])
def test_what_only_looks_like_the_start_of_a_block_is_read_over(times: int) -> None:
    data = random.Random(4).randbytes(700_000)
    file = bz2.compress(data, 3)
    found = bzip2._marks

    def with_false_starts(window: bytes, begin: int, *, last: bool) -> list[bzip2._Mark]:
        true = found(window, begin, last=last)
        first = 8 * begin + 3
        false = [bzip2._Mark(first + 1001 * i) for i in range(times)] if begin > 1000 and not last else []
        return sorted(true + false, key=lambda mark: mark.position)

    with mock.patch.object(bzip2, "_marks", with_false_starts):
        assert unpacked(file) == data


def test_a_file_of_nothing_but_false_starts_costs_little_and_is_refused() -> None:
    magic = bzip2._BLOCK.to_bytes(6, "big")
    with pytest.raises(PacketError, match="damaged"):
        unpacked(b"BZh9" + magic * 200_000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"\0" * 5_000_000,
        lambda _: b"<html>404</html>",
        lambda file: file[:3],
        lambda file: file[:10],
        lambda file: file[: len(file) // 2],
        lambda file: file[:-1],
        lambda file: file[1:],
        lambda file: file + b"\0",
        lambda file: file + b"BZh9",
        lambda file: file + bytes(3_000_000),
        lambda file: file + file[:-4],
        lambda file: file + file[-30:],
        lambda file: b"\0" + file,
        lambda file: file[:4] + bytes(3_000_000),
        lambda file: file[: len(file) // 2] + bytes(3_000_000) + file[len(file) // 2 :],
    ],
)
def test_what_is_no_whole_bzip2_file_is_refused(damage: object) -> None:
    assert callable(damage)
    file = packed(random.Random(5).randbytes(900_000))
    with pytest.raises(PacketError):
        unpacked(damage(file))


def test_a_lost_or_moved_block_is_found_by_the_check_sum_of_the_stream() -> None:
    with mock.patch.object(bzip2, "_INPUT", 1000):
        file = packed(random.Random(6).randbytes(4000))
    first, second, third, *_ = [part for part in bzip2._parts([file]) if isinstance(part, bzip2._Block)]
    target = io.BytesIO()
    with Compressor(target) as writer:
        for block in (first, third, second):
            bits = int.from_bytes(block.stream()[4:], "big") >> (8 * len(block.stream()) - 32 - block.length)
            writer._put(bits, block.length)
        writer._crc = 1
    with pytest.raises(PacketError, match="damaged"):
        unpacked(target.getvalue())


def test_a_flipped_bit_is_noticed_or_harmless() -> None:
    data = random.Random(7).randbytes(4000)
    with mock.patch.object(bzip2, "_INPUT", 1500):
        file = packed(data)
    harmless = 0
    for position in range(0, len(file), 3):
        flipped = bytearray(file)
        flipped[position] ^= 1 << position % 8
        try:
            assert unpacked(bytes(flipped)) == data
            harmless += 1  # the level, tables that no symbol uses, bits behind the end
        except PacketError:
            pass
    assert harmless < 0.05 * len(file)


def test_a_bomb_is_stopped_at_the_limit_and_in_little_memory() -> None:
    bomb = decompressed(cut(bz2.compress(bytes(60_000_000)) * 20), limit=200_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(PacketError, match="more than the 200,000,000 bytes"):
            deque(bomb, maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_exactly_the_limit_is_allowed() -> None:
    assert len(unpacked(bz2.compress(bytes(5000)), limit=5000)) == 5000


def endless() -> Iterator[bytes]:
    file = bz2.compress(random.Random(8).randbytes(500_000), 1)
    while True:
        yield file


def test_threads_end_when_a_reader_stops_early() -> None:
    reader = decompressed(endless(), limit=_NO_LIMIT)
    next(reader)
    assert threads_of_bzip2()
    reader.close()

    assert not threads_of_bzip2()


def test_threads_end_and_the_error_arrives_when_the_source_fails() -> None:
    def failing() -> Iterator[bytes]:
        yield bz2.compress(bytes(1000))
        raise ConnectionResetError("the server went away")

    with pytest.raises(ConnectionResetError, match="went away"):
        list(decompressed(failing(), limit=_NO_LIMIT))

    assert not threads_of_bzip2()


def test_threads_end_and_the_error_arrives_when_the_target_fails() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            if self.tell():
                raise OSError("no space left on device")
            return super().write(data)  # type: ignore[arg-type]

    def write(size: int) -> None:
        with Compressor(Full()) as compressor:
            for _ in range(10):
                compressor.write(random.Random(9).randbytes(size))

    for size in (1000, 400_000):  # so that it fails at the end, and on the way
        with pytest.raises(OSError, match="no space"):
            write(size)
        assert not threads_of_bzip2()


def test_threads_end_when_a_writer_gives_up() -> None:
    target = io.BytesIO()
    compressor = Compressor(target)
    compressor.write(random.Random(10).randbytes(3_000_000))
    compressor.abort()

    assert not threads_of_bzip2()
    with pytest.raises(PacketError):
        unpacked(target.getvalue())


def test_reading_and_writing_hold_few_blocks_however_much_there_is() -> None:
    data = random.Random(11).randbytes(720_000) * 12
    file = packed(data)
    tracemalloc.start()
    try:
        with Compressor(io.BytesIO()) as compressor:
            for piece in decompressed(cut(file), limit=_NO_LIMIT):
                compressor.write(piece[:1000])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
