"""Lookup files, read whole: the named columns, and by which hash the file is known again."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.files.config import FilesConfig
from connectors.files.formats import Form, form_of
from connectors.files.lines import BOM, check_columns, header_of
from connectors.files.streams import refuse_packed
from streamctr.decode.cells import Parsed
from streamctr.decode.csv import parse_csv
from streamctr.decode.jsonlines import JsonLines
from streamctr.decode.rows import parse_rows
from streamctr.errors import DataError
from streamctr.ports import RawBlock
from streamctr.schema import CsvConfig

_TEXT_LIMIT_BYTES: Final = (1 << 31) - 1
_SHOWN: Final = 20
"""Column names that an error lists."""


def read_table(path: str, columns: Sequence[str]) -> tuple[Parsed, str]:
    """The cells of the named columns of a file, and the SHA-256 of its bytes as they are stored, in hex.

    CSV (a header in its first line; fields parted by commas, or by tabs where the name says .tsv) and JSON lines may be
    packed (.gz, .zst, .bz2) and hold 2 GiB of text; Parquet and Arrow files may have structs, whose fields are named
    with dots.

    Raises:
        DataError: the file cannot be read, has not all the columns, or has a line that is malformed.
    """
    data = _stored(path)
    form = form_of(path, FilesConfig(paths=(path,)))
    try:
        parsed = _rows(path, data, form, columns) if form.columnar else _lines(path, data, form, columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as {_called(form)}: {error}; mend it, or name it for what it is"
        ) from None
    return parsed, hashlib.sha256(data).hexdigest()


def _stored(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no file {path} in {Path.cwd()}; name the file of the lookup") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name one file in it") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; let this user read it") from None


def _called(form: Form) -> str:
    kind = {"json": "JSON lines", "csv": "CSV"}.get(form.kind, form.kind.title())
    return f"{form.compression} of {kind}" if form.compression else kind


def _lines(path: str, data: bytes, form: Form, columns: Sequence[str]) -> Parsed:
    text = pa.input_stream(pa.py_buffer(data), compression=form.compression).read() if form.compression else data
    refuse_packed(path, text[:8])
    if len(text) > _TEXT_LIMIT_BYTES:
        raise DataError(f"{path} holds {len(text):,} bytes of text and 2 GiB can be read; write it as Parquet")
    if form.kind == "csv":
        return _csv(path, text, "\t" if form.tabs else ",", columns)
    parsed = JsonLines(dict.fromkeys(columns, False)).parse(text.removeprefix(BOM))
    _refuse(path, parsed, first_line=1)
    first = orjson.loads(parsed.text(int(parsed.places[0]), len(text))) if len(parsed.places) else {}
    told = [name for name, cells in parsed.cells.items() if cells.strange or any(map(_held, cells.arrays))]
    _check(path, columns, [*_members(first), *told])
    return parsed


def _csv(path: str, text: bytes, delimiter: str, columns: Sequence[str]) -> Parsed:
    line, _, payload = text.partition(b"\n")
    header = header_of(line, delimiter, path)
    _check(path, columns, header)
    block = RawBlock(0, 0, path, 2, payload, True, True, "csv", header, delimiter)
    parsed = parse_csv(block, columns, CsvConfig())
    _refuse(path, parsed, first_line=2)
    return parsed


def _rows(path: str, data: bytes, form: Form, columns: Sequence[str]) -> Parsed:
    schema, read = _columnar(form, pa.BufferReader(data))
    check_columns(schema.names, path)
    _check(path, columns, _fields(schema))
    names = [name for name in schema.names if any(f"{column}.".startswith(f"{name}.") for column in columns)]
    table = read(names)
    rows = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], table.column_names)
    return parse_rows(RawBlock(0, 0, path, 1, b"", True, True, "arrow", rows=rows), columns)


def _columnar(form: Form, reader: Any) -> tuple[Any, Callable[[list[str]], Any]]:
    """The schema of a file, and what reads the named columns of all its rows."""
    if form.kind == "parquet":
        file = pq.ParquetFile(reader)
        return file.schema_arrow, lambda names: file.read(names, use_threads=False)
    is_file = reader.read(6) == b"ARROW1"  # and not the stream format
    reader.seek(0)
    table = (pa.ipc.open_file(reader) if is_file else pa.ipc.open_stream(reader)).read_all()
    return table.schema, table.select


def _fields(members: Iterable[Any]) -> list[str]:
    """The names of columns, and of the fields of structs with dots."""
    below = [(field.name, _fields(field.type)) for field in members if pa.types.is_struct(field.type)]
    return [field.name for field in members] + [f"{name}.{path}" for name, paths in below for path in paths]


def _members(message: dict[str, Any]) -> list[str]:
    """The same of a JSON object; a name with a dot in it is none that a path can mean."""
    names = [name for name in message if "." not in name]
    return names + [
        f"{name}.{path}" for name in names if isinstance(message[name], dict) for path in _members(message[name])
    ]


def _held(array: Any) -> bool:
    return bool(array.null_count < len(array))


def _check(path: str, columns: Sequence[str], known: Sequence[str]) -> None:
    for column in columns:
        if column not in known:
            near = get_close_matches(column, known, 1)
            listed = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
            remedy = f'did you mean "{near[0]}"?' if near else f"it has {listed or 'none'}"
            raise DataError(f'{path} has no column "{column}"; {remedy}')


def _refuse(path: str, parsed: Parsed, first_line: int) -> None:
    if parsed.refused:
        place = min(parsed.refused)
        others = f" ({len(parsed.refused) - 1} more are not)" if len(parsed.refused) > 1 else ""
        raise DataError(
            f"{path}:{place + first_line}: {parsed.refused[place]}; every line of a lookup file must be good, "
            f"mend this one{others}"
        )
