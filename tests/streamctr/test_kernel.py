"""How many cores loops over parts are given."""

from collections.abc import Iterator

import numba
import numpy as np
import pytest
from numba import prange
from numpy.typing import NDArray

from streamctr import kernel
from streamctr.kernel import leave_a_core, side_by_side, use_cores


@side_by_side
def numbered(out_P: NDArray[np.int64]) -> None:
    for part in prange(len(out_P)):
        out_P[part] = part


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    wanted, free = kernel._cores.wanted, kernel._cores.free
    yield
    kernel._cores.wanted, kernel._cores.free = wanted, free


def cores_of_a_loop() -> int:
    """How many threads its last loop over parts might have had; it does all of its parts whatever they are."""
    out_P = np.full(5, -1)
    numbered(out_P)
    assert out_P.tolist() == [0, 1, 2, 3, 4]
    return int(numba.get_num_threads())


@pytest.mark.parametrize(("there", "wanted", "all_free", "one_left"), [(2, 2, 2, 1), (2, 1, 1, 1), (1, 4, 1, 1)])
def test_a_loop_has_the_cores_wanted_and_leaves_one_where_another_thread_works(
    monkeypatch: pytest.MonkeyPatch, there: int, wanted: int, all_free: int, one_left: int
) -> None:
    if there > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("this machine has one core")
    monkeypatch.setattr(kernel._cores, "there", there)
    use_cores(wanted)
    leave_a_core(False)
    assert cores_of_a_loop() == all_free
    leave_a_core(True)
    assert cores_of_a_loop() == one_left
