"""What the columns of Parquet and Arrow files become: the same cells as a JSON message has."""

import datetime as dt
import decimal
import uuid
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from streamctr.decode.cells import Cells, Parsed
from streamctr.decode.rows import parse_rows
from streamctr.ports import RawBlock


def parse(rows: pa.RecordBatch, *fields: str) -> Parsed:
    return parse_rows(RawBlock(0, 0, "view.parquet", 1, b"", True, True, "arrow", rows=rows), fields)


def cells(array: pa.Array) -> Cells:
    found = parse(pa.RecordBatch.from_arrays([array], ["x"]), "x").cells["x"]
    for column in found.arrays:
        column.validate(full=True)
        assert len(column) == len(array)
    return found


def struct_batch(**columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


@pytest.mark.parametrize(
    ("array", "kind", "values"),
    [
        (pa.array([1, None, -128], pa.int8()), pa.int64(), [1, None, -128]),
        (pa.array([1, None], pa.uint64()), pa.int64(), [1, None]),
        (pa.array([(1 << 63) - 1], pa.uint64()), pa.int64(), [(1 << 63) - 1]),
        (pa.array([1.5, None], pa.float32()), pa.float64(), [1.5, None]),
        (pa.array([np.float16(0.5)], pa.float16()), pa.float64(), [0.5]),
        (pa.array([float("nan"), float("inf")]), pa.float64(), [None, float("inf")]),
        (pa.array([decimal.Decimal("1.25"), None]), pa.float64(), [1.25, None]),
        (pa.array(["a", None, ""]), pa.string(), ["a", None, ""]),
        (pa.array(["ä", None], pa.large_string()), pa.string(), ["ä", None]),
        (pa.array(["a", None], pa.string_view()), pa.string(), ["a", None]),
        (pa.array([b"\xc3\xa4", None]), pa.string(), ["ä", None]),
        (pa.array([b"ab", None], pa.binary(2)), pa.string(), ["ab", None]),
        (pa.array(["b", "a", None, "b"]).dictionary_encode(), pa.string(), ["b", "a", None, "b"]),
        (pa.array([True, None, False]), pa.bool_(), [True, None, False]),
        (pa.array([dt.date(2022, 4, 26), None]), pa.timestamp("ms"), [dt.datetime(2022, 4, 26), None]),
        (pa.array([dt.date(2022, 4, 26)], pa.date64()), pa.timestamp("ms"), [dt.datetime(2022, 4, 26)]),
        (pa.nulls(2), pa.string(), [None, None]),
    ],
)
def test_a_column_becomes_cells_of_one_type(array: pa.Array, kind: Any, values: list[Any]) -> None:
    found = cells(array)
    assert [column.type for column in found.arrays] == [kind]
    assert found.arrays[0].to_pylist() == values
    assert found.strange == {}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
def test_a_timestamp_stays_as_it_is(unit: str, zone: str | None) -> None:
    array = pa.array([1_650_931_200, None], pa.timestamp(unit, zone))
    assert cells(array).arrays[0].equals(array)


def test_an_unsigned_integer_beyond_64_bits_is_a_double_as_in_json() -> None:
    found = cells(pa.array([1 << 63, 7, None], pa.uint64()))
    assert [column.to_pylist() for column in found.arrays] == [[None, 7, None], [2.0**63, None, None]]


def test_bytes_that_are_no_text_are_strange_and_their_neighbours_are_not() -> None:
    found = cells(pa.array([b"a", b"\xff", None]))
    assert found.arrays[0].to_pylist() == ["a", None, None]
    assert found.strange == {1: "bytes that are not UTF-8"}


def test_a_text_column_is_not_trusted_to_be_utf8() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")]
    )
    assert cells(broken).strange == {1: "bytes that are not UTF-8"}


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (pa.array([{"a": 1}, None]), "an object"),
        (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), "an object"),
        (pa.array([dt.time(1), None]), "a value of the type time64[us]"),
        (pa.array([uuid.UUID(int=255 << 120).bytes, None], pa.uuid()), "bytes that are not UTF-8"),
        (pa.array([[[1]], []]), "a list with a list"),
        (pa.array([[[{"a": 1}]], [None]]), "a list with a list with an object"),
        (pa.array([[{"a": 1}], []]), "a list with an object"),
        (pa.array([[dt.date(2022, 4, 26)], []]), "a list with a timestamp"),
        (pa.array([[b"a", b"\xff"], []]), "a list with bytes that are not UTF-8"),
        (pa.array([[1, 1 << 63], [5]], pa.list_(pa.uint64())), "a list with an integer beyond 64 bits"),
    ],
)
def test_what_no_cell_holds_is_strange_where_it_stands_and_null_in_the_array(array: pa.Array, what: str) -> None:
    found = cells(array)
    assert found.strange == {0: what}
    assert found.arrays[0][0].as_py() is None


@pytest.mark.parametrize(
    "layout", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda of: pa.list_(of, 2)]
)
@pytest.mark.parametrize("of", [pa.int16(), pa.float32(), pa.string(), pa.bool_(), pa.large_string()])
def test_lists_of_any_layout_and_any_slice_of_them_are_lists_of_what_cells_hold(layout: Any, of: Any) -> None:
    items = {pa.int16(): [1, 2, 3], pa.float32(): [0.5, 1.5, 2.5], pa.bool_(): [True, False, True]}.get(
        of, ["a", "b", "c"]
    )
    a, b, c = items
    values = [[a, a], [a, b], None, [c, None]]
    found = cells(pa.array(values, layout(of))[1:])
    assert found.arrays[0].to_pylist() == values[1:]
    assert found.arrays[0].type in [pa.list_(kind) for kind in (pa.int64(), pa.float64(), pa.string(), pa.bool_())]
    assert found.strange == {}


def test_nan_in_a_list_is_null() -> None:
    assert cells(pa.array([[1.0, float("nan")], []])).arrays[0].to_pylist() == [[1.0, None], []]


def test_a_path_is_a_column_of_that_name_before_it_is_a_field_of_a_struct() -> None:
    rows = struct_batch(**{"a": pa.array([{"b": 1, "c": 2}]), "a.b": pa.array([3])})
    found = parse(rows, "a.b", "a.c").cells
    assert found["a.b"].arrays[0].to_pylist() == [3]
    assert found["a.c"].arrays[0].to_pylist() == [2]


def test_a_path_goes_through_structs_and_a_null_on_the_way_is_missing() -> None:
    rows = struct_batch(imp=pa.array([{"ad": {"id": "x"}}, {"ad": None}, None, {"ad": {"id": None}}]))
    assert parse(rows, "imp.ad.id").cells["imp.ad.id"].arrays[0].to_pylist() == ["x", None, None, None]


def test_a_null_struct_hides_what_its_columns_hold() -> None:
    imp = pa.StructArray.from_arrays([pa.array([1, 2])], ["ad"], mask=pa.array([False, True]))
    assert parse(struct_batch(imp=imp), "imp.ad").cells["imp.ad"].arrays[0].to_pylist() == [1, None]


def test_a_field_that_there_is_not_is_missing() -> None:
    found = parse(struct_batch(imp=pa.array([{"ad": 1}, {"ad": 2}])), "user", "imp.user", "user.id").cells
    assert [found[name].arrays[0].to_pylist() for name in ("user", "imp.user", "user.id")] == [[None, None]] * 3


def test_a_parent_that_is_no_struct_is_strange_where_it_is_not_null() -> None:
    found = parse(struct_batch(imp=pa.array([{"ad": 5}, {"ad": None}])), "imp.ad.id").cells["imp.ad.id"]
    assert found.strange == {0: 'inside "imp.ad", which is a number, not an object'}


def test_all_rows_are_messages() -> None:
    parsed = parse(struct_batch(id=pa.array([7, None, 9])[1:]), "id")
    assert parsed.places.tolist() == [0, 1]
    assert parsed.refused == {}
    assert parsed.cells["id"].arrays[0].to_pylist() == [None, 9]


def test_no_rows_are_no_messages() -> None:
    parsed = parse(struct_batch(id=pa.array([], pa.int32()), tags=pa.array([], pa.list_(pa.int8()))), "id", "tags", "x")
    assert parsed.messages == 0
    assert [len(found.arrays[0]) for found in parsed.cells.values()] == [0, 0, 0]


def test_a_letter_has_the_row_as_json_cut_to_its_limit() -> None:
    rows = struct_batch(
        id=pa.array([1, 7]),
        at=pa.array([0, 1], pa.timestamp("ns")),
        day=pa.array([dt.date(2022, 4, 26)] * 2),
        price=pa.array([decimal.Decimal("1.25")] * 2),
        raw=pa.array([b"\xff", b"ok"]),
        imp=pa.array([{"ad": [1]}, None]),
    )
    parsed = parse(rows, "id")
    assert orjson.loads(parsed.text(1, 1000)) == {
        "id": 7,
        "at": "1970-01-01 00:00:00.000000001",
        "day": "2022-04-26",
        "price": "1.25",
        "raw": "ok",
        "imp": None,
    }
    assert parsed.text(0, 9) == b'{"id":1,"'
    assert b"\xef\xbf\xbd" in parsed.text(0, 1000)


def test_a_letter_names_what_python_cannot_hold() -> None:
    rows = struct_batch(x=pa.array([{"at": 1}], pa.struct([("at", pa.timestamp("ns"))])))
    assert parse(rows).text(0, 100) == b'{"x":"a value of the type struct<at: timestamp[ns]>"}'
