"""Copies of a state that hold while the state goes on."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from streamctr.snapshot import Staging, staging
from streamctr.testing import same


def state(rows: int) -> dict[str, np.ndarray]:
    return {
        "matrix": np.arange(2.0 * rows).reshape(rows, 2),
        "one": np.ones((1, 3), np.uint8),
        "none": np.empty((0, 4)),
        "number": np.array(7, np.int16),
        "strided": np.arange(6 * rows, dtype=np.int64).reshape(rows, 6)[:, ::2],
        "flags": np.arange(rows) % 2 == 0,
    }


@pytest.mark.parametrize("beside", [True, False])
def test_what_was_copied_stays_when_the_state_changes(beside: bool) -> None:
    staged = Staging()
    with ThreadPoolExecutor(1) as thread:
        for rows in (3, 1, 1000, 5):
            live = state(rows)
            kept = staged.copy(live, thread if beside else None)
            for array in live.values():
                array[...] = 0
            assert list(kept) == list(live)
            assert same(kept, state(rows))


def test_what_never_changes_is_not_copied() -> None:
    live, fixed = np.arange(3), np.arange(4)
    fixed.flags.writeable = False
    kept = Staging().copy({"live": live, "fixed": fixed})
    assert kept["fixed"] is fixed
    assert not np.shares_memory(kept["live"], live)


def test_large_states_fit_when_room_was_reserved_and_may_grow_by_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_SMALL_BYTES", 1024)
    staged = Staging()
    assert staged.fits({"x": np.zeros(1000, np.uint8)})
    assert not staged.fits({"x": np.zeros(6400, np.uint8)})
    staged.reserve()
    assert staged.fits({"x": np.zeros(8000, np.uint8)})
    assert not staged.fits({"x": np.zeros(8001, np.uint8)})
    memory = staged.copy({"x": np.zeros(6400, np.uint8)})["x"]
    assert np.shares_memory(staged.copy({"x": np.zeros(7000, np.uint8)})["x"], memory)
