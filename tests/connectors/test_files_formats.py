"""The same messages in every format: what blocks hold, where they are cut, and what is no such file."""

import bz2
import csv
import gzip
import io

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.files import Extent, FilePartition, FilesConfig, FileSource, extent_of
from jobs.progress import Gauge
from streamctr.errors import DataError
from streamctr.schema import CsvConfig

ROWS = [{"id": f"a,{n}", "n": n, "geo": None if n % 3 else {"city": "Ulm"}} for n in range(30)]
FLAT = [{name: row[name] for name in ("id", "n")} for row in ROWS]


def zstd(payload):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(payload)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress}


def written_json(rows=ROWS):
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def written_csv(rows=FLAT, delimiter=","):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_arrow(path, rows, batch_rows=7, stream=False, **options):
    table = pa.Table.from_pylist(rows)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=batch_rows)


def write(path, rows=ROWS):
    """As the path's name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.suffix in (".arrow", ".feather"):
        write_arrow(path, rows, compression="lz4" if path.suffix == ".feather" else None)
    elif path.suffix == ".arrows":
        write_arrow(path, rows, stream=True)
    else:
        kind = path.name.partition(".")[2].partition(".")[0]
        flat = [{name: row[name] for name in ("id", "n")} for row in rows]
        text = {"csv": written_csv(flat), "tsv": written_csv(flat, "\t")}.get(kind, written_json(rows))
        path.write_bytes(PACK[path.suffix if path.suffix in PACK else ""](text))
    return path


def opened(*paths, csv=None, block_bytes=64, **files):
    config = FilesConfig(**({"paths": "."} | files))
    partitions = [FilePartition(0, tuple(str(path) for path in paths))]
    return FileSource(partitions, config, CsvConfig(**csv or {}), block_bytes)


def drain(source):
    blocks = [source.poll(0)]
    while not blocks[-1].ended:
        blocks.append(source.poll(0))
    source.close()
    return blocks


def messages(block):
    """Those of a block, with the numbers of their lines or rows, as a decoder would see them."""
    if block.kind == "arrow":
        found = block.rows.to_pylist()
    elif block.kind == "csv":
        lines = block.payload.decode().splitlines()
        records = csv.reader(lines, delimiter=block.delimiter)
        found = [dict(zip(block.header, record, strict=True)) for record in records]
        found = [row | ({"n": int(row["n"])} if "n" in row else {}) for row in found]
    else:
        found = [orjson.loads(line) for line in block.payload.splitlines()]
    return list(enumerate(found, start=block.first_line))


def told(blocks):
    return [message for block in blocks for message in messages(block)]


LINES = [f"view.{kind}{pack}" for kind in ("jsonl", "csv", "tsv") for pack in PACK]
COLUMNS = ["view.parquet", "view.arrow", "view.feather", "view.arrows"]


@pytest.mark.parametrize("name", [*LINES, *COLUMNS, "view"])
def test_every_format_gives_the_same_messages_in_the_same_order(tmp_path, name):
    blocks = drain(opened(write(tmp_path / name)))
    flat = ".csv" in name or ".tsv" in name
    assert told(blocks) == list(enumerate(FLAT if flat else ROWS, start=2 if flat else 1))
    assert len(blocks) > 4
    assert (
        [block.file_ended for block in blocks]
        == [block.ended for block in blocks]
        == [False] * (len(blocks) - 1) + [True]
    )
    assert {block.kind for block in blocks} == {"csv" if flat else "arrow" if name in COLUMNS else "json"}


def block_facts(block):
    return block.first_line, block.payload, block.rows and block.rows.to_pylist(), block.header, block.file_ended


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_reading_goes_on_in_the_middle_of_many_rows(tmp_path, kind):
    path, table = tmp_path / f"view.{kind}", pa.table({"n": range(30_000)})
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    whole = [(block.first_line, block.rows["n"].to_pylist()) for block in drain(opened(path))]
    assert [first for first, _ in whole] == [1, 8193, 16385, 24577, 30001]
    for stop in range(5):
        first, second = opened(path), opened(path)
        for _ in range(stop):
            first.poll(0)
        second.seek(first.positions())
        assert [(block.first_line, block.rows["n"].to_pylist()) for block in drain(second)] == whole[stop:]


@pytest.mark.parametrize("name", ["view.csv", "view.tsv.gz", "view.csv.zst", *COLUMNS])
def test_blocks_are_the_same_wherever_reading_began(tmp_path, name):
    paths = write(tmp_path / name), write(tmp_path / f"zz-{name}", ROWS[:9])
    whole = [block_facts(block) for block in drain(opened(*paths))]
    for stop in range(len(whole) + 1):
        first, second = opened(*paths), opened(*paths)
        for _ in range(stop):
            first.poll(0)
        second.seek(first.positions())
        assert second.positions() == first.positions()
        rest = [block_facts(block) for block in drain(second)]
        if stop == len(whole):  # the last file is read on from its end, should it have grown
            assert [(rows or payload, ended) for _, payload, rows, _, ended in rest] in ([(b"", True)], [([], True)])
        else:
            assert rest == whole[stop:]
        first.close()


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_rows_come_in_slices_cut_at_8192_within_their_group(tmp_path, kind):
    table, path = pa.table({"n": range(50_000), "wide": ["x"] * 50_000}), tmp_path / f"view.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=20_000)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=20_000)
    blocks = drain(opened(path))
    assert [block.rows.num_rows for block in blocks] == [8192, 8192, 3616, 8192, 8192, 3616, 8192, 1808, 0]
    assert [block.first_line for block in blocks[:4]] == [1, 8193, 16_385, 20_001]
    assert {tuple(block.rows.schema.names) for block in blocks} == {("n", "wide")}
    assert [n for block in blocks for n in block.rows["n"].to_pylist()] == list(range(50_000))


def test_the_run_file_says_the_format_where_names_do_not(tmp_path):
    for name, given in [("a", "csv"), ("b.log", "parquet"), ("c", "arrow")]:
        source = tmp_path / {"csv": "x.csv", "parquet": "x.parquet", "arrow": "x.arrow"}[given]
        (tmp_path / name).write_bytes(write(source).read_bytes())
        assert [row["n"] for _, row in told(drain(opened(tmp_path / name, format=given)))] == list(range(30))
    assert drain(opened(write(tmp_path / "y.csv"), format="json"))[0].kind == "json"


@pytest.mark.parametrize(
    ("text", "config", "header", "payload", "first_line"),
    [
        (b"\xef\xbb\xbfid,n\r\n1,2\r\n", {}, ("id", "n"), b"1,2\r\n", 2),
        (b'"id","a ""b"", c"\n1,2', {}, ("id", 'a "b", c'), b"1,2", 2),
        (b"id;n\n1;2\n", {"delimiter": ";"}, ("id", "n"), b"1;2\n", 2),
        (b"1,2\n", {"columns": ("id", "n")}, ("id", "n"), b"1,2\n", 1),
        (b"\xef\xbb\xbf1,2\n", {"columns": ("id", "n")}, ("id", "n"), b"1,2\n", 1),
        (b"id,n\n", {}, ("id", "n"), b"", 2),
        (b"id,n", {}, ("id", "n"), b"", 1),
        (b"", {}, (), b"", 1),
    ],
)
def test_the_header_names_the_fields_and_counts_as_a_line(tmp_path, text, config, header, payload, first_line):
    path = tmp_path / "view.csv"
    path.write_bytes(text)
    block = drain(opened(path, csv=config))[0]
    assert (block.header, block.payload, block.first_line) == (header, payload, first_line)


def test_a_mark_of_utf8_is_no_part_of_the_first_message(tmp_path):
    path = tmp_path / "view.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n":1}\n\xef\xbb\xbf{"n":2}\n')
    assert [block.payload for block in drain(opened(path, block_bytes=11))][:2] == [
        b'{"n":1}\n',
        b'\xef\xbb\xbf{"n":2}\n',
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", b"id,n,id\n", 'a.csv:1: the header names "id" 2 times; give every column a name of its own'),
        ("a.csv", b"id,,n\n", "a.csv:1: the header has no name for column 2; give it one"),
        ("a.csv", b"\nid,n\n", "a.csv:1: the header has no name for column 1"),
        ("a.csv", b'id,"n\n1,2\n', "a.csv:1: the header cannot be read: unexpected end of data; write it in UTF-8"),
        ("a.csv", b"gr\xf6sse\n", "a.csv:1: the header cannot be read: .* write it in UTF-8, with ',' between names"),
        ("a.csv", b"x" * (1 << 21), "a.csv: the first line, the header, has no end in 1 MiB; is it CSV"),
        ("a.csv", "id".encode("utf-16"), "a.csv was to be lines of text and begins like UTF-16: write it as UTF-8"),
        ("a.jsonl", gzip.compress(b"{}"), "a.jsonl .* begins like gzip: let its name end in .gz"),
        ("a.jsonl", b"PAR1....", "a.jsonl .* begins like Parquet: let its name end in .parquet"),
        (
            "a.gz",
            b"{}\n",
            "a.gz cannot be read behind byte 0: zlib .*incorrect header check; mend it, name it for what",
        ),
        ("a.csv.gz", b"id\n1\n", "a.csv.gz cannot be read behind byte 0: zlib .*incorrect header check"),
        ("a.zst", b"{}\n", "a.zst cannot be read behind byte 0: ZSTD"),
        ("a.bz2", b"{}\n", "a.bz2 cannot be read behind byte 0: bz2"),
        (
            "a.parquet",
            b'{"n": 1}\n',
            "a.parquet, as Parquet, cannot be read behind row 0: Parquet magic bytes not found",
        ),
        ("a.parquet", b"", "a.parquet, as Parquet, cannot be read behind row 0: Parquet file size is 0 bytes"),
        ("a.arrow", b'{"n": 1}\n', "a.arrow, as Arrow, cannot be read behind row 0: Expected to read"),
        ("a.arrow", b"ARROW1", "a.arrow, as Arrow, cannot be read behind row 0: File is too small"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(DataError, match=words):
        drain(opened(tmp_path / name))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_damaged_file_of_columns_is_named(tmp_path, name):
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"{name}, as \w+, cannot be read behind row \d+: "):
        drain(opened(path))


def test_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table([[1], [2]], names=["n", "n"])
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r'a.arrow names "n" 2 times'):
        drain(opened(path))
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    with pytest.raises(DataError, match=r'csv.columns names "n" 2 times'):
        drain(opened(tmp_path / "a.csv", csv={"columns": ("n", "n")}))


def test_the_gauge_is_full_when_all_is_read(tmp_path):
    paths = [write(tmp_path / name) for name in sorted([*LINES, *COLUMNS])]
    source, gauge = opened(*paths), Gauge([FilePartition(0, tuple(map(str, paths)))], FilesConfig(paths="."))
    assert gauge.read(source.positions()) == 0
    done = []
    while not source.poll(0).ended:
        done.append(gauge.read(source.positions()))
    source.close()
    assert done == sorted(done)
    assert 0.9 * gauge.total < done[-1] < 1.1 * gauge.total
    assert extent_of(str(write(tmp_path / "a.parquet")), FilesConfig(paths=".")).steps == 30
    assert extent_of("-", FilesConfig(paths="-")) == Extent(0, 0)


def test_a_damaged_file_has_an_extent(tmp_path):
    for name in ("a.gz", "a.parquet", "a.arrows"):
        (tmp_path / name).write_bytes(b"not at all")
        assert extent_of(str(tmp_path / name), FilesConfig(paths=".")) == (10, 10)
