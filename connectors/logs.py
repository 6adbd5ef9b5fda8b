"""Append-only files: records as JSON lines, and the emission log as Arrow. Legend: N rows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from connectors.appended import AppendedFile
from streamctr.errors import DataError
from streamctr.samples import SampleBatch


class JsonLines:
    """A log of records, one JSON object a line; NaN and infinity become null."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = AppendedFile(Path(path))

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append; on disk after `flush`."""
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
        self._file.append(b"".join(orjson.dumps(record, option=options) for record in records))

    def flush(self) -> int:
        """Make everything durable; the length in bytes."""
        return self._file.flush()

    def truncate(self, size_bytes: int) -> None:
        """Forget what was written after that length.

        Raises:
            DataError: the file is shorter.
        """
        self._file.truncate(size_bytes)

    def close(self) -> None:
        """Flush and give the file back."""
        self._file.close()


class SampleLog:
    """The emission log on disk: `part-0.arrows`, `part-1.arrows` and so on, Arrow IPC streams without an end marker.

    In each part the schema's message comes first and once; then each batch is a message of its own, so that the log
    can be cut where it was flushed and go on from there. Columns of several values a row are fixed-size lists, whose
    shapes stand in the schema's metadata; columns of none are left out. Lengths are those of all parts together.

    Args:
        folder: made where there is none.
        part_bytes: a part that is as long is followed by another one.
    """

    def __init__(self, folder: str | os.PathLike[str], part_bytes: int = 1 << 28) -> None:
        self._folder, self._part_bytes = Path(folder), part_bytes
        parts = _parts(self._folder) or [self._folder / "part-0.arrows"]
        self._before = [path.stat().st_size for path in parts[:-1]]
        self._file = AppendedFile(parts[-1])

    def write(self, batch: SampleBatch) -> None:
        """Append rows; on disk after `flush`."""
        if len(batch) == 0:
            return
        if self._file.size() >= self._part_bytes:
            self._before.append(self._file.flush())
            self._file.close()
            self._file = AppendedFile(self._folder / f"part-{len(self._before)}.arrows")
        records = _to_arrow(batch)
        if self._file.size() == 0:
            self._file.append(records.schema.serialize())
        self._file.append(records.serialize())

    def flush(self) -> int:
        """Make everything durable; the length in bytes."""
        return sum(self._before) + self._file.flush()

    def truncate(self, size_bytes: int) -> None:
        """Forget what was written after that length, which `flush` gave.

        Raises:
            DataError: the files are shorter.
        """
        while self._before and sum(self._before) >= size_bytes:
            self._file.truncate(0)
            self._file.close()
            (self._folder / f"part-{len(self._before)}.arrows").unlink()
            self._before.pop()
            self._file = AppendedFile(self._folder / f"part-{len(self._before)}.arrows")
        self._file.truncate(size_bytes - sum(self._before))

    def close(self) -> None:
        """Flush and give the file back."""
        self._file.close()


def read_samples(folder: str | os.PathLike[str], first: int = 0, end: int | None = None) -> Iterator[SampleBatch]:
    """The rows of an emission log with ordinals in [first, end), in order, in batches as they were written.

    Raises:
        DataError: the last message before `end` was cut, as by a kill; a resume cuts such a log where its snapshot
            says.
    """
    for path in _parts(Path(folder)):
        if path.stat().st_size == 0:
            continue
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
                for records in stream:
                    begin = records.column("ordinal")[0].as_py()
                    behind = begin + records.num_rows
                    from_, to = max(first, begin), behind if end is None else min(end, behind)
                    if from_ < to:
                        yield _from_arrow(records).take(slice(from_ - begin, to - begin))
                    if end is not None and behind >= end:
                        return  # what follows is not looked at: it may be half a message
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} ends within a message ({error}); resume its run, or join again") from None


def _parts(folder: Path) -> list[Path]:
    """The files of an emission log, in order."""
    return sorted(folder.glob("part-*.arrows"), key=lambda path: int(path.stem.removeprefix("part-")))


def _to_arrow(batch: SampleBatch) -> Any:
    arrays = batch.to_arrays()
    columns = {name: _column(array) for name, array in arrays.items() if array[:1].size}
    shapes = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
    records = pa.RecordBatch.from_pydict(columns)
    return records.replace_schema_metadata({"columns": orjson.dumps(shapes)})


def _column(array: Any) -> Any:
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    return values if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, array[0].size)


def _from_arrow(records: Any) -> SampleBatch:
    arrays = {}
    for name, (kind, shape) in orjson.loads(records.schema.metadata[b"columns"]).items():
        values = np.empty(0, kind)
        if name in records.schema.names:
            column = records.column(name)
            values = (column.flatten() if shape else column).to_numpy()
        arrays[name] = np.array(values).reshape(records.num_rows, *shape)
    return SampleBatch.from_arrays(arrays)
