"""The scores of a run, kept beside its samples. Legend: N rows, S stages behind the root."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.appended import AppendedFile

_NAME = "scores.arrows"


class ScoreLog:
    """Conditional logits of every stage as each root was scored, by the ordinal of its first row.

    `scores.arrows` is an Arrow IPC stream without an end marker, like the samples beside it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._file = AppendedFile(Path(folder) / _NAME)

    def write(self, ordinal: NDArray[np.int64], logits_NS: NDArray[np.float32]) -> None:
        """Append scores, (N,) and (N, S); on disk after `flush`."""
        logits = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(logits_NS).reshape(-1), logits_NS.shape[1])
        records = pa.RecordBatch.from_pydict({"ordinal": ordinal, "logits": logits})
        if self._file.size() == 0:
            self._file.append(records.schema.serialize())
        self._file.append(records.serialize())

    def flush(self) -> int:
        """Make everything durable; the length in bytes."""
        return self._file.flush()

    def truncate(self, size_bytes: int) -> None:
        """Forget what was written after that length, which `flush` gave.

        Raises:
            DataError: the file is shorter.
        """
        self._file.truncate(size_bytes)

    def close(self) -> None:
        """Flush and give the file back."""
        self._file.close()


def read_score(folder: str | os.PathLike[str], ordinal: int) -> NDArray[np.float32] | None:
    """The logits (S,) of the root whose first row has this ordinal; None where they were not kept."""
    path = Path(folder) / _NAME
    if not path.exists() or path.stat().st_size == 0:
        return None
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        try:
            for records in stream:
                found = np.flatnonzero(records.column("ordinal").to_numpy() == ordinal)
                if len(found):
                    return np.array(records.column("logits")[int(found[0])].as_py(), np.float32)
        except (pa.ArrowInvalid, OSError):  # half a message: the run is going on, or was killed
            return None
    return None
