"""The first messages of event files of any kind, as flat rows."""

import csv
import glob
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from jobs.init.fields import flat
from streamctr.errors import DataError

_COLUMNAR: Final = (".parquet", ".pq", ".arrow", ".feather", ".arrows", ".ipc")
_TEXT: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".log")
_PACKED: Final = (".gz", ".gzip", ".zst", ".zstd", ".bz2")
_MISSING: Final = frozenset(["NA", "N/A", "NULL", "null", "None", "nan", "NaN", "\\N", "-"])


@dataclass(frozen=True)
class Beginning:
    """The first messages of a file, and how the file is written where that is CSV."""

    path: str
    rows: list[dict[str, Any]]
    delimiter: str | None = None
    columns: tuple[str, ...] = ()
    """Made-up names where the first line is no header."""
    missing: frozenset[str] = frozenset()
    """Texts that seem to stand for no value."""


def expand(events: Sequence[str]) -> list[str]:
    """Event files that paths, folders and patterns mean, in name order.

    Raises:
        DataError: one matches no file.
    """
    paths: list[str] = []
    for given in events:
        if Path(given).is_dir():
            inside = sorted(str(path) for path in Path(given).rglob("*") if path.is_file())
            found = [path for path in inside if _suffix(path) in _COLUMNAR + _TEXT]
        else:
            found = [path for path in sorted(glob.glob(given, recursive=True)) if Path(path).is_file()]
        if not found:
            raise DataError(f'"{given}" matches no event file in {Path.cwd()}; name files, a folder or a pattern')
        paths += found
    return sorted(
        set(paths),
        key=lambda path: [(len(part), part) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path)],
    )


def _suffix(path: str) -> str:
    name = Path(path.lower())
    return (Path(name.stem) if name.suffix in _PACKED else name).suffix


def read_beginning(path: str, most: int) -> Beginning:
    """The first `most` messages of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if _suffix(path) in _COLUMNAR:
            return Beginning(path, [flat(row) for row in islice(_columnar(path), most)])
        text = _lines(path)
        if _suffix(path) in (".csv", ".tsv"):
            return _csv(path, [line for line in islice(text, most + 1) if line.strip()])
        return Beginning(path, [flat(message) for message in islice(_messages(text), most)])
    except (OSError, pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; mend it, or leave it out") from None


def _columnar(path: str) -> Iterator[dict[str, Any]]:
    if _suffix(path) in (".parquet", ".pq"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from _rows(batch)
        return
    with pa.OSFile(path) as file:
        whole = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = ipc.open_file(file) if whole else ipc.open_stream(file)
        batches = (reader.get_batch(place) for place in range(reader.num_record_batches)) if whole else reader
        for batch in batches:
            yield from _rows(batch)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as Python values, whose times know no nanoseconds."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            cut = batch.column(place).cast(pa.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(place, field.name, cut)
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def _lines(path: str) -> Iterator[str]:
    with pa.input_stream(path, compression="detect") as stream:
        yield from io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", newline="\n")


def _messages(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Objects, a line each; what is none is left out here and counted by a replay."""
    for line in lines:
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(message, dict):
            yield message


def _csv(path: str, lines: list[str]) -> Beginning:
    if not lines:
        return Beginning(path, [])
    tabs = _suffix(path) == ".tsv"
    delimiter = "\t" if tabs else max(",;\t|", key=lambda mark: lines[0].count(mark))
    header, *records = csv.reader(lines, delimiter=delimiter)
    columns: tuple[str, ...] = ()
    if any(re.fullmatch(r"-?\d[\d.:TZ -]*", name) for name in header):
        columns = tuple(f"column{place}" for place in range(1, len(header) + 1))
        records.insert(0, header)
    names = columns or tuple(header)
    whole = [record for record in records if len(record) == len(names)]
    missing = frozenset(cell for record in whole for cell in record if cell in _MISSING)
    rows = [{n: None if cell in missing else cell for n, cell in zip(names, record, strict=True)} for record in whole]
    return Beginning(path, rows, None if tabs else delimiter, columns, missing)
