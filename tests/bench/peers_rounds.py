"""Contestants that take turns on the same work, so that a busy machine slows all of them."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch

THREADS: Final = int(os.environ.get("OMP_NUM_THREADS", "2"))
CLOCK: Final = time.process_time if THREADS == 1 else time.perf_counter
"""One thread is measured by CPU time: what others do on the machine then hardly counts."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that works through a window of samples: given the window's number, it says how many those were."""

    name: str
    window: Callable[[int], int]
    deterministic: bool = False
    """Whether torch is to keep to its deterministic algorithms, as our learner asks for."""
    threads: int = THREADS
    """Of torch; our learner may want others, beside threads of its own."""


class Ratio(NamedTuple):
    """Median of the ratios of single rounds, and of the best window of each, which tells more on a busy machine."""

    median: float
    best: float


@dataclass(frozen=True, slots=True)
class Rounds:
    """Samples/s of every contestant, round by round."""

    rates: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Median rate of one."""
        return statistics.median(self.rates[name])

    def fastest(self, names: Sequence[str]) -> str:
        """Which of these has the highest median."""
        return max(names, key=self.median)

    def ratio(self, ours: str, theirs: str) -> "Ratio":
        """How many times as fast one is as another."""
        rounds = zip(self.rates[ours], self.rates[theirs], strict=True)
        return Ratio(statistics.median(a / b for a, b in rounds), max(self.rates[ours]) / max(self.rates[theirs]))


def run_rounds(contestants: Sequence[Contestant], rounds: int, warm: int = 1) -> Rounds:
    """Let all work `rounds` times behind `warm` rounds that do not count; every other round runs backwards."""
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(warm + rounds):
        for contestant in contestants[:: 1 - 2 * (number % 2)]:
            torch.use_deterministic_algorithms(contestant.deterministic)
            torch.set_num_threads(contestant.threads)
            gc.collect()
            start = CLOCK()
            samples = contestant.window(number)
            rate = samples / (CLOCK() - start)
            if number >= warm:
                rates[contestant.name].append(rate)
    return Rounds(rates)
