"""Event files as a source: partitions of files, each read to the end that it had when it was opened."""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from connectors.files.columns import RowReader
from connectors.files.config import FilesConfig
from connectors.files.find import FilePartition
from connectors.files.formats import STDIN, Form, form_of
from connectors.files.lines import LineReader, check_columns, first_line, header_of
from connectors.files.streams import Print, StandardInput, Stream, open_text, print_of, skip
from streamctr.errors import DataError
from streamctr.ports import RawBlock
from streamctr.schema import CsvConfig


@dataclass(slots=True)
class _Partition:
    """Where files are read. `offset` is in bytes of text or in rows; `line` is the next line or row, from 1."""

    stage: int
    paths: tuple[str, ...]
    prints: list[Print] = field(default_factory=list)
    """Of each file that was opened."""
    place: int = 0
    offset: int = 0
    line: int = 1
    end_bytes: int | None = None
    """Size of the file at `place` when this run first opened it: what comes behind it is not read."""
    reader: LineReader | RowReader | None = None
    ended: bool = False


class FileSource:
    """Reads event files: whole lines, plain or compressed, or rows of columns; a block never spans two files.

    >>> FileSource([FilePartition(0, ())], FilesConfig(paths="logs"), CsvConfig()).poll(0).ended
    True

    Args:
        partitions: what `find_files` found.
        files: how they are written.
        csv: how those with a record a line are written.
        block_bytes: bytes of text in a block, about.
    """

    def __init__(
        self,
        partitions: Sequence[FilePartition],
        files: FilesConfig,
        csv: CsvConfig,
        block_bytes: int = 1 << 21,
    ) -> None:
        self._partitions = [_Partition(part.stage, part.paths) for part in partitions]
        self._files, self._csv, self._block_bytes = files, csv, block_bytes
        self._standard = StandardInput(sys.stdin.buffer) if any(STDIN in part.paths for part in partitions) else None

    @property
    def partitions(self) -> int:
        """As many as were given."""
        return len(self._partitions)

    def poll(self, partition: int) -> RawBlock:
        """The next messages of one partition; an empty block that has `ended` when there are none.

        Raises:
            DataError: a file is gone or damaged, or changed while it was read.
        """
        at = self._partitions[partition]
        if at.ended or not at.paths:
            return RawBlock(partition, at.stage, at.paths[-1] if at.paths else "", at.line, b"", False, True)
        if at.reader is None:
            at.reader = self._open(at)
        block = self._read(at, at.reader)
        at.offset, at.line = at.reader.offset, at.reader.line
        if block.file_ended:
            self._finish(at)
        return dataclasses.replace(block, partition=partition, stage=at.stage, ended=at.ended)

    def positions(self) -> str:
        """JSON of where each partition is read on, and by what its files are known again."""
        places = []
        for at in self._partitions:
            if self._standard is not None and at.reader is not None:
                at.prints = [self._standard.print]
            files = [(Path(path).name, *known) for path, known in zip(at.paths, at.prints, strict=False)]
            places.append({"files": files, "place": at.place, "offset": at.offset, "line": at.line})
        return orjson.dumps(places).decode()

    def seek(self, positions: str) -> None:
        """Go to what `positions` said; files may lie elsewhere, and new ones may stand behind those that were read.

        Raises:
            DataError: a file that was read is gone, shorter than before or no longer the same.
        """
        self.close()
        places = orjson.loads(positions)
        if len(places) != len(self._partitions):
            raise DataError(
                f"files: {len(places)} partitions were read side by side, and now there are {len(self._partitions)}; "
                f"{_MEND_SIDES}"
            )
        for at, said in zip(self._partitions, places, strict=True):
            if at.reader is not None and (at.offset, at.place) != (said["offset"], said["place"]):
                raise DataError("standard input cannot be read again; start the command anew and feed it the same")
            for place, (name, *known) in enumerate(said["files"]):
                self._verify(at, place, name, Print(*known), finished=place < said["place"])
            if said["place"] >= max(1, len(at.paths)):
                raise DataError(f"file {said['place'] + 1} of a stage, the next to be read, is gone; {_MEND}")
            at.prints = [Print(*known) for _, *known in said["files"]]
            at.place, at.offset, at.line = said["place"], said["offset"], said["line"]
            at.end_bytes, at.ended = None, False

    def close(self) -> None:
        """Give back the open files; `poll` opens them again where they were."""
        for at in self._partitions:
            if at.reader is not None and self._standard is None:
                at.reader.close()
                at.reader = None

    def _open(self, at: _Partition) -> LineReader | RowReader:
        path, offset, form = at.paths[at.place], at.offset, form_of(at.paths[at.place], self._files)
        end_bytes = None
        if self._standard is None:
            size_bytes, digest = print_of(path, at.end_bytes)
            at.end_bytes = size_bytes if at.end_bytes is None else at.end_bytes
            at.prints[at.place :] = [Print(at.end_bytes, digest)]
            if form.columnar:
                return RowReader(path, form.kind, offset)
            end_bytes = at.end_bytes if form.compression is None else None
        else:
            at.prints = [self._standard.print]
        if form.kind != "csv":
            return LineReader(path, self._text(path, form, offset), offset, at.line, end_bytes, self._block_bytes)
        return self._csv_reader(at, form, end_bytes)

    def _csv_reader(self, at: _Partition, form: Form, end_bytes: int | None) -> LineReader:
        path, offset, line = at.paths[at.place], at.offset, at.line
        header, delimiter = self._csv.columns, "\t" if form.tabs else self._csv.delimiter
        if header:
            check_columns(header, "csv.columns")
        else:
            with closing(self._text(path, form, 0)) as stream:
                first = first_line(stream, path)
            header = header_of(first, delimiter, path)
            if offset == 0:
                offset, line = len(first), 1 + first.count(b"\n")
            elif offset < len(first.rstrip(b"\r\n")):
                raise DataError(f"{path}: its header was half written when it was read; start with --fresh")
        stream = self._text(path, form, offset)
        return LineReader(path, stream, offset, line, end_bytes, self._block_bytes, "csv", header, delimiter)

    def _text(self, path: str, form: Form, offset: int) -> Stream:
        if self._standard is None:
            return open_text(path, form.compression, offset)
        skip(self._standard, offset - self._standard.print.size_bytes, "standard input")
        return self._standard

    def _read(self, at: _Partition, reader: LineReader | RowReader) -> RawBlock:
        try:
            return reader.read()
        except DataError:
            self._refuse_changed(at)  # which is why it could not be read
            raise

    def _finish(self, at: _Partition) -> None:
        """Close a file that was read to its end; the last one stays the place to read on from, should it grow."""
        if self._standard is None and at.reader is not None:
            self._refuse_changed(at)
            at.reader.close()
            at.reader = None
        if at.place + 1 < len(at.paths):
            at.place, at.offset, at.line, at.end_bytes = at.place + 1, 0, 1, None
        else:
            at.ended = True

    def _refuse_changed(self, at: _Partition) -> None:
        """Only the last file of a partition may grow while it is read, and only one that is plain lines.

        Raises:
            DataError: it did otherwise.
        """
        path, end_bytes = at.paths[at.place], at.end_bytes
        if self._standard is not None or end_bytes is None:
            return
        now_bytes, digest = print_of(path, end_bytes)
        form, is_last = form_of(path, self._files), at.place + 1 == len(at.paths)
        appended = now_bytes > end_bytes and digest == at.prints[at.place].digest
        if appended and not form.columnar and form.compression is None:
            if not is_last:
                raise DataError(
                    f"{path} has grown while it was read, and {at.paths[at.place + 1]} stands behind it; let the file "
                    "that is written to be the last one by name"
                )
        elif (now_bytes, digest) != at.prints[at.place]:
            raise DataError(
                f"{path} has changed while it was read ({end_bytes} bytes then, {now_bytes} now); start again when it "
                "is complete: only plain lines may grow"
            )

    def _verify(self, at: _Partition, place: int, name: str, known: Print, finished: bool) -> None:
        path = at.paths[place] if place < len(at.paths) else None
        if path is None or Path(path).name != name:
            raise DataError(
                f"{name} was read as file {place + 1} of its stage, and now {path or 'none'} stands there; {_MEND}"
            )
        if self._standard is not None:
            if not self._standard.begins_as(known):
                raise DataError("standard input is not what was read before: feed it the same, or start with --fresh")
            return
        now = print_of(path, known.size_bytes)
        whole = form_of(path, self._files).columnar and now.size_bytes != known.size_bytes
        if now.size_bytes < known.size_bytes or now.digest != known.digest or whole:
            raise DataError(
                f"{path} is not the file that was read ({now.size_bytes} bytes now, {known.size_bytes} then); {_MEND}"
            )
        if finished and now.size_bytes > known.size_bytes:
            raise DataError(f"{path} has grown since it was read to its end; put new events into a file behind it")


_MEND: Final = "put back the files as they were (new ones may stand behind them), or start with --fresh"
_MEND_SIDES: Final = "put back the files and the funnel as they were, or start with --fresh"
