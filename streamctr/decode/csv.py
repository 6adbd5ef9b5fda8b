"""CSV records to columns: one kernel finds the wanted fields of each line, another gathers each column's texts.

The rule is RFC 4180 with one record a line: a field that holds the delimiter or a quote stands in double quotes, and a
quote within it is doubled. A line break within quotes is not supported: quotes must be closed in their line, and may
not stand in a field without quotes around it, so that neither half of such a record passes for a whole one.

Legend: L lines, N records that are well formed, C columns of the file, W wanted ones.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.decode.cells import Cells, Parsed
from streamctr.kernel import kernel
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock
from streamctr.schema import CsvConfig

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_GOOD, _BLANK, _LONG, _COUNT, _UNCLOSED, _BEHIND, _STRAY, _NUL, _NOT_UTF8 = range(9)
_REASONS: Final = {
    _LONG: f"longer than {LINE_LIMIT_BYTES} bytes",
    _UNCLOSED: "a quote is not closed in its line (a line break within quotes is not supported)",
    _BEHIND: 'text behind a closing quote (a quote within quotes is written "")',
    _STRAY: "a quote in a field without quotes around it (a line break within quotes is not supported)",
    _NUL: "a NUL byte",
    _NOT_UTF8: "not UTF-8",
}
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D
_QUOTE: Final = 0x22


class _Form(NamedTuple):
    """How the records are written."""

    marks: U8
    """1 for the delimiter and the quote, 0 for all other bytes, (256,)."""
    slots_C: I64
    """Which wanted column each column of the file is; -1 for those that are not wanted."""


class _Found(NamedTuple):
    """What the scan finds; the columns of records have room for as many as there are lines."""

    states_L: U8
    fields_L: I32
    """How many fields a line has, where that is the reason."""
    places_N: I64
    """The line of each record."""
    starts_WN: I32
    ends_WN: I32
    sizes_WN: I32
    """Bytes of the field without the second one of doubled quotes."""
    marked: I32
    """Where delimiters and quotes stand in the line that is read, and its end behind them."""


@kernel
def _follows(data: U8, at: int, end: int) -> int:
    """How many bytes go on with the character that begins at `at`, 0 to 3; -1 where they are no UTF-8."""
    lead, low, high = int(data[at]), 0x80, 0xBF
    if lead < 0x80:
        return 0
    if lead < 0xC2 or lead > 0xF4 or at + 1 >= end:
        return -1
    if lead == 0xE0:
        low = 0xA0  # what is shorter in two bytes
    elif lead == 0xED:
        high = 0x9F  # surrogates
    elif lead == 0xF0:
        low = 0x90  # what is shorter in three bytes
    elif lead == 0xF4:
        high = 0x8F  # beyond U+10FFFF
    follows = 1 + int(lead >= 0xE0) + int(lead >= 0xF0)
    good = at + follows < end and low <= data[at + 1] <= high
    for place in range(at + 2, min(at + follows + 1, end)):
        good &= data[place] & 0xC0 == 0x80
    return follows if good else -1


@kernel
def _judge_bytes(data: U8, at: int, end: int) -> int:
    """Whether bytes may stand in a line at all: GOOD, NUL or NOT_UTF8."""
    least, ored = 0xFF, 0
    for place in range(at, end):
        least = min(least, data[place])
        ored |= data[place]
    if least == 0:
        return _NUL
    if ored < 0x80:
        return _GOOD
    while at < end:
        follows = _follows(data, at, end)
        if follows < 0:
            return _NOT_UTF8
        at += follows + 1
    return _GOOD


@kernel
def _mark(data: U8, at: int, end: int, form: _Form, marked: I32) -> int:
    """Write where delimiters and quotes stand, and `end` behind them; how many there are.

    Every place is written, and overwritten unless its byte is a mark: no branch, so three times as fast as a search.
    """
    n_marks = 0
    for place in range(at, end):
        marked[n_marks] = place
        n_marks += int(form.marks[data[place]])
    marked[n_marks] = end
    return n_marks


@kernel
def _close(data: U8, marked: I32, mark: int, n_marks: int) -> tuple[int, int]:
    """Which mark, `mark` or behind it, is the quote that closes a field; `n_marks` for none; doubled ones before it."""
    doubled = 0
    while mark < n_marks:
        if data[marked[mark]] == _QUOTE:
            behind = marked[mark] + 1
            if mark + 1 == n_marks or marked[mark + 1] != behind or data[behind] != _QUOTE:
                return mark, doubled
            doubled += 1
            mark += 1
        mark += 1
    return n_marks, doubled


@kernel
def _read_field(data: U8, at: int, marked: I32, mark: int, n_marks: int) -> tuple[int, int, int, int, int]:
    """The field at `at`, before which all marks are read: state, start, end, size, and the mark behind the field."""
    stop = marked[mark]
    if mark == n_marks or data[stop] != _QUOTE:
        return _GOOD, at, stop, stop - at, mark
    if stop != at:
        return _STRAY, at, stop, 0, mark
    mark, doubled = _close(data, marked, mark + 1, n_marks)
    if mark == n_marks:
        return _UNCLOSED, at, stop, 0, mark
    stop, behind = marked[mark], marked[mark + 1]
    return (_GOOD if behind == stop + 1 else _BEHIND), at + 1, stop, stop - at - 1 - doubled, mark + 1


@kernel
def _read_record(data: U8, at: int, end: int, form: _Form, found: _Found, row: int) -> tuple[int, int]:
    """Write the wanted fields of a line as record `row`; its state, and how many fields it has."""
    column, mark = 0, 0
    n_marks = _mark(data, at, end, form, found.marked)
    while True:
        state, start, stop, size, mark = _read_field(data, at, found.marked, mark, n_marks)
        if state != _GOOD:
            return state, column
        if column < len(form.slots_C) and form.slots_C[column] >= 0:
            slot = form.slots_C[column]
            found.starts_WN[slot, row], found.ends_WN[slot, row], found.sizes_WN[slot, row] = start, stop, size
        column += 1
        if mark == n_marks:
            return (_GOOD if column == len(form.slots_C) else _COUNT), column
        at = found.marked[mark] + 1
        mark += 1


@kernel
def _scan(data: U8, starts_L: I64, form: _Form, found: _Found) -> int:
    """Find the records of whole lines; how many are well formed. `starts_L` ends where a further line would begin."""
    row = 0
    for line in range(len(found.states_L)):
        at, end, fields = starts_L[line], starts_L[line + 1] - 1, 0
        if end > at and data[end - 1] == _RETURN:
            end -= 1
        if end == at:
            state = _BLANK
        elif end - at > LINE_LIMIT_BYTES:
            state = _LONG
        else:
            state = _judge_bytes(data, at, end)
        if state == _GOOD:
            state, fields = _read_record(data, at, end, form, found, row)
        if state == _GOOD:
            found.places_N[row] = line
            row += 1
        found.states_L[line], found.fields_L[line] = state, fields
    return row


@kernel
def _gather(data: U8, starts_N: I32, ends_N: I32, offsets: I32, texts: U8) -> None:
    """Copy the fields of one column behind each other, with single quotes for doubled ones.

    `texts` has room for 7 bytes more: eight at a time are copied, and the next field goes over what is too much.
    """
    for row in range(len(starts_N)):
        at, end, to = starts_N[row], ends_N[row], offsets[row]
        if offsets[row + 1] - to == end - at and end + 8 <= len(data):
            while at < end:
                for place in range(8):
                    texts[to + place] = data[at + place]
                at += 8
                to += 8
        else:
            while at < end:
                texts[to] = data[at]
                at += 1 + int(data[at] == _QUOTE)
                to += 1


def parse_csv(block: RawBlock, fields: Sequence[str], csv: CsvConfig) -> Parsed:
    r"""The wanted fields of a block of records (below 2 GiB), as texts; an empty one is null, as `csv.missing` is.

    A field that `block.header` does not name is null in every record; of two columns with one name the last counts.

    >>> header = ("id", "ad")
    >>> block = RawBlock(0, 0, "view.csv", 2, b'1,red\n2,"a ""b"", c"\n3\n4,\n', True, True, "csv", header)
    >>> parsed = parse_csv(block, ["ad"], CsvConfig())
    >>> parsed.cells["ad"].arrays[0].to_pylist(), parsed.places.tolist(), parsed.refused
    (['red', 'a "b", c', None], [0, 1, 3], {2: 'the number of fields is 1, not 2 as in the header'})
    """
    columns = {name: column for column, name in enumerate(block.header)}
    wanted = [name for name in dict.fromkeys(fields) if name in columns]
    slots_C = np.full(len(block.header), -1, np.int64)
    slots_C[[columns[name] for name in wanted]] = np.arange(len(wanted))
    marks = np.zeros(256, np.uint8)
    marks[[ord(block.delimiter), _QUOTE]] = 1
    data = np.frombuffer(block.payload, np.uint8)
    starts_L = np.concatenate(([0], np.flatnonzero(data == _NEWLINE) + 1, [len(data) + 1]))
    found = _room(starts_L, len(wanted))
    n = _scan(data, starts_L, _Form(marks, slots_C), found)
    cells = {name: Cells((pa.nulls(n, pa.string()),)) for name in fields}
    for name, column in zip(wanted, _texts(data, found, n), strict=True):
        cells[name] = Cells((_without(column, csv.missing),))

    def text(place: int, limit: int) -> bytes:
        start, end = int(starts_L[place]), int(starts_L[place + 1]) - 1
        return block.payload[start : min(end, start + limit)]

    return Parsed(cells, found.places_N[:n], _refusals(found, len(block.header)), text)


def _room(starts_L: I64, n_wanted: int) -> _Found:
    n_lines, longest = len(starts_L) - 1, min(int(np.diff(starts_L).max()), LINE_LIMIT_BYTES)
    starts, ends, sizes = (np.empty((n_wanted, n_lines), np.int32) for _ in range(3))
    states, fields, places = np.empty(n_lines, np.uint8), np.empty(n_lines, np.int32), np.empty(n_lines, np.int64)
    return _Found(states, fields, places, starts, ends, sizes, np.empty(longest + 1, np.int32))


def _refusals(found: _Found, n_columns: int) -> dict[int, str]:
    """Why lines are no records, by line."""
    reasons: dict[int, str] = {}
    for line in np.flatnonzero((found.states_L != _GOOD) & (found.states_L != _BLANK)).tolist():
        count = f"the number of fields is {found.fields_L[line]}, not {n_columns} as in the header"
        reasons[line] = _REASONS.get(int(found.states_L[line]), count)
    return reasons


def _texts(data: U8, found: _Found, n: int) -> list[Any]:
    """The wanted columns as Arrow arrays of texts, (N,) each; null where a field is empty."""
    sizes_WN = found.sizes_WN[:, :n]
    offsets_WN = np.zeros((len(sizes_WN), n + 1), np.int32)
    np.cumsum(sizes_WN, axis=1, out=offsets_WN[:, 1:])
    present_WN = np.packbits(sizes_WN > 0, axis=1, bitorder="little")
    columns = []
    for slot, (offsets, present) in enumerate(zip(offsets_WN, present_WN, strict=True)):
        texts = np.empty(offsets[-1] + 7, np.uint8)
        _gather(data, found.starts_WN[slot, :n], found.ends_WN[slot, :n], offsets, texts)
        buffers = [pa.py_buffer(part) for part in (present, offsets, texts)]
        columns.append(pa.Array.from_buffers(pa.string(), n, buffers))
    return columns


def _without(column: Any, missing: Sequence[str]) -> Any:
    """The column with null for the texts that stand for no value."""
    if not missing:
        return column
    return pc.if_else(pc.is_in(column, pa.array(missing, pa.string())), pa.scalar(None, pa.string()), column)
