"""Lookup files: the same cells from every format, and a clear word where a file is no good."""

import bz2
import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.tables import read_table
from streamctr.decode.cells import Parsed
from streamctr.errors import DataError

ITEMS = Path(__file__).parents[3] / "shared" / "data" / "kuairand" / "video_features_basic_pure.csv.gz"

CSV = b'id,title,price\r\n7,"red, ""big""",1.5\r\n8,,\r\n'
JSON = b'{"id":7,"title":"red, \\"big\\"","price":1.5}\n\n{"id":8,"title":null,"extra":[{}]}'
ROWS = pa.table({"id": [7, 8], "title": ['red, "big"', None], "price": [1.5, None]})
TEXTS = {"id": ["7", "8"], "title": ['red, "big"', None], "price": ["1.5", None]}
VALUES = {"id": [7, 8], "title": ['red, "big"', None], "price": [1.5, None]}


def arrow(table: pa.Table, stream: bool = False) -> bytes:
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return sink.getvalue().to_pybytes()


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1)
    return sink.getvalue().to_pybytes()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def values(parsed: Parsed) -> dict[str, list[Any]]:
    """The one value of each row that any array of a column holds."""
    held = {
        name: zip(*(array.to_pylist() for array in cells.arrays), strict=True) for name, cells in parsed.cells.items()
    }
    return {
        name: [next((value for value in row if value is not None), None) for row in rows] for name, rows in held.items()
    }


def read(folder: Path, name: str, data: bytes, *columns: str) -> Parsed:
    path = folder / name
    path.write_bytes(data)
    parsed, sha256 = read_table(str(path), columns)
    assert sha256 == hashlib.sha256(data).hexdigest()
    return parsed


def refusal(folder: Path, name: str, data: bytes, *columns: str) -> str:
    """What is said of a file, without the folder."""
    with pytest.raises(DataError) as error:
        read(folder, name, data, *columns)
    return str(error.value).replace(f"{folder}{os.sep}", "")


@pytest.mark.parametrize(
    ("name", "data", "wanted"),
    [
        ("items.csv", CSV, TEXTS),
        ("items.csv", b"\xef\xbb\xbf" + CSV, TEXTS),
        ("items.tsv", b'id\ttitle\tprice\n7\t"red, ""big"""\t1.5\n\n8\t\t\n', TEXTS),
        ("items.csv.gz", gzip.compress(CSV), TEXTS),
        ("items.csv.gz", gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]), TEXTS),
        ("items.csv.zst", zstd(CSV), TEXTS),
        ("items.csv.bz2", bz2.compress(CSV), TEXTS),
        ("items.jsonl", JSON, VALUES),
        ("items.jsonl", b"\xef\xbb\xbf" + JSON, VALUES),
        ("items.json.gz", gzip.compress(JSON), VALUES),
        ("items.parquet", parquet(ROWS), VALUES),
        ("items.arrow", arrow(ROWS), VALUES),
        ("items.feather", arrow(ROWS), VALUES),
        ("items.arrows", arrow(ROWS, stream=True), VALUES),
    ],
)
def test_every_format_gives_the_same_columns_and_the_hash_of_what_is_stored(
    tmp_path: Path, name: str, data: bytes, wanted: dict[str, list[Any]]
) -> None:
    assert values(read(tmp_path, name, data, "id", "title", "price")) == wanted
    assert values(read(tmp_path, name, data, "price")) == {"price": wanted["price"]}


def test_a_field_of_a_struct_is_named_with_dots(tmp_path: Path) -> None:
    table = pa.table({"ad": [{"id": 7, "size": "xl"}, None], "a": [1, 2]})
    wanted = {"ad.id": [7, None], "a": [1, 2]}
    assert values(read(tmp_path, "ads.parquet", parquet(table), "ad.id", "a")) == wanted
    assert values(read(tmp_path, "ads.arrow", arrow(table), "ad.id", "a")) == wanted
    lines = b'{"a":1,"ad":{"id":7}}\n{"a":2}'
    assert values(read(tmp_path, "ads.jsonl", lines, "ad.id", "a")) == wanted


@pytest.mark.parametrize("name", ["items.csv", "items.parquet", "items.arrow", "items.arrows"])
def test_a_table_with_columns_and_no_rows_is_good(tmp_path: Path, name: str) -> None:
    none = ROWS.slice(0, 0)
    data = {"csv": b"id,title\n", "parquet": parquet(none), "arrow": arrow(none), "arrows": arrow(none, stream=True)}
    parsed = read(tmp_path, name, data[name.split(".")[1]], "id", "title")
    assert parsed.messages == 0
    assert values(parsed) == {"id": [], "title": []}


def test_a_column_that_the_first_line_leaves_out_may_stand_in_a_later_one(tmp_path: Path) -> None:
    assert values(read(tmp_path, "a.jsonl", b'{"id":1}\n{"id":2,"x":{}}\n{"id":3,"y":"z"}', "y")) == {
        "y": [None, None, "z"]
    }


def test_a_column_that_is_null_wherever_it_stands_is_a_column(tmp_path: Path) -> None:
    assert values(read(tmp_path, "a.jsonl", b'{"id":1,"x":null}', "x")) == {"x": [None]}


@pytest.mark.parametrize(
    ("name", "data", "wanted"),
    [
        ("items.csv", CSV, 'items.csv has no column "titel"; did you mean "title"?'),
        ("items.jsonl", JSON, 'items.jsonl has no column "titel"; did you mean "title"?'),
        ("items.parquet", parquet(ROWS), 'items.parquet has no column "titel"; did you mean "title"?'),
        ("items.arrow", arrow(ROWS), 'items.arrow has no column "titel"; did you mean "title"?'),
        ("a.csv", b"x,y\n1,2\n", 'a.csv has no column "titel"; it has x, y'),
        ("a.csv", b"", 'a.csv has no column "titel"; it has none'),
        ("a.jsonl", b"", 'a.jsonl has no column "titel"; it has none'),
        ("a.jsonl", b'{"titel.x":1}', 'a.jsonl has no column "titel"; it has none'),
        ("a.csv", ",".join(f"c{n}" for n in range(30)).encode(), "it has c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10,"),
    ],
)
def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path, name: str, data: bytes, wanted: str) -> None:
    assert wanted in refusal(tmp_path, name, data, "titel")


def test_a_malformed_line_is_named_by_its_number(tmp_path: Path) -> None:
    wanted = (
        "a.csv:4: the number of fields is 1, not 2 as in the header; "
        "every line of a lookup file must be good, mend this one (1 more are not)"
    )
    assert refusal(tmp_path, "a.csv", b'id,x\n1,2\n\n3\n4,5\n"6,7\n', "id") == wanted
    wanted = "a.jsonl:3: not a JSON object; every line of a lookup file must be good, mend this one"
    assert refusal(tmp_path, "a.jsonl", b'{"id":1}\n\n[2]\n', "id") == wanted


@pytest.mark.parametrize(
    ("name", "data", "wanted"),
    [
        ("a.parquet", b"id,x\n1,2\n", "a.parquet cannot be read as Parquet:"),
        ("a.parquet", parquet(ROWS)[:-30], "a.parquet cannot be read as Parquet:"),
        ("a.arrow", CSV, "a.arrow cannot be read as Arrow:"),
        ("a.arrow", arrow(ROWS)[:300], "a.arrow cannot be read as Arrow:"),
        ("a.csv.gz", CSV, "a.csv.gz cannot be read as gzip of CSV:"),
        ("a.csv.gz", gzip.compress(CSV * 99)[:-30], "a.csv.gz cannot be read as gzip of CSV:"),
        ("a.csv", gzip.compress(CSV), "a.csv was to be lines of text and begins like gzip: let its name end in .gz"),
        ("a.jsonl", parquet(ROWS), "a.jsonl was to be lines of text and begins like Parquet"),
        ("a.csv", b"id,id\n", 'names "id" 2 times; give every column a name of its own'),
        ("a.csv", b"id,\n", "has no name for column 2; give it one"),
        ("a.xlsx", b"", "a.xlsx: .xlsx is not read"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, data: bytes, wanted: str) -> None:
    assert wanted in refusal(tmp_path, name, data, "id")


def test_a_file_that_is_not_there_a_folder_and_one_that_may_not_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*items\.csv in .*; name the file of the lookup"):
        read_table(str(tmp_path / "items.csv"), ["id"])
    with pytest.raises(DataError, match=r"is a folder; name one file in it"):
        read_table(str(tmp_path), ["id"])
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CSV)
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(DataError, match=r"secret\.csv cannot be read: Permission denied; let this user read it"):
        read_table(str(secret), ["id"])


@pytest.mark.skipif(not ITEMS.exists(), reason="../shared/data/kuairand is not here")
def test_a_real_table_is_read_whole() -> None:
    parsed, _ = read_table(str(ITEMS), ["video_id", "tag", "music_id"])
    columns = values(parsed)
    with gzip.open(ITEMS, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert parsed.messages == len(lines) - 1
    assert columns["video_id"] == [line.split(",")[0] for line in lines[1:]]
    assert columns["tag"][0] == "39"
