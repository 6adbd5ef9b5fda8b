"""What a snapshot of a large state costs: `python -m tests.bench.snapshot [ROWS]`.

A learner with 13.2 million table rows of width 16, 1 GB, learns on while it is saved. Beside it stand safetensors' own
functions with the same arrays: `save_file`, without and with an fsync behind it, and `load_file` with a look at every
page. Medians of all rounds; a table, and one JSON line with what is wanted of the figures.
"""

import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from safetensors.numpy import load_file, save_file

from jobs.owner import Owner
from jobs.saving import Moment, Saver
from streamctr.samples import SampleBatch
from streamctr.snapshot import SnapshotStore
from streamctr.training import Learner
from tests.bench.peers_world import WIDTH, make_recipe, make_world, slices

ROWS: Final = 13_200_000
BATCH: Final = 1024
ROUNDS: Final = 5
STEPS: Final = 10
PAGE_BYTES: Final = 4096
LEARNER: Final = "trainer/learner/"


def empty() -> Learner:
    """A learner with room for the rows in its 16 tables."""
    return Learner(make_recipe(BATCH, "esmm", "features.history={}", "tables.rows=2^20"))


def full(rows: int) -> Learner:
    """One that has learned so many rows."""
    held, chance = empty(), np.random.default_rng(0)
    arrays = held.state() | {
        "table.rows": chance.permutation(held.table.places)[:rows],
        "table.weights": chance.standard_normal((rows, WIDTH), np.float32),
        "table.accumulator": chance.random(rows, np.float32),
    }
    held.restore(arrays)
    return held


class Bench:
    """Saves and restores one learner, and keeps the seconds of each round."""

    def __init__(self, learner: Learner, batches: list[SampleBatch], folder: Path) -> None:
        self._learner, self._batches, self._folder = learner, cycle(batches), folder
        self.store = SnapshotStore(folder / "snapshots", keep=1)
        self._saved = 0
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def _timing(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what].append(time.perf_counter() - start)

    def moment(self) -> Moment:
        """The state, as a run takes it."""
        self._saved += 1
        arrays = {f"{LEARNER}{name}": array for name, array in self._learner.state().items()}
        return Moment(self._saved, arrays, {}, {})

    def step(self) -> None:
        """One learning step."""
        with self._timing("step_beside"):
            self._learner.learn(next(self._batches))

    def beside(self, saver: Saver) -> None:
        """A snapshot beside learning."""
        with self._timing("take"):
            taken = saver.take(self.moment())
        if not taken:  # the first one: memory is got ready
            del self.seconds["take"][-1]
            while saver.busy:
                self._learner.learn(next(self._batches))
            with self._timing("take"):
                saver.take(self.moment())
        start = time.perf_counter()
        while not saver.written:
            self.step()
        self.seconds["write_beside"].append(time.perf_counter() - start)
        with self._timing("count"):
            saver.count()
        with self._timing("settle"):
            saver.rest()

    def alone(self) -> None:
        """Learning steps, a snapshot and a resume with nothing beside; and safetensors' own functions."""
        for _ in range(STEPS):
            with self._timing("step"):
                self._learner.learn(next(self._batches))
        moment, plain = self.moment(), self._folder / "plain.safetensors"
        with self._timing("write"):
            self.store.write(moment.taken, moment.arrays, {}, [n for n in moment.arrays if n.endswith("weights")])
        with self._timing("plain_write_synced"):
            with self._timing("plain_write"):
                save_file(moment.arrays, plain)
            descriptor = os.open(plain, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        with self._timing("plain_read"):
            for array in load_file(plain).values():
                array.reshape(-1).view(np.uint8)[::PAGE_BYTES].max()
        plain.unlink()
        other = empty()
        with self._timing("resume"):
            with self._timing("load"):
                snapshot = self.store.load(self.store.names()[-1])
            other.restore({name.removeprefix(LEARNER): array for name, array in snapshot.arrays.items()})


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    world = make_world(16 * BATCH).samples(history=False)
    batches = [world.take(part) for part in slices(len(world), BATCH)]
    learner = full(rows)
    size_bytes = sum(array.nbytes for array in learner.state().values())
    for batch in batches:  # what they learn first is not to be timed
        learner.learn(batch)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(learner, batches, Path(name))
        with closing(Saver(bench.store, Owner(0, lambda offsets: None))) as saver:
            for _ in range(ROUNDS):
                bench.beside(saver)
                bench.alone()
    median = {what: statistics.median(values) for what, values in bench.seconds.items()}
    for what, values in bench.seconds.items():
        print(f"{what:<20}{1000 * median[what]:10.1f} ms   {1000 * min(values):10.1f} to {1000 * max(values):.1f}")
    found = {
        "pause_ms": 1000 * (median["take"] + median["count"]),
        "write_rate_of_plain": median["plain_write"] / median["write"],
        "write_rate_of_plain_synced": median["plain_write_synced"] / median["write"],
        "resume_of_reading": median["resume"] / median["plain_read"],
        "step_beside_of_alone": median["step_beside"] / median["step"],
    }
    met = {
        "pause_ms": found["pause_ms"] < 100,
        "write_rate_of_plain": found["write_rate_of_plain"] >= 0.5,
        "resume_of_reading": found["resume_of_reading"] < 2,
    }
    wanted = {"pause_ms": "< 100", "write_rate_of_plain": ">= 0.5", "resume_of_reading": "< 2"}
    print(f"\n{size_bytes / 1e9:.2f} GB\n{'':<30}{'measured':>10}{'wanted':>10}")
    for key, value in found.items():
        print(f"{key:<30}{value:10.2f}{wanted.get(key, ''):>10}  {'' if met.get(key, True) else 'MISSED'}")
    rounded = {key: round(value, 3) for key, value in found.items()}
    print(orjson.dumps({"gb": round(size_bytes / 1e9, 2), **rounded, "wanted": wanted, "met": met}).decode())


if __name__ == "__main__":
    main()
