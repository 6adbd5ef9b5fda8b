"""Rows of a Parquet or an Arrow file, a few thousand at a time."""

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.files.formats import Kind
from connectors.files.lines import check_columns
from connectors.files.streams import reading
from streamctr.ports import RawBlock

_BLOCK_ROWS: Final = 8192


class RowReader:
    """Blocks of rows, cut at multiples of 8,192 within a row group or record batch.

    Args:
        path: the file.
        kind: `parquet`; or `arrow`, in the file or the stream format.
        offset: rows before the first one that is read.

    Raises:
        DataError: it is no such file.
    """

    def __init__(self, path: str, kind: Kind, offset: int) -> None:
        self.path, self.offset = path, offset
        name = f"{path}, as {kind.title()},"
        self._name = name
        with reading(name, "row", offset):
            self._file = pa.OSFile(path)  # not mapped: a mapped file that becomes shorter ends the process
            self._reader = _open(self._file, kind)
        schema = self._reader.schema_arrow if kind == "parquet" else self._reader.schema
        check_columns(schema.names, path)
        self._none = pa.RecordBatch.from_pylist([], schema)
        groups = _parquet_groups(self._reader) if kind == "parquet" else _arrow_batches(self._reader)
        self._batches = _behind(groups, offset)

    @property
    def line(self) -> int:
        """The number of the next row, from 1."""
        return self.offset + 1

    def read(self) -> RawBlock:
        """The next block, of partition and stage 0; the last one has `file_ended` and no rows."""
        with reading(self._name, "row", self.offset):
            rows = next(self._batches, None)
        file_ended, first = rows is None, self.line
        rows = self._none if rows is None else rows
        self.offset += rows.num_rows
        return RawBlock(0, 0, self.path, first, b"", file_ended, False, "arrow", rows=rows)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def rows_of(path: str, kind: Kind) -> int:
    """How many rows a file has, if all its record batches are like the first; for progress only.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowException: it is no such file.
    """
    with pa.OSFile(path) as file:
        reader = _open(file, kind)
        if kind == "parquet":
            return int(reader.metadata.num_rows)
        begin = file.tell()
        rows = next((batch.num_rows for batch in _batches(reader)), 0)
        if hasattr(reader, "num_record_batches"):
            return int(rows * reader.num_record_batches)
        return int(rows * (file.size() - begin) // max(file.tell() - begin, 1))


def _open(file: Any, kind: Kind) -> Any:
    if kind == "parquet":
        return pq.ParquetFile(file)
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _parquet_groups(reader: Any) -> Iterator[tuple[int, Iterator[Any]]]:
    """Of each row group: how many rows it has, and its batches once they are wanted."""
    for group in range(reader.num_row_groups):
        rows = reader.metadata.row_group(group).num_rows
        yield rows, reader.iter_batches(_BLOCK_ROWS, row_groups=[group])


def _arrow_batches(reader: Any) -> Iterator[tuple[int, Iterator[Any]]]:
    for batch in _batches(reader):
        yield len(batch), (batch.slice(begin, _BLOCK_ROWS) for begin in range(0, len(batch), _BLOCK_ROWS))


def _batches(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):  # the file format: by place; the stream format: one after the other
        yield from (reader.get_batch(place) for place in range(reader.num_record_batches))
    else:
        yield from reader


def _behind(groups: Iterator[tuple[int, Iterator[Any]]], offset: int) -> Iterator[Any]:
    """The batches of all groups from a row on."""
    for rows, batches in groups:
        if offset >= rows:
            offset -= rows
            continue
        for batch in batches:
            if offset < len(batch):
                yield batch.slice(offset)
            offset = max(0, offset - len(batch))
