"""Append-only logs: records as JSON lines, and the emission log as Arrow. Legend: N rows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from connectors.appended import SegmentedFile, read_extent
from connectors.columns import from_arrow, to_arrow
from streamctr.errors import DataError
from streamctr.samples import SampleBatch


class JsonLines:
    """A log of records, one JSON object a line; NaN and infinity become null.

    Args:
        path: the first file of an owner who owns the folder alone; others are called after it (see `SegmentedFile`).
        epoch: the owner's.
        segment_bytes: a file that is as long is followed by another one.
        most_bytes: where all together are longer, the oldest ones are deleted; None for never.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        epoch: int = 0,
        segment_bytes: int = 1 << 26,
        most_bytes: int | None = 1 << 30,
    ) -> None:
        self._file = SegmentedFile(Path(path), epoch, segment_bytes, most_bytes)

    @property
    def dropped_bytes(self) -> int:
        """Of files that were deleted to stay below `most_bytes`."""
        return self._file.dropped_bytes

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append; on disk after `flush`."""
        if records:
            options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
            self._file.append(b"".join(orjson.dumps(record, option=options) for record in records))

    def flush(self) -> str:
        """Make everything durable; which files count and how far."""
        return self._file.flush()

    def truncate(self, extent: str) -> None:
        """Go on behind what `flush` listed, or from nothing where that is empty.

        Raises:
            DataError: a file is shorter.
        """
        self._file.truncate(extent)

    def close(self) -> None:
        """Flush and give the file back."""
        self._file.close()


class SampleLog:
    """The emission log on disk: `part-0.arrows`, `part-1.arrows` and so on, Arrow IPC streams without an end marker.

    In each part the schema's message comes first and once; then each batch is a message of its own, so that the log
    can be cut where it was flushed and go on from there. Columns of several values a row are fixed-size lists, whose
    shapes stand in the schema's metadata; columns of none are left out. Nothing is ever deleted: who asks for samples
    sees to the room.

    Args:
        folder: made where there is none.
        epoch: the owner's, which stands in the names (see `SegmentedFile`).
        part_bytes: a part that is as long is followed by another one.
    """

    def __init__(self, folder: str | os.PathLike[str], epoch: int = 0, part_bytes: int = 1 << 28) -> None:
        self._file = SegmentedFile(Path(folder) / "part-0.arrows", epoch, part_bytes)

    def write(self, batch: SampleBatch) -> None:
        """Append rows; on disk after `flush`."""
        if len(batch):
            records = to_arrow(batch)
            self._file.append(records.serialize(), header=records.schema.serialize())

    def flush(self) -> str:
        """Make everything durable; which files count and how far."""
        return self._file.flush()

    def truncate(self, extent: str) -> None:
        """Go on behind what `flush` listed, or from nothing where that is empty.

        Raises:
            DataError: a file is shorter.
        """
        self._file.truncate(extent)

    def close(self) -> None:
        """Flush and give the file back."""
        self._file.close()


def read_samples(
    folder: str | os.PathLike[str], first: int = 0, end: int | None = None, extent: str | None = None
) -> Iterator[SampleBatch]:
    """The rows of an emission log with ordinals in [first, end), in order, in batches as they were written.

    Args:
        folder: the log's.
        first: the first row.
        end: behind the last one; None for all.
        extent: what counts, as `SampleLog.flush` said; None for all that is there, written under no epoch.

    Raises:
        DataError: the last message before `end` was cut, as by a kill; a resume cuts such a log where its snapshot
            says. Or a file is shorter than `extent` says.
    """
    for path, size_bytes in read_extent(folder, "part", ".arrows", extent):
        if size_bytes == 0:
            continue
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file.read_buffer(size_bytes)) as stream:
                for records in stream:
                    begin = records.column("ordinal")[0].as_py()
                    behind = begin + records.num_rows
                    from_, to = max(first, begin), behind if end is None else min(end, behind)
                    if from_ < to:
                        yield from_arrow(records).take(slice(from_ - begin, to - begin))
                    if end is not None and behind >= end:
                        return  # what follows is not looked at: it may be half a message
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} ends within a message ({error}); resume its run, or join again") from None
