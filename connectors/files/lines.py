"""Whole lines of a file: where blocks are cut, and where a file ends that is still written to."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from connectors.files.streams import Stream, reading
from streamctr.errors import DataError
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock

BOM: Final = b"\xef\xbb\xbf"
_NEWLINE: Final = ord("\n")
_HEADER_LIMIT_BYTES: Final = 1 << 20


@dataclass(slots=True)
class LineReader:
    """Blocks of whole lines; of a line beyond the limit only the first bytes."""

    path: str
    stream: Stream
    """Stands at `offset`."""
    offset: int
    """Bytes of text before the next line."""
    line: int
    """Its number, from 1."""
    end: int | None
    """Where the file ended when this run first opened it; None where that is not known before it is reached."""
    block_bytes: int
    kind: Literal["json", "csv"] = "json"
    header: tuple[str, ...] = ()
    delimiter: str = ","
    rest: bytes = b""
    """What was read behind the last whole line."""

    def read(self) -> RawBlock:
        """The next block, of partition and stage 0; the last one has `file_ended`."""
        begin, first_line = self.offset, self.line
        payload, file_ended = self._lines()
        self.line += int(np.count_nonzero(np.frombuffer(payload, np.uint8) == _NEWLINE))  # quicker than bytes.count
        if begin == 0:
            payload = payload.removeprefix(BOM)
        return RawBlock(0, 0, self.path, first_line, payload, file_ended, False, self.kind, self.header, self.delimiter)

    def close(self) -> None:
        """Give the file back."""
        self.stream.close()

    def _lines(self) -> tuple[bytes, bool]:
        """Whole lines, and whether the file has no more.

        Blocks are cut at the last line before a multiple of `block_bytes`, wherever reading began: also after a `seek`.
        """
        lines, passed = self.rest, len(self.rest)
        self.rest, position = b"", self.offset + len(self.rest)
        while more := self._read(position, self.block_bytes - position % self.block_bytes):
            position += len(more)
            end = more.rfind(b"\n") + 1
            passed += end or len(more)
            if end:
                begin = more.find(b"\n") if len(lines) > LINE_LIMIT_BYTES else 0
                lines, self.rest = b"".join((lines, memoryview(more)[begin:end])), more[end:]
                break
            if len(lines) <= LINE_LIMIT_BYTES:
                lines = (lines + more)[: LINE_LIMIT_BYTES + 1]
        if not more and lines and self._has_grown():  # half a line: the other half is being written
            return b"", True
        self.offset += passed
        return lines, not more

    def _read(self, position: int, size_bytes: int) -> bytes:
        left = size_bytes if self.end is None else min(size_bytes, self.end - position)
        with reading(self.path, "byte", self.offset):
            return bytes(self.stream.read(left)) if left > 0 else b""

    def _has_grown(self) -> bool:
        return self.end is not None and os.stat(self.path).st_size > self.end


def first_line(stream: Stream, name: str) -> bytes:
    """The line that a stream begins with, and nothing behind it is taken from the stream.

    Raises:
        DataError: it is too long for a header.
    """
    line = bytearray()
    with reading(name, "byte", 0):
        while not line.endswith(b"\n") and (byte := stream.read(1)):  # a header only: read it byte by byte
            line += byte
            if len(line) > _HEADER_LIMIT_BYTES:
                raise DataError(f"{name}: the first line, the header, has no end in 1 MiB; is it CSV?")
    return bytes(line)


def header_of(line: bytes, delimiter: str, name: str) -> tuple[str, ...]:
    """The columns that a CSV file's first line names; none where the file is empty.

    >>> header_of(b'id,"a, b"\\r\\n', ",", "click.csv")
    ('id', 'a, b')

    Raises:
        DataError: it is not UTF-8, or no header.
    """
    if not line:
        return ()
    try:
        text = line.removeprefix(BOM).decode().rstrip("\r\n")
        names = next(csv.reader([text], delimiter=delimiter, strict=True)) or [""]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{name}:1: the header cannot be read: {error}; write it in UTF-8, with {delimiter!r} between names"
        ) from None
    check_columns(names, f"{name}:1: the header")
    return tuple(names)


def check_columns(names: Sequence[str], where: str) -> None:
    """Every column has a name of its own.

    Raises:
        DataError: one has not.
    """
    for name, times in Counter(names).items():
        if not name.strip():
            raise DataError(f"{where} has no name for column {list(names).index(name) + 1}; give it one")
        if times > 1:
            raise DataError(f'{where} names "{name}" {times} times; give every column a name of its own')
