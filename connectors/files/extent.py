"""How far a file goes, for a progress bar: known where it is plain, else guessed from its beginning."""

from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from connectors.files.columns import rows_of
from connectors.files.config import FilesConfig
from connectors.files.formats import STDIN, form_of

_BEGINNING_BYTES: Final = 1 << 22


class Extent(NamedTuple):
    """Of one file."""

    size_bytes: int
    """Of its text, or on disk where it has rows; 0 where it cannot be known."""
    steps: int
    """What positions of a `FileSource` count up to in it: bytes of text, or rows."""


def extent_of(path: str, files: FilesConfig) -> Extent:
    """Of a compressed file as if all of it were packed like its beginning."""
    if path == STDIN:
        return Extent(0, 0)
    form, size = form_of(path, files), Path(path).stat().st_size
    try:
        if form.kind in ("parquet", "arrow"):
            return Extent(size, rows_of(path, form.kind))
        text = size if form.compression is None else _text_bytes(path, form.compression, size)
    except (OSError, pa.ArrowException):  # damaged: who reads it for its events says so
        return Extent(size, size)
    return Extent(text, text)


def _text_bytes(path: str, compression: str, size: int) -> int:
    with open(path, "rb") as file, pa.CompressedInputStream(pa.PythonFile(file, "r"), compression) as stream:
        text = len(stream.read(_BEGINNING_BYTES))
        return text * size // max(file.tell(), 1)
