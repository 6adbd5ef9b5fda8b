"""How loops over parts share cores, with one another's workers and with a thread beside them."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numba import prange
from numpy.typing import NDArray

from streamctr import cores
from streamctr.cores import Turns, done, give_core, piece, side_by_side, take_core, turn, use_cores
from streamctr.kernel import kernel

I64 = NDArray[np.int64]
LONG = 2_000_000
"""A part takes long beside what a thread waits for its turn where all cores are busy."""


@kernel
def work(seen_P2: I64, part: int, workers: int, spins: int) -> None:
    """Counts a part, notes how many workers there were, and takes its time."""
    seen_P2[part, 0] += 1
    seen_P2[part, 1] = workers
    state = 1.0
    for _ in range(spins):  # each waits for the one before
        state = state * 0.999 + 0.5
    seen_P2[part, 1] += int(state < 0)


@side_by_side
def parted(turns: Turns, seen_P2: I64, spins: int) -> None:
    parts = len(seen_P2)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            work(seen_P2, part, turns.workers, spins)
            part = turn(turns, parts)


@kernel
def note(order_X2: I64, part: int, place: int) -> None:
    """The next row that has none yet."""
    at = 0
    while order_X2[at, 0] >= 0:
        at += 1
    order_X2[at, 0], order_X2[at, 1] = part, place


@side_by_side
def pieced(turns: Turns, pieces_P: I64, order_X2: I64) -> None:
    parts = len(pieces_P)
    for _ in prange(turns.workers):
        part, place = piece(turns, parts)
        while part < parts:
            note(order_X2, part, place)
            done(turns, part, place + 1 >= pieces_P[part])
            part, place = piece(turns, parts)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = cores._cores.there, cores._cores.most, cores._cores.shared
    yield
    give_core()
    cores._cores.there, cores._cores.most, cores._cores.shared = before
    assert cores._cores.lent.tolist() == [0] * 16


def needs(there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if there > cores.MOST_CORES:
        pytest.skip("this machine has one core")
    monkeypatch.setattr(cores._cores, "there", there)


def workers_of_a_loop() -> set[int]:
    """How many it had; each part is done once, whatever they are."""
    seen_P2 = np.zeros((50, 2), np.int64)
    parted(seen_P2, 0)
    assert seen_P2[:, 0].tolist() == [1] * 50
    return set(seen_P2[:, 1].tolist())


@pytest.mark.parametrize(("there", "wanted", "all_free", "one_left"), [(2, 2, 2, 1), (2, 1, 1, 1), (1, 4, 1, 1)])
def test_a_loop_has_the_cores_wanted_and_leaves_one_where_another_thread_works(
    monkeypatch: pytest.MonkeyPatch, there: int, wanted: int, all_free: int, one_left: int
) -> None:
    needs(there, monkeypatch)
    use_cores(wanted)
    assert workers_of_a_loop() == {all_free}
    take_core()
    assert workers_of_a_loop() == {one_left}
    give_core()
    assert workers_of_a_loop() == {all_free}


def test_where_a_core_is_over_nobody_has_to_leave_one(monkeypatch: pytest.MonkeyPatch) -> None:
    needs(2, monkeypatch)
    monkeypatch.setattr(cores._cores, "there", 3)
    use_cores(2)
    take_core()
    assert workers_of_a_loop() == {2}


def test_a_loop_takes_a_core_that_is_given_back_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    needs(2, monkeypatch)
    use_cores(2)
    workers_of_a_loop()
    seen_P2 = np.zeros((400, 2), np.int64)
    take_core()
    loop = threading.Thread(target=parted, args=(seen_P2, LONG // 10))
    loop.start()
    while not seen_P2[3, 0]:
        time.sleep(1e-4)
    give_core()
    loop.join()
    assert seen_P2[:, 0].tolist() == [1] * 400
    assert seen_P2[0, 1] == 1
    assert seen_P2[-1, 1] == 2
    assert (np.diff(seen_P2[:, 1]) >= 0).all()


def test_who_wants_a_core_waits_for_the_loop_that_has_it_and_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    needs(2, monkeypatch)
    use_cores(2)
    workers_of_a_loop()
    first_P2, second_P2 = (np.zeros((40, 2), np.int64) for _ in range(2))

    def loops() -> None:
        parted(first_P2, LONG)
        parted(second_P2, LONG)

    both = threading.Thread(target=loops)
    both.start()
    while not first_P2[0, 0]:
        time.sleep(1e-4)
    take_core()
    assert first_P2[:, 0].all()
    assert not second_P2[:, 0].all()
    both.join()
    assert set(first_P2[:, 1].tolist()) == {2}
    assert set(second_P2[:, 1].tolist()) == {1}


def test_a_loop_that_fails_gives_its_core_back(monkeypatch: pytest.MonkeyPatch) -> None:
    needs(2, monkeypatch)
    use_cores(2)
    with pytest.raises(TypeError, match="not enough arguments"):
        parted(np.zeros((1, 2), np.int64))  # type: ignore[call-arg]
    take_core()


def test_one_worker_takes_the_pieces_of_all_parts_in_turn() -> None:
    use_cores(1)
    order_X2 = np.full((7, 2), -1)
    pieced(np.array([2, 4, 1]), order_X2)
    assert order_X2[:, 0].tolist() == [0, 1, 2, 0, 1, 1, 1]
    assert order_X2[:, 1].tolist() == [0, 0, 0, 1, 1, 2, 3]
