"""What a file's name says of how it is written."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from connectors.files.config import FilesConfig
from streamctr.errors import DataError

Kind = Literal["json", "csv", "parquet", "arrow"]

STDIN: Final = "-"
"""The path that means standard input."""

READ: Final = "JSON lines or CSV (plain, .gz, .zst or .bz2), Parquet or Arrow"

_COMPRESSION: Final = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2"}
_KINDS: Final[dict[str, Kind]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_OTHERS: Final = re.compile(
    r"\.(xz|lzma|zip|7z|rar|lz4|br|snappy|lzo|z|tar|tgz|tbz|txz"
    r"|avro|orc|xlsx?|np[yz]|pkl|pickle|h5|db|sqlite|duckdb)"
)


@dataclass(frozen=True, slots=True)
class Form:
    """How one file is written."""

    kind: Kind
    compression: str | None = None
    tabs: bool = False
    """A CSV record's fields are parted by tabs, whatever the run file says."""

    @property
    def columnar(self) -> bool:
        """Rows of columns, not lines."""
        return self.kind in ("parquet", "arrow")


def form_of(path: str, files: FilesConfig) -> Form:
    """What the name says, or the run file; what says nothing is JSON lines.

    >>> form_of("logs/click.tsv.gz", FilesConfig(paths="logs"))
    Form(kind='csv', compression='gzip', tabs=True)

    Raises:
        DataError: files of this name are not read.
    """
    name, given = Path(path), files.format
    compression = _COMPRESSION.get(name.suffix.lower())
    suffix = (Path(name.stem) if compression else name).suffix.lower()
    if _OTHERS.fullmatch(suffix):
        raise DataError(f"files: {path}: {suffix} is not read; write {READ}")
    kind = given if given != "auto" else _KINDS.get(suffix, "json")
    form = Form(kind, compression, tabs=kind == "csv" and suffix == ".tsv")
    if form.columnar and path == STDIN:
        raise DataError(f"files: standard input is JSON lines or CSV; read {kind.title()} from a file")
    if form.columnar and compression:
        raise DataError(f"files: {path}: {kind.title()} files pack their own columns; unpack it once")
    return form
