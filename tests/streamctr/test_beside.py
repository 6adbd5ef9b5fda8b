"""The back half in a thread of its own."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from streamctr import cores
from streamctr.beside import Beside
from streamctr.errors import NonFiniteError
from streamctr.samples import NEVER_MS, SampleBatch


class SlowHalf:
    """Remembers what it was fed, slowly, and in which thread."""

    def __init__(self, fails_at: int = -1) -> None:
        self.trainer: Any = self
        self.judge: Any = self
        self.fed: list[int] = []
        self.threads: set[int] = set()
        self.closed = False
        self.worked = 0
        self._fails_at = fails_at

    def plan(self, samples: SampleBatch) -> list[int]:
        ordinals: list[int] = samples.ordinal.tolist()
        return ordinals

    def work(self, steps: list[int]) -> list[int]:
        time.sleep(0.01)
        self.threads.add(threading.get_ident())
        if self._fails_at in steps:
            raise NonFiniteError("too many steps")
        self.worked += 1
        return steps

    def write(self, judged: list[int]) -> None:
        self.fed += judged

    def finish(self, now_ms: int) -> None:
        self.fed.append(-now_ms)

    def state(self) -> dict[str, Any]:
        return {"fed": np.array(self.fed)}

    def restore(self, arrays: dict[str, Any]) -> None:
        self.fed = arrays["fed"].tolist()

    def forget(self) -> None:
        self.fed.clear()

    def close(self) -> None:
        self.closed = True


def row(ordinal: int) -> SampleBatch:
    one = np.array([ordinal])
    zeros = np.zeros((1, 2), np.uint8)
    return SampleBatch(
        one,
        one,
        one.astype(np.uint64),
        zeros,
        zeros,
        np.full((1, 2), NEVER_MS),
        np.zeros((1, 0), np.uint64),
        np.zeros((1, 0), np.float32),
        np.zeros((1, 0)),
        np.ones(1, np.float32),
        (),
    )


def test_chunks_are_taken_in_order_in_another_thread_and_state_waits_for_all() -> None:
    half = SlowHalf()
    beside = Beside(half)  # type: ignore[arg-type]
    for ordinal in range(5):
        beside.feed(row(ordinal))
    assert len(half.fed) < 5
    assert beside.state()["fed"].tolist() == [0, 1, 2, 3, 4]
    assert half.threads.isdisjoint({threading.get_ident()})


@pytest.mark.parametrize("look", ["trainer", "judge"])
def test_who_looks_at_the_half_sees_it_at_rest(look: str) -> None:
    beside = Beside(SlowHalf())  # type: ignore[arg-type]
    beside.feed(row(0))
    beside.feed(row(1))
    assert getattr(beside, look).fed == [0, 1]


def test_the_end_restoring_and_forgetting_come_behind_what_was_fed() -> None:
    half = SlowHalf()
    beside = Beside(half)  # type: ignore[arg-type]
    beside.feed(row(1))
    beside.finish(7)
    assert half.fed == [1, -7]
    beside.feed(row(2))
    beside.restore({"fed": np.array([5])})
    assert half.fed == [5]
    beside.feed(row(3))
    beside.forget()
    assert half.fed == []


def test_a_failure_is_raised_where_the_half_is_fed_and_nothing_behind_it_is_taken() -> None:
    half = SlowHalf(fails_at=1)
    beside = Beside(half)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError):  # noqa: PT012 - whichever of these comes behind it
        for ordinal in range(9):
            beside.feed(row(ordinal))
        beside.state()
    beside.close()
    assert half.fed == [0]
    assert half.closed


def test_a_core_is_taken_by_who_feeds_until_that_one_waits() -> None:
    beside = Beside(SlowHalf())  # type: ignore[arg-type]
    for rest in (beside.state, beside.close):
        beside.feed(row(0))
        assert cores._cores.taken
        rest()
        assert not cores._cores.taken


def test_no_more_than_two_chunks_wait() -> None:
    half = SlowHalf()
    beside = Beside(half)  # type: ignore[arg-type]
    for ordinal in range(6):
        beside.feed(row(ordinal))
        assert ordinal + 1 - half.worked <= 2
    beside.close()


def test_what_was_learned_is_judged_although_nothing_more_is_fed() -> None:
    half = SlowHalf()
    beside = Beside(half)  # type: ignore[arg-type]
    for ordinal in range(2):
        beside.feed(row(ordinal))
    for _ in range(1000):
        if half.fed == [0, 1]:
            break
        time.sleep(0.01)
    assert half.fed == [0, 1]
    beside.close()
