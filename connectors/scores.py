"""The scores of a run, kept beside its samples. Legend: N rows, S stages behind the root."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.appended import SegmentedFile, read_extent


class ScoreLog:
    """Conditional logits of every stage as each root was scored, by the ordinal of its first row.

    `scores.arrows` is an Arrow IPC stream without an end marker, like the samples beside it; nothing is ever deleted.

    Args:
        folder: made where there is none.
        epoch: the owner's, which stands in the names (see `SegmentedFile`).
        segment_bytes: a file that is as long is followed by another one.
    """

    def __init__(self, folder: str | os.PathLike[str], epoch: int = 0, segment_bytes: int = 1 << 28) -> None:
        self._file = SegmentedFile(Path(folder) / "scores.arrows", epoch, segment_bytes)

    def write(self, ordinal: NDArray[np.int64], logits_NS: NDArray[np.float32]) -> None:
        """Append scores, (N,) and (N, S); on disk after `flush`."""
        logits = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(logits_NS).reshape(-1), logits_NS.shape[1])
        records = pa.RecordBatch.from_pydict({"ordinal": ordinal, "logits": logits})
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


def read_score(folder: str | os.PathLike[str], ordinal: int, extent: str | None = None) -> NDArray[np.float32] | None:
    """The logits (S,) of the root whose first row has this ordinal; None where they were not kept.

    Args:
        folder: the log's.
        ordinal: of the row.
        extent: what counts, as `ScoreLog.flush` said; None for all that is there, written under no epoch.

    Raises:
        DataError: a file is shorter than `extent` says.
    """
    for path, size_bytes in read_extent(folder, "scores", ".arrows", extent):
        found = _score_in(path, size_bytes, ordinal)
        if found is not None:
            return found
    return None


def _score_in(path: Path, size_bytes: int, ordinal: int) -> NDArray[np.float32] | None:
    if size_bytes == 0:
        return None
    with pa.memory_map(str(path)) as file:
        try:
            for records in pa.ipc.open_stream(file.read_buffer(size_bytes)):
                found = np.flatnonzero(records.column("ordinal").to_numpy() == ordinal)
                if len(found):
                    return np.array(records.column("logits")[int(found[0])].as_py(), np.float32)
        except (pa.ArrowInvalid, OSError):  # half a message: the run is going on, or was killed
            return None
    return None
