"""Columns of wider matrices: what lies side by side in memory is read and written where it is. Legend: B rows."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def beside(parts_BX: Sequence[Tensor]) -> Tensor:
    """The parts' columns as one matrix, its first ones: the rows they lie in where they are neighbours, or a copy."""
    parts = [part for part in parts_BX if part.shape[1]] or list(parts_BX)  # of no columns, torch says no address
    first, at, neighbours = parts[0], 0, True
    for part in parts:
        here = first.data_ptr() + at * first.element_size()
        neighbours = neighbours and part.data_ptr() == here and part.stride() == first.stride()
        at += part.shape[1]
    width, step = first.stride()
    room = first.untyped_storage().nbytes() // first.element_size() - first.storage_offset()
    if not (neighbours and step == 1 and at <= width and len(first) * width <= room):
        return torch.cat(parts, dim=1)
    return first.as_strided((len(first), width), (width, 1))


def in_rows(part_BX: Tensor) -> tuple[NDArray[np.float32], int]:
    """The matrix whose columns these are, its rows contiguous in memory of their own, and the first of the columns.

    >>> wide_BX = torch.arange(6.0).view(2, 3)
    >>> found, column = in_rows(wide_BX[:, 1:])
    >>> found.shape, column
    ((2, 3), 1)
    """
    width, step = part_BX.stride()
    column = int(part_BX.storage_offset()) % max(width, 1)
    room = part_BX.untyped_storage().nbytes() // part_BX.element_size() - part_BX.storage_offset() + column
    if step == 1 and column + part_BX.shape[1] <= width and len(part_BX) * width <= room:
        return part_BX.as_strided((len(part_BX), width), (width, 1), part_BX.storage_offset() - column).numpy(), column
    return part_BX.contiguous().numpy(), 0
