"""Columns of every type that files can hold, and what their rows would be as JSON."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isinf, isnan
from typing import Any

import orjson
import pyarrow as pa

START_US = 1_650_812_741_436_999
TIMES = frozenset({"ts", "install_ts", "paid_ts"})
"""Where a timestamp is a time; elsewhere it is its text."""

_INTEGERS = (0, 1, 7, -7, 99, None)
_DOUBLES = (0.0, -0.0, 1.0, 2.5, 0.1, 1e300, float("nan"), float("inf"), None)
_TEXTS = ("", "7", "007", "x", "1.0", "NaN", " 7", "all", "imp", "beat", "2022-04-24T15:05Z", "a, b,,", "é\0", None)
_DAYS = (date(2022, 4, 24), date(1969, 12, 31), None)
_LISTS = ([], None, [1, 2], [7], [None, 3], [0, None], [1, 2, 3])
_FLOAT_LISTS = ([], None, [1.0, 2.5], [0.5], [None, 3.0], [float("nan"), 1.0], [float("inf"), 1.0])

ODD: list[tuple[Any, tuple[Any, ...]]] = [
    (pa.null(), (None,)),
    (pa.bool_(), (True, False, None)),
    *((kind, _INTEGERS) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    (pa.uint64(), (0, 7, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, None)),
    *((kind, _DOUBLES) for kind in (pa.float32(), pa.float64())),
    (pa.decimal128(20, 3), (Decimal("1.500"), Decimal("7.000"), None)),
    *((kind, _TEXTS) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, (b"7", b"\xff", b"a\xed\xa0\x80", b"", None)) for kind in (pa.binary(), pa.large_binary())),
    (pa.binary(2), (b"ab", b"\xff\xfe", None)),
    (pa.dictionary(pa.int8(), pa.string()), _TEXTS),
    *((kind, _DAYS) for kind in (pa.date32(), pa.date64())),
    *((pa.timestamp(unit), (START_US // 10**6 * 10**3, None)) for unit in ("ms",)),
    *((pa.timestamp("us", zone), (START_US, START_US - 1, None)) for zone in (None, "UTC", "Asia/Tokyo")),
    (pa.timestamp("s", "UTC"), (START_US // 10**6, None)),
    (pa.time32("s"), (5, None)),
    (pa.duration("ms"), (5, None)),
    *((pa.list_(kind), _LISTS) for kind in (pa.int64(), pa.int8())),
    (pa.large_list(pa.int64()), _LISTS),
    (pa.list_(pa.float64()), _FLOAT_LISTS),
    (pa.list_(pa.float64(), 2), ([1.0, 2.0], [None, 1.0], None)),
    (pa.list_(pa.string()), (["a"], [], [None, "b", "007"], None)),
    (pa.list_(pa.binary()), ([b"a"], [b"\xff"], [], None)),
    (pa.list_(pa.bool_()), ([True, False], None)),
    (pa.list_(pa.list_(pa.int64())), ([[1]], [None], [], None)),
    (pa.list_(pa.struct({"a": pa.int64()})), ([{"a": 1}], None)),
    (pa.struct({"a": pa.int64()}), ({"a": 1}, {"a": None}, None)),
    (pa.map_(pa.string(), pa.int64()), ([("a", 1)], None)),
]


def odd_column(draw: random.Random, n: int) -> Any:
    """A column of a type that is drawn."""
    kind, values = ODD[draw.randrange(len(ODD))]
    return pa.array([values[draw.randrange(len(values))] for _ in range(n)], kind)


def usual_column(draw: random.Random, values: list[Any], share: float) -> Any:
    """A column of these values, some of which are left out; in one of the layouts that mean the same."""
    column = pa.array([None if draw.random() < share else value for value in values])
    kind, which = column.type, draw.randrange(4)
    if pa.types.is_string(kind):
        layouts: list[Callable[[], Any]] = [
            lambda: column,
            column.dictionary_encode,
            lambda: column.cast(pa.large_string()),
            lambda: column.cast(pa.binary()),
        ]
        return layouts[which]()
    return column.cast(pa.large_list(kind.value_type)) if pa.types.is_list(kind) and which == 0 else column


def as_json(rows: Any, ends: tuple[str, ...]) -> list[bytes]:
    """What each row says, as a JSON message; what JSON cannot say is an object, which no field may be.

    Args:
        rows: a record batch.
        ends: names of the columns' fields, as paths.
    """
    columns = [[_value(value, path in TIMES) for value in _listed(rows.column(path))] for path in ends]
    lines = []
    for values in zip(*columns, strict=True):
        message: dict[str, Any] = {}
        for path, value in zip(ends, values, strict=True):
            parent, _, member = path.rpartition(".")
            (message.setdefault(parent, {}) if parent else message)[member] = value
        lines.append(orjson.dumps(message))
    return lines


def _listed(column: Any) -> list[Any]:
    return list(column.to_pylist())


def _value(value: Any, is_time: bool) -> Any:
    if isinstance(value, list) and not (value and isinstance(value[0], tuple)):
        return [_value(item, False) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {}
    if isinstance(value, Decimal | float):
        return None if isnan(value) else {} if isinf(value) else float(value)
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
        return moment.isoformat() if is_time else _stamp_text(moment)
    return value if value is None or isinstance(value, str | int) else {}


def _stamp_text(moment: datetime) -> str:
    """To the millisecond, in UTC where it has a zone."""
    if moment.tzinfo is None:
        return moment.isoformat(timespec="milliseconds")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
