"""Bytes of event files and of standard input, and by what they are known again."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, NamedTuple, Protocol

import pyarrow as pa
import xxhash

from streamctr.errors import DataError

_PRINT_BYTES: Final = 1 << 16
_BEGINNINGS: Final = {
    b"\x1f\x8b": "gzip: let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "zstd: let its name end in .zst",
    b"PK\x03\x04": "zip: unpack it",
    b"PAR1": "Parquet: let its name end in .parquet",
    b"ARROW1": "Arrow: let its name end in .arrow",
    b"\xff\xfe": "UTF-16: write it as UTF-8",
    b"\xfe\xff": "UTF-16: write it as UTF-8",
}


class Print(NamedTuple):
    """By what a file is known again: size on disk, and xxh3 of the first 64 KiB of that."""

    size_bytes: int
    digest: int


class Stream(Protocol):
    """What lines are cut from."""

    def read(self, size_bytes: int, /) -> bytes:
        """The next bytes, fewer only at the end."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


def print_of(path: str, size_bytes: int | None = None) -> Print:
    """Of a file as it is now; where a size is given, the hash is of what the file began with when it had that.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(min(_PRINT_BYTES, size if size_bytes is None else size_bytes))
    except OSError as error:
        raise _unopened(path, error) from None
    return Print(size, xxhash.xxh3_64_intdigest(head))


def open_text(path: str, compression: str | None, offset: int) -> Stream:
    """The text of a file from a byte on.

    Raises:
        DataError: it is not text, or ends before `offset`.
    """
    try:
        if compression is None:
            with open(path, "rb") as file:
                refuse_packed(path, file.read(8))
            text = open(path, "rb")  # noqa: SIM115
            text.seek(offset)
            return text
        stream: Stream = pa.input_stream(path, compression=compression)
    except OSError as error:
        raise _unopened(path, error) from None
    skip(stream, offset, path)
    return stream


def _unopened(path: str, error: OSError) -> DataError:
    way_out = "put it back, or take it out of files"
    if error.errno == errno.EMFILE:
        way_out = "raise the limit with ulimit -n, or read files one after the other with merge: name"
    return DataError(f"{path} cannot be opened: {error.strerror}; {way_out}")


def refuse_packed(name: str, beginning: bytes) -> None:
    """Text does not begin like this.

    Raises:
        DataError: these are no lines of text.
    """
    for magic, what in _BEGINNINGS.items():
        if beginning.startswith(magic):
            raise DataError(f"{name} was to be lines of text and begins like {what}")


def skip(stream: Stream, size_bytes: int, name: str) -> None:
    """Read over what was read in an earlier run.

    Raises:
        DataError: there is less.
    """
    left = size_bytes
    with reading(name, "byte", 0):
        while left and (skipped := len(stream.read(min(left, 1 << 20)))):
            left -= skipped
    if left:
        raise DataError(
            f"{name} holds {left} bytes less than were read of it; put it back as it was, or start with --fresh"
        )


@contextmanager
def reading(name: str, unit: str, position: int) -> Iterator[None]:
    """Says of which file, and where, something cannot be read.

    Raises:
        DataError: it cannot.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{name} cannot be read behind {unit} {position}: {error}; mend it, name it for what it is, or take it out"
        ) from None


class StandardInput:
    """Standard input, whose first bytes are kept: it can be known again, but not read again.

    >>> import io
    >>> given = StandardInput(io.BytesIO(b"one two"))
    >>> given.read(4), given.print.size_bytes
    (b'one ', 4)
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._head, self._at = stream, b"", 0

    @property
    def print(self) -> Print:
        """Of what was read so far."""
        return Print(self._at, xxhash.xxh3_64_intdigest(self._head[: self._at]))

    def begins_as(self, known: Print) -> bool:
        """Whether it is what gave that print, as far as the first bytes show; reads nothing away."""
        size = min(known.size_bytes, _PRINT_BYTES)
        self._keep(size)
        return len(self._head) >= size and xxhash.xxh3_64_intdigest(self._head[:size]) == known.digest

    def read(self, size_bytes: int, /) -> bytes:
        """The next bytes, fewer only at the end."""
        if self._at == 0:
            self._keep(8)
            refuse_packed("standard input", self._head)
        if self._at < _PRINT_BYTES:
            self._keep(min(self._at + size_bytes, _PRINT_BYTES))
        piece = self._head[self._at : self._at + size_bytes]
        if self._at + len(piece) >= _PRINT_BYTES:
            piece += self._stream.read(size_bytes - len(piece))
        self._at += len(piece)
        return piece

    def close(self) -> None:
        """Nothing to give back: it belongs to the program."""

    def _keep(self, size_bytes: int) -> None:
        if len(self._head) < size_bytes:
            self._head += self._stream.read(size_bytes - len(self._head))
