"""Named arrays as a file in the safetensors format, which any of its readers understands.

Written by ourselves, since the checksum is made of what passes by and nothing else runs slower meanwhile: writing and
hashing leave the GIL to others. 8 bytes of length, a JSON header {name: {dtype, shape, data_offsets}}, the bytes.
"""

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from streamctr.ports import Arrays

_TYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES: Final = {dtype: name for name, dtype in _TYPES.items()}
_PIECE_BYTES: Final = 1 << 20
"""What is hashed is still in the cache when it is written."""
_ALIGNED: Final = 8


def save_file(arrays: Mapping[str, NDArray[Any]], path: Path) -> str:
    """Write arrays into a new file, on disk on return; its checksum.

    Raises:
        OSError: it is there, or cannot be written.
    """
    digest = xxhash.xxh3_128()
    with path.open("xb", buffering=0) as file:
        for piece in _pieces(arrays):
            digest.update(piece)
            while piece:
                piece = piece[file.write(piece) :]
        os.fsync(file.fileno())
    return digest.hexdigest()


def load_file(path: Path) -> Arrays:
    """The arrays of a file that is whole: read-only views of it, which is read where they are looked at.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin = 8 + int.from_bytes(mapped[:8], "little")
    header: dict[str, Any] = orjson.loads(mapped[8:begin])
    return {
        name: np.ndarray(one["shape"], _TYPES[one["dtype"]], mapped, begin + one["data_offsets"][0])
        for name, one in header.items()
    }


def checksum(path: Path) -> str:
    """As `save_file` gave it.

    Raises:
        OSError: it cannot be read.
    """
    digest, piece = xxhash.xxh3_128(), memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
    return digest.hexdigest()


def _pieces(arrays: Mapping[str, NDArray[Any]]) -> Iterator[memoryview]:
    """The file, piece by piece."""
    header, behind = {}, 0
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # so that each stands at whole items
    for name in names:
        begin, behind = behind, behind + arrays[name].nbytes
        dtype = _NAMES[arrays[name].dtype.str]
        header[name] = {"dtype": dtype, "shape": arrays[name].shape, "data_offsets": (begin, behind)}
    text = orjson.dumps(header)
    text += b" " * (-len(text) % _ALIGNED)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in names:
        content = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data
        for begin in range(0, len(content), _PIECE_BYTES):
            yield content[begin : begin + _PIECE_BYTES]
