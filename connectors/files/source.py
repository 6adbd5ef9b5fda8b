"""Event files as a source: the files of one stage, in name order, are one partition."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import xxhash

from streamctr.errors import DataError
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock

_PRINT_BYTES: Final = 1 << 16
_COMPRESSION: Final = {".gz": "gzip", ".zst": "zstd"}


@dataclass(slots=True)
class _Partition:
    """Where one stage's files are read. `offset` and `line` are those of the next line, decompressed and from 1."""

    paths: list[str]
    prints: list[tuple[int, int]] = field(default_factory=list)
    """Size on disk and hash of the first bytes of each file that was opened."""
    place: int = 0
    offset: int = 0
    line: int = 1
    stream: Any = None
    rest: bytes = b""
    """What was read behind the last whole line."""
    ended: bool = False


class FileSource:
    """Reads whole lines from files, plain or compressed (.gz, .zst); a block never spans two files.

    >>> FileSource({"impression": []}, ("impression",)).poll(0).ended
    True
    """

    def __init__(
        self, paths_by_stage: Mapping[str, list[str]], funnel_names: Sequence[str], block_bytes: int = 1 << 19
    ) -> None:
        self._partitions = [_Partition(list(paths_by_stage.get(stage, []))) for stage in funnel_names]
        self._block_bytes = block_bytes

    @property
    def partitions(self) -> int:
        """One for each stage of the funnel, in its order."""
        return len(self._partitions)

    def poll(self, partition: int) -> RawBlock:
        """The next lines of one stage; an empty block that has `ended` when there are none.

        Raises:
            DataError: a file is gone or damaged.
        """
        at = self._partitions[partition]
        if at.ended or not at.paths:
            return RawBlock(partition, partition, at.paths[-1] if at.paths else "", at.line, b"", False, True)
        path, first_line = at.paths[at.place], at.line
        if at.stream is None:
            _open(at)
        payload, file_ended = _lines(at, self._block_bytes)
        at.line += payload.count(b"\n")
        if file_ended:
            _finish(at)
        return RawBlock(partition, partition, path, first_line, payload, file_ended, at.ended)

    def positions(self) -> str:
        """JSON of where each stage is read on, and by what its files are known again."""
        places = [
            {
                "files": [(Path(path).name, *known) for path, known in zip(at.paths, at.prints, strict=False)],
                "place": at.place,
                "offset": at.offset,
                "line": at.line,
            }
            for at in self._partitions
        ]
        return orjson.dumps(places).decode()

    def seek(self, positions: str) -> None:
        """Go to what `positions` said; files may lie elsewhere, and new ones may stand behind those that were read.

        Raises:
            DataError: a file that was read is gone, shorter than before or no longer the same.
        """
        self.close()
        for at, said in zip(self._partitions, orjson.loads(positions), strict=True):
            for place, known in enumerate(said["files"]):
                _verify(at, place, known, finished=place < said["place"])
            if said["place"] >= max(1, len(at.paths)):
                raise DataError(f"file {said['place'] + 1} of a stage, the next to be read, is gone; {_MEND}")
            at.prints = [(size, digest) for _, size, digest in said["files"]]
            at.place, at.offset, at.line, at.ended = said["place"], said["offset"], said["line"], False

    def close(self) -> None:
        """Give back the open files; `poll` opens them again where they were."""
        for at in self._partitions:
            if at.stream is not None:
                at.stream.close()
            at.stream, at.rest = None, b""


def _open(at: _Partition) -> None:
    path = at.paths[at.place]
    at.prints[at.place :] = [_print(path)]
    compression = _COMPRESSION.get(Path(path).suffix)
    if compression is None:
        at.stream = open(path, "rb")  # noqa: SIM115
        at.stream.seek(at.offset)
        return
    at.stream, left = pa.input_stream(path, compression=compression), at.offset
    while left and (skipped := len(_read(at, min(left, 1 << 20)))):
        left -= skipped
    if left:
        raise DataError(
            f"{path} holds {left} bytes less than were read of it; put the file back, or start with --fresh"
        )


def _lines(at: _Partition, block_bytes: int) -> tuple[bytes, bool]:
    """Whole lines, and whether the file has no more; of a line beyond the limit only the first bytes.

    Blocks are cut at the last line before a multiple of `block_bytes`, wherever reading began: also after a `seek`.
    """
    lines, passed = at.rest, len(at.rest)
    at.rest, position = b"", at.offset + len(at.rest)
    while more := _read(at, block_bytes - position % block_bytes):
        position += len(more)
        end = more.rfind(b"\n") + 1
        passed += end or len(more)
        if end:
            begin = more.find(b"\n") if len(lines) > LINE_LIMIT_BYTES else 0
            lines, at.rest = lines + more[begin:end], more[end:]
            break
        if len(lines) <= LINE_LIMIT_BYTES:
            lines = (lines + more)[: LINE_LIMIT_BYTES + 1]
    at.offset += passed
    return lines, not more


def _finish(at: _Partition) -> None:
    """Close a file that was read to its end; the last one stays the place to read on from, should it grow."""
    at.stream.close()
    at.stream = None
    at.prints[at.place] = _print(at.paths[at.place])
    if at.place + 1 < len(at.paths):
        at.place, at.offset, at.line = at.place + 1, 0, 1
    else:
        at.ended = True


def _read(at: _Partition, size_bytes: int) -> bytes:
    try:
        return bytes(at.stream.read(size_bytes))
    except OSError as error:
        path = at.paths[at.place]
        raise DataError(f"{path} cannot be read behind byte {at.offset}: {error}; mend it, or take it out") from None


def _print(path: str, size_bytes: int | None = None) -> tuple[int, int]:
    """Size on disk, and xxh3 of the first 64 KiB (of the first `size_bytes`, where the file was shorter once)."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(min(_PRINT_BYTES, size if size_bytes is None else size_bytes))
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}; put it back, or take it out of files") from None
    return size, xxhash.xxh3_64_intdigest(head)


def _verify(at: _Partition, place: int, known: tuple[str, int, int], finished: bool) -> None:
    name, size, digest = known
    path = at.paths[place] if place < len(at.paths) else None
    if path is None or Path(path).name != name:
        raise DataError(
            f"{name} was read as file {place + 1} of its stage, and now {path or 'none'} stands there; {_MEND}"
        )
    now_size, now_digest = _print(path, size)
    if now_size < size or now_digest != digest:
        raise DataError(f"{path} is not the file that was read ({now_size} bytes now, {size} then); {_MEND}")
    if finished and now_size > size:
        raise DataError(f"{path} has grown since it was read to its end; put new events into a file behind it")


_MEND: Final = "put back the files as they were (new ones may stand behind them), or start with --fresh"
