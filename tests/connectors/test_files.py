"""Event files as a source: whole lines, positions that hold, files that changed."""

import bz2
import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.files import FilePartition, FilesConfig, FileSource
from streamctr.errors import DataError
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock
from streamctr.schema import CsvConfig


def zstd(payload: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(payload)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress}


OPENED = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPENED:
        OPENED.pop().close()


def source(*paths: Path, block_bytes: int = 16) -> FileSource:
    partitions = [FilePartition(0, tuple(map(str, paths))), FilePartition(1, ())]
    OPENED.append(FileSource(partitions, FilesConfig(paths="."), CsvConfig(), block_bytes))
    return OPENED[-1]


def drain(events: FileSource, partition: int = 0) -> list[RawBlock]:
    blocks = [events.poll(partition)]
    while not blocks[-1].ended:
        blocks.append(events.poll(partition))
    return blocks


def lines(blocks: list[RawBlock]) -> list[tuple[str, int, bytes]]:
    """Name, number and text of every line."""
    return [
        (Path(block.path).name, block.first_line + place, line)
        for block in blocks
        for place, line in enumerate(block.payload.splitlines())
    ]


def write(path: Path, payload: bytes) -> Path:
    path.write_bytes(PACK[path.suffix if path.suffix in PACK else ""](payload))
    return path


@pytest.mark.parametrize("suffix", list(PACK))
@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
def test_blocks_hold_whole_lines_of_one_file_with_their_numbers(tmp_path, suffix, block_bytes):
    first = write(tmp_path / f"impression-1.jsonl{suffix}", b"one\n\nthree, longer than a block\nfour")
    second = write(tmp_path / f"impression-2.jsonl{suffix}", b"five\n")
    blocks = drain(source(first, second, block_bytes=block_bytes))
    assert lines(blocks) == [
        (first.name, 1, b"one"),
        (first.name, 2, b""),
        (first.name, 3, b"three, longer than a block"),
        (first.name, 4, b"four"),
        (second.name, 1, b"five"),
    ]
    assert [Path(block.path).name for block in blocks if block.file_ended] == [first.name, second.name]
    assert [block.ended for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert {(block.partition, block.stage) for block in blocks} == {(0, 0)}


def test_a_stage_without_files_ends_at_once_and_an_ended_one_stays_so(tmp_path):
    events = source(write(tmp_path / "impression", b""))
    assert events.partitions == 2
    assert events.poll(1) == RawBlock(1, 1, "", 1, b"", False, True)
    assert (events.poll(0).file_ended, events.poll(0).file_ended, events.poll(0).ended) == (True, False, True)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_compressed_files_may_be_glued_together(tmp_path, suffix):
    path = tmp_path / f"impression{suffix}"
    path.write_bytes(PACK[suffix](b"one\n") + PACK[suffix](b"two\n"))
    assert [line for _, _, line in lines(drain(source(path)))] == [b"one", b"two"]


LINES = st.just(b"") | st.binary(max_size=9).filter(lambda line: b"\n" not in line).map(lambda line: b"." + line)
"""Of which none begins like a packed file."""


@given(st.lists(LINES, max_size=12), st.data())
def test_a_source_that_was_stopped_anywhere_goes_on_with_the_next_line(tmp_path_factory, texts, data):
    folder = tmp_path_factory.mktemp("events")
    suffix, cut = data.draw(st.sampled_from(list(PACK))), data.draw(st.integers(0, len(texts)))
    sizes = st.sampled_from([1, 5, 40])
    paths = [
        write(folder / f"impression-{place}{suffix}", b"".join(text + b"\n" for text in part))
        for place, part in enumerate((texts[:cut], texts[cut:]))
    ]
    events = source(*paths, block_bytes=data.draw(sizes))
    blocks = [events.poll(0) for _ in range(data.draw(st.integers(0, 8)))]
    other = source(*paths, block_bytes=data.draw(sizes))
    other.seek(events.positions())
    assert other.positions() == events.positions()
    numbered = [
        (block.path, block.first_line + place, line)
        for block in [*blocks, *drain(other)]
        for place, line in enumerate(block.payload.split(b"\n")[:-1])
    ]
    assert numbered == [
        (str(path), number, text)
        for path, part in zip(paths, (texts[:cut], texts[cut:]), strict=True)
        for number, text in enumerate(part, start=1)
    ]


def test_seeking_back_on_the_same_source_reads_again(tmp_path):
    events = source(write(tmp_path / "impression", b"one\ntwo\n"), block_bytes=1)
    start = events.positions()
    assert events.poll(0).payload == b"one\n"
    events.seek(start)
    assert events.poll(0).payload == b"one\n"
    events.close()
    assert events.poll(0).payload == b"two\n"


@pytest.mark.parametrize("ending", [b"", b"\nlast"])
@pytest.mark.parametrize("block_bytes", [1 << 20, 1 << 25])
def test_of_a_line_beyond_the_limit_the_first_bytes_come(tmp_path, ending, block_bytes):
    payload = b"first\n" + b"x" * (LINE_LIMIT_BYTES + (1 << 20)) + ending
    events = source(write(tmp_path / "impression", payload), block_bytes=block_bytes)
    found = lines(drain(events))
    assert [(number, text[:5]) for _, number, text in found] == list(enumerate([b"first", b"xxxxx", b"last"], start=1))[
        : 2 + bool(ending)
    ]
    assert len(found[1][2]) > LINE_LIMIT_BYTES
    other = source(tmp_path / "impression")
    other.seek(events.positions())
    assert lines(drain(other)) == []


def test_what_is_appended_to_the_last_file_or_behind_it_is_read_on(tmp_path):
    first = write(tmp_path / "impression-1", b"one\n")
    events = source(first)
    drain(events)
    first.write_bytes(b"one\ntwo\n")
    third = write(tmp_path / "impression-3", b"three\n")
    other = source(first, third)
    other.seek(events.positions())
    assert lines(drain(other)) == [("impression-1", 2, b"two"), ("impression-3", 1, b"three")]


def test_files_may_be_moved(tmp_path):
    events = source(write(tmp_path / "impression", b"one\ntwo\n"), block_bytes=1)
    events.poll(0)
    (tmp_path / "new").mkdir()
    os.rename(tmp_path / "impression", tmp_path / "new" / "impression")
    other = source(tmp_path / "new" / "impression")
    other.seek(events.positions())
    assert lines(drain(other)) == [("impression", 2, b"two")]


@pytest.mark.parametrize(
    ("name", "payload", "words"),
    [
        ("impression-1", b"on", r"impression-1 is not the file that was read \(2 bytes now, 4 then\)"),
        ("impression-1", b"ONE\n", "is not the file that was read"),
        ("impression-1", b"one\nmore\n", "impression-1 has grown since it was read to its end"),
        ("impression-2", b"TWO\nthree\n", "impression-2 is not the file that was read"),
        ("impression-2", None, "impression-2 cannot be opened: No such file"),
    ],
)
def test_a_file_that_changed_is_refused(tmp_path, name, payload, words):
    paths = [write(tmp_path / "impression-1", b"one\n"), write(tmp_path / "impression-2", b"two\nthree\n")]
    events = source(*paths, block_bytes=4)
    assert [events.poll(0).payload for _ in range(3)] == [b"one\n", b"", b"two\n"]
    (tmp_path / name).unlink() if payload is None else (tmp_path / name).write_bytes(payload)
    with pytest.raises(DataError, match=words):
        source(*paths).seek(events.positions())


def test_a_file_that_was_left_out_or_slipped_in_before_is_refused(tmp_path):
    paths = [write(tmp_path / f"impression-{place}", b"one\n") for place in range(3)]
    events = source(*paths[1:])
    drain(events)
    with pytest.raises(DataError, match=r"impression-1 was read as file 1 of its stage, and now .*impression-0 stands"):
        source(*paths).seek(events.positions())
    with pytest.raises(DataError, match="impression-2 was read as file 2 of its stage, and now none stands there"):
        source(paths[1]).seek(events.positions())


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_file_is_named(tmp_path, suffix):
    path = tmp_path / f"impression{suffix}"
    path.write_bytes(PACK[suffix](os.urandom(1000))[:-5])
    with pytest.raises(DataError, match=r"impression\.\w+ cannot be read behind byte \d+: Truncated"):
        drain(source(path))


@pytest.mark.parametrize("suffix", PACK)
def test_blocks_are_cut_at_the_same_places_wherever_reading_began(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"impression.jsonl{suffix}", b"".join(b"%d" % 7**n + b"\n" for n in range(40)))
    whole = drain(source(path, block_bytes=64))
    for stop in range(1, len(whole)):
        first, second = source(path, block_bytes=64), source(path, block_bytes=64)
        for _ in range(stop):
            first.poll(0)
        second.seek(first.positions())
        assert drain(second) == whole[stop:]


def test_a_file_that_is_gone_before_it_was_opened_is_told(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"impression-{n}.jsonl", b"{}\n") for n in (1, 2))
    events = source(one, two)
    assert [events.poll(0).file_ended for _ in range(2)] == [False, True]
    with pytest.raises(DataError, match="file 2 of a stage, the next to be read, is gone"):
        source(one).seek(events.positions())
