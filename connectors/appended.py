"""Files that only grow: what logs of all kinds are written into."""

import os
from pathlib import Path

from streamctr.errors import DataError


class AppendedFile:
    """A file that only grows, but for what `truncate` takes back; its folder is made where there is none."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, open(path, "ab")  # noqa: SIM115

    def append(self, payload: bytes) -> None:
        """Write at the end; on disk after `flush`."""
        self._file.write(payload)

    def size(self) -> int:
        """The length in bytes."""
        return self._file.tell()

    def flush(self) -> int:
        """Make everything durable; the length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.size()

    def truncate(self, size_bytes: int) -> None:
        """Forget what stands behind that length.

        Raises:
            DataError: the file is shorter.
        """
        if self.size() < size_bytes:
            raise DataError(
                f"{self._path} has {self.size()} bytes where {size_bytes} were saved with the snapshot; "
                "put the file back as it was, or start with --fresh"
            )
        self._file.truncate(size_bytes)
        self._file.seek(size_bytes)

    def close(self) -> None:
        """Flush and give the file back."""
        if not self._file.closed:
            self.flush()
            self._file.close()
