"""Products of matrices inside kernels, by the BLAS that torch itself uses: no step back into Python between two.

A product is for one thread; who shares it out, does so before. Rows of a matrix are contiguous, and begin at equal
distances. Legend: B rows, D inputs, H outputs.
"""

import ctypes
from pathlib import Path
from typing import Any, Final, NamedTuple

import llvmlite.binding
import numba
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray

from streamctr.kernel import inlined

_config: Any = numba.config
_pointer: Any = types.CPointer
_CHAR, _INTS, _FLOATS = _pointer(types.uint8), _pointer(types.int32), _pointer(types.float32)
_PLAIN: Final = np.frombuffer(b"N", np.uint8)
_TURNED: Final = np.frombuffer(b"T", np.uint8)


def _libraries() -> "list[ctypes.CDLL]":
    folder = Path(torch.__file__).parent / "lib"
    return [ctypes.CDLL(str(path)) for path in (*folder.glob("libtorch_cpu.*"), *folder.glob("torch_cpu.dll"))]


def _address(*names: str) -> int | None:
    """Of the first of these routines that torch's own library has; None without any, or where nothing is compiled."""
    if _config.DISABLE_JIT:
        return None
    found = (getattr(library, name, None) for name in names for library in _libraries())
    return next((ctypes.cast(routine, ctypes.c_void_p).value for routine in found if routine is not None), None)


def _routine(role: str, address: int | None, signature: Any) -> Any:
    """The routine as kernels call it: by its role, so that what was compiled with another torch finds this one's."""
    if address is not None:
        llvmlite.binding.add_symbol(f"streamctr_{role}", address)
    return types.ExternalFunction(f"streamctr_{role}", signature)


def _product_of(kind: Any) -> Any:
    of = _pointer(kind), _INTS
    return types.void(_CHAR, _CHAR, _INTS, _INTS, _INTS, _FLOATS, *of, *of, _FLOATS, _FLOATS, _INTS)


_SGEMM, _BGEMM = _address("sgemm_"), _address("gemm_bf16bf16f32_")
HAS_FP32: Final = _SGEMM is not None
HAS_BF16: Final = HAS_FP32 and _BGEMM is not None
sgemm = _routine("sgemm", _SGEMM, _product_of(types.float32))
# a kernel is compiled as a whole, with calls that it will never make
bgemm = _routine("bgemm", _BGEMM or _SGEMM, _product_of(types.uint16))
_one_thread = _routine("one_thread", _address("MKL_Set_Num_Threads_Local", "abs"), types.int32(types.int32))
"""Told 1 by every thread that multiplies a part: MKL would share it out again. Without MKL, `abs` does nothing."""


class Room(NamedTuple):
    """For what a routine is told by address; one for each thread."""

    sizes: NDArray[np.int32]
    factors: NDArray[np.float32]


@inlined
def times_turned(gemm: Any, x_BD: Any, w_HD: Any, out_BH: Any, room: Room) -> None:
    """out = x w^T."""
    _say(out_BH.shape[1], out_BH.shape[0], x_BD.shape[1], 0.0, room)
    _multiply(gemm, (_TURNED, _PLAIN), w_HD, x_BD, out_BH, room)


@inlined
def times(gemm: Any, grad_BH: Any, w_HD: Any, out_BD: Any, room: Room) -> None:
    """out = g w."""
    _say(out_BD.shape[1], out_BD.shape[0], grad_BH.shape[1], 0.0, room)
    _multiply(gemm, (_PLAIN, _PLAIN), w_HD, grad_BH, out_BD, room)


@inlined
def add_turned_times(gemm: Any, grad_BH: Any, x_BD: Any, out_HD: Any, room: Room) -> None:
    """out = out + g^T x."""
    _say(out_HD.shape[1], out_HD.shape[0], x_BD.shape[0], 1.0, room)
    _multiply(gemm, (_PLAIN, _TURNED), x_BD, grad_BH, out_HD, room)


@inlined
def alone() -> None:
    """The products of this thread are not to be shared out."""
    _one_thread(1)


@inlined
def _say(columns: int, rows: int, depth: int, keep: float, room: Room) -> None:
    room.sizes[0], room.sizes[1], room.sizes[2], room.factors[1] = columns, rows, depth, keep


@inlined
def _multiply(gemm: Any, turns: Any, second: Any, first: Any, out: Any, room: Room) -> None:
    """Fortran's matrices are ours turned: out^T = second^T first^T."""
    sizes, factors = room
    sizes[3], sizes[4] = second.strides[0] // second.itemsize, first.strides[0] // first.itemsize
    sizes[5] = out.strides[0] // out.itemsize
    gemm(
        turns[0].ctypes,
        turns[1].ctypes,
        sizes.ctypes,
        sizes[1:].ctypes,
        sizes[2:].ctypes,
        factors.ctypes,
        second.ctypes,
        sizes[3:].ctypes,
        first.ctypes,
        sizes[4:].ctypes,
        factors[1:].ctypes,
        out.ctypes,
        sizes[5:].ctypes,
    )
