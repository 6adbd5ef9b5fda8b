"""Files that change while they are read, and standard input, which can be read once."""

import gzip
import io
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.files import FilePartition, FilesConfig, FileSource
from streamctr.errors import DataError
from streamctr.schema import CsvConfig

OPENED = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPENED:
        OPENED.pop().close()


def opened(*paths, block_bytes=8, csv=None, **files):
    partitions = [FilePartition(0, tuple(str(path) for path in paths))]
    config = FilesConfig(**({"paths": "."} | files))
    OPENED.append(FileSource(partitions, config, CsvConfig(**csv or {}), block_bytes))
    return OPENED[-1]


def drain(source):
    blocks = [source.poll(0)]
    while not blocks[-1].ended:
        blocks.append(source.poll(0))
    return blocks


def text(blocks):
    return b"".join(block.payload for block in blocks)


def write(path, payload):
    path.write_bytes(payload)
    return path


def append(path, payload):
    with open(path, "ab") as file:
        file.write(payload)


def test_a_file_is_read_to_the_end_that_it_had_when_it_was_opened(tmp_path):
    path = write(tmp_path / "view", b"one\ntwo\nthree\n")
    source = opened(path)
    assert source.poll(0).payload == b"one\ntwo\n"
    append(path, b"four\n")
    assert text(drain(source)) == b"three\n"
    later = opened(path)
    later.seek(source.positions())
    assert [(block.first_line, block.payload) for block in drain(later)] == [(4, b"four\n"), (5, b"")]


def test_half_a_line_is_left_unread_where_the_file_has_grown(tmp_path):
    path = write(tmp_path / "view", b"one\ntwo\nthr")
    source = opened(path)
    source.poll(0)
    append(path, b"ee\nfour\n")
    blocks = drain(source)
    assert (text(blocks), [block.file_ended for block in blocks]) == (b"", [True])
    later = opened(path)
    later.seek(source.positions())
    assert [(block.first_line, block.payload) for block in drain(later)][:2] == [(3, b"three\n"), (4, b"four\n")]


def test_a_last_line_without_an_end_is_a_line_where_the_file_stays_as_it_is(tmp_path):
    assert text(drain(opened(write(tmp_path / "view", b"one\ntwo\nthr")))) == b"one\ntwo\nthr"


def test_a_header_may_get_its_end_later_but_not_another_half(tmp_path):
    for appended, good in ((b"\n1,2\n", True), (b"lick\n1,2\n", False)):
        path = write(tmp_path / "view.csv", b"id,c")
        source = opened(path)
        drain(source)
        append(path, appended)
        later = opened(path)
        later.seek(source.positions())
        if good:
            blocks = drain(later)
            assert (text(blocks), [block.first_line for block in blocks]) == (appended, [1, 2, 3])
        else:
            with pytest.raises(DataError, match=r"view.csv: its header was half written when it was read; start with"):
                later.poll(0)


def test_closing_in_between_does_not_move_the_end(tmp_path):
    path = write(tmp_path / "view", b"one\ntwo\nthree\n")
    source = opened(path)
    source.poll(0)
    append(path, b"four\n")
    source.close()
    assert text(drain(source)) == b"three\n"


def test_a_run_that_goes_on_reads_to_the_end_that_the_file_has_by_then(tmp_path):
    path = write(tmp_path / "view", b"one\ntwo\nthree\n")
    source = opened(path)
    source.poll(0)
    append(path, b"four\n")
    later = opened(path)
    later.seek(source.positions())
    assert text(drain(later)) == b"three\nfour\n"


def test_only_the_last_file_of_a_partition_may_grow(tmp_path):
    paths = [write(tmp_path / f"view-{n}", b"one\ntwo\nthree\n") for n in (1, 2)]
    source = opened(*paths)
    source.poll(0)
    append(paths[0], b"four\n")
    with pytest.raises(DataError, match=r"view-1 has grown while it was read, and .*view-2 stands behind it; let the"):
        drain(source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(b"one\ntwo\n"), r"view has changed while it was read \(14 bytes then, 8 now\)"),
        (lambda path: path.write_bytes(b"ONE\ntwo\nthree\nfour\n"), r"view has changed while it was read"),
        (lambda path: path.unlink(), "view cannot be opened: No such file or directory; put it back"),
    ],
)
def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path, change, words):
    path = write(tmp_path / "view", b"one\ntwo\nthree\n")
    source = opened(path)
    source.poll(0)
    change(path)
    with pytest.raises(DataError, match=words):
        drain(source)


def test_a_compressed_file_that_grows_is_refused(tmp_path):
    path = write(tmp_path / "view.gz", gzip.compress(b"one\ntwo\n"))
    source = opened(path)
    assert source.poll(0).payload == b"one\ntwo\n"
    append(path, gzip.compress(b"three\n"))
    with pytest.raises(
        DataError, match=r"view.gz has changed while it was read .* when it is complete: only plain lines"
    ):
        drain(source)


def test_a_file_that_is_still_being_compressed_is_told_as_such(tmp_path):
    packed = gzip.compress(bytes(range(256)) * 4000)
    path = write(tmp_path / "view.gz", packed[:100])
    source = opened(path, block_bytes=1 << 20)
    source._partitions[0].reader = source._open(source._partitions[0])
    append(path, packed[100:200])
    with pytest.raises(DataError, match=r"view.gz has changed while it was read \(100 bytes then, 200 now\)"):
        drain(source)


def test_rows_that_were_written_anew_are_not_those_that_were_read(tmp_path):
    path = tmp_path / "view.parquet"
    pq.write_table(pa.table({"n": range(9)}), path, row_group_size=4)
    source = opened(path)
    assert source.poll(0).rows["n"].to_pylist() == [0, 1, 2, 3]
    pq.write_table(pa.table({"n": range(11)}), path, row_group_size=4)
    with pytest.raises(DataError, match=r"view.parquet is not the file that was read"):
        opened(path).seek(source.positions())
    with pytest.raises(DataError, match=r"view.parquet has changed while it was read"):
        drain(source)


def test_rows_that_were_put_behind_others_are_refused_though_the_file_begins_the_same(tmp_path):
    path, rows = tmp_path / "view.arrows", pa.table({"n": range(20_000)})
    with pa.ipc.new_stream(path, rows.schema) as writer:
        writer.write_table(rows)
        writer.write_table(rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    source = opened(path)
    source.poll(0)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"view.arrows is not the file that was read"):
        opened(path).seek(source.positions())


def test_other_partitions_than_were_read_are_refused(tmp_path):
    path = write(tmp_path / "view", b"one\n")
    source = FileSource([FilePartition(0, (str(path),))] * 2, FilesConfig(paths="."), CsvConfig())
    with pytest.raises(DataError, match="files: 2 partitions were read side by side, and now there are 1; put back"):
        opened(path).seek(source.positions())
    with pytest.raises(DataError, match="files: 1 partitions were read side by side, and now there are 2; put back"):
        source.seek(opened(path).positions())


def feed(monkeypatch, payload):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(payload)))


LONG = b"".join(b"%d\n" % n for n in range(40_000))


def test_standard_input_goes_on_where_it_was_stopped(monkeypatch):
    feed(monkeypatch, LONG)
    whole = [(block.first_line, block.payload, block.path) for block in drain(opened("-", block_bytes=50_000))]
    assert b"".join(payload for _, payload, _ in whole) == LONG
    for stop in range(len(whole)):
        feed(monkeypatch, LONG)
        first = opened("-", block_bytes=50_000)
        for _ in range(stop):
            first.poll(0)
        feed(monkeypatch, LONG)
        second = opened("-", block_bytes=50_000)
        second.seek(first.positions())
        assert second.positions() == first.positions()
        assert [(block.first_line, block.payload, block.path) for block in drain(second)] == whole[stop:]


def test_records_on_standard_input_have_their_header_also_when_it_is_read_on(monkeypatch):
    feed(monkeypatch, b"id,n\n1,2\n3,4\n5,6\n")
    first = opened("-", format="csv")
    block = first.poll(0)
    assert (block.kind, block.header, block.first_line, block.payload) == ("csv", ("id", "n"), 2, b"1,2\n3,4\n")
    feed(monkeypatch, b"id,n\n1,2\n3,4\n5,6\n")
    second = opened("-", format="csv")
    second.seek(first.positions())
    block = second.poll(0)
    assert (block.header, block.first_line, block.payload) == (("id", "n"), 4, b"5,6\n")


def test_other_standard_input_than_was_read_is_refused(monkeypatch):
    feed(monkeypatch, b"one\ntwo\nthree\n")
    first = opened("-")
    first.poll(0)
    for other, words in [
        (b"one\nTWO\nthree\n", "standard input is not what was read before: feed it the same, or start with --fresh"),
        (b"one\n", "standard input is not what was read before"),
        (b"", "standard input is not what was read before"),
    ]:
        feed(monkeypatch, other)
        with pytest.raises(DataError, match=words):
            opened("-").seek(first.positions())
    with pytest.raises(DataError, match=r"a.jsonl was read as file 1 of its stage, and now - stands there"):
        opened("-").seek(opened("-").positions().replace('"files":[]', '"files":[["a.jsonl",1,1]]'))


def test_standard_input_that_is_shorter_than_what_was_read_is_refused(monkeypatch):
    feed(monkeypatch, LONG)
    first = opened("-", block_bytes=1 << 18)
    first.poll(0)
    feed(monkeypatch, LONG[:70_000])
    second = opened("-")
    second.seek(first.positions())
    with pytest.raises(DataError, match=r"standard input holds \d+ bytes less than were read of it; put it back"):
        second.poll(0)


def test_standard_input_cannot_be_read_twice(monkeypatch):
    feed(monkeypatch, b"one\ntwo\nthree\n")
    source = opened("-")
    start = source.positions()
    source.poll(0)
    source.seek(source.positions())
    source.close()
    assert source.poll(0).payload == b"three\n"
    with pytest.raises(DataError, match="standard input cannot be read again; start the command anew"):
        source.seek(start)


def test_packed_standard_input_is_refused(monkeypatch):
    feed(monkeypatch, gzip.compress(b"one\n"))
    with pytest.raises(DataError, match="standard input was to be lines of text and begins like gzip"):
        opened("-").poll(0)


def test_a_pipe_is_read_to_its_end():
    program = (
        "from connectors.files import FilePartition, FilesConfig, FileSource\n"
        "from streamctr.schema import CsvConfig\n"
        "source = FileSource([FilePartition(-1, ('-',))], FilesConfig(paths='-'), CsvConfig(), block_bytes=100_000)\n"
        "lines, ended = 0, False\n"
        "while not ended:\n"
        "    block = source.poll(0)\n"
        "    lines, ended = lines + block.payload.count(b'\\n'), block.ended\n"
        "print(lines, block.stage)\n"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", program], input=LONG, capture_output=True, check=True, cwd=root)
    assert done.stdout == b"40000 -1\n"


def test_more_files_side_by_side_than_may_be_open_are_told(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    paths = [write(tmp_path / f"view-{n}", b"one\n" * 9) for n in range(100)]
    partitions = [FilePartition(0, (str(path),)) for path in paths]
    OPENED.append(FileSource(partitions, FilesConfig(paths=".", merge="time"), CsvConfig(), 8))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with pytest.raises(
            DataError, match=r"view-\d+ cannot be opened: Too many open files; raise the limit with ulimit"
        ):
            [OPENED[-1].poll(n) for n in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
