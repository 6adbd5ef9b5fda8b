"""How fast events become a trained and judged model: `python -m tests.bench.rate` (`make bench`).

The synthetic world (16 ids, 8 numbers) as plain JSON lines goes into an ESMM of 256-128 over 2^22 rows of 16 numbers in
batches of 1024, with figures; once as it is, once with a history of 50. For each, four things take turns, window by
window, so that a busy machine slows all of them; medians of the windows behind the first are printed.

1. Stage by stage: the pipeline in one thread, its parts wrapped, learning with one thread. CPU seconds of a stage are
   what it costs with a core to itself. Bytes out are those of the arrays and lines that a stage hands on and that are
   no views of what it was given: at least so much was written.
2. End to end: the pipeline as the commands run it, with both cores, until all that was read is learned.
3. The front half alone, in one thread: JSON lines to samples.
4. Scoring and learning alone: the same calls from batches in memory, with both cores; and learning alone in batches of
   1024 and 4096, a few steps at a time, beside the matrix products of such steps (see `machine`; the best of both are
   compared), or with a history beside a plain torch loop (see `plainloop`).

Behind that, what a snapshot costs, what other forms of log and lookup tables cost (see `cost`), the bounds of the
machine, and the peak of resident memory. Ratios stand beside what is wanted of them; the exit code is always 0.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import torch

from jobs import wiring
from jobs.runfile import RunConfig
from jobs.synthetic_data import write
from streamctr.samples import SampleBatch
from streamctr.synthetic import WorldConfig
from streamctr.training import Learner, Recipe
from tests.bench import machine
from tests.bench.cost import costs
from tests.bench.plainloop import PlainLoop, Prepared
from tests.bench.stages import (
    HOST,
    Call,
    StageByStage,
    StageTable,
    Stretches,
    built,
    peak,
    settled,
    snapshot,
    torch_threads,
)
from tests.bench.timing import BENCH, seconds

WINDOWS: Final = 5
ROOTS: Final = 100_000
"""Roots of a window; the first window warms up."""
WORLD: Final = WorldConfig(roots=(WINDOWS + 2) * ROOTS, days=2, users=1000)
"""Few users, so that histories fill: ten roots a user would leave them empty."""
SETTINGS: Final = ["model.towers=[256, 128]", "tables.width=16", "tables.rows=2^18", "training.batch=1024"]
"""16 tables of 2^18 rows."""
MODELS: Final = {"bare": ["features.history={}"], "history": []}
BATCHES: Final = (1024, 4096)
CORES: Final = 2
SIZES: Final[dict[str, Any]] = {"inputs": 16 * 16 + 2 * 8, "towers": (256, 128), "stages": 2}
"""Of the towers without a history: rows of the ids; numbers, and whether they are missing."""
SHAPES: Final = machine.layers(**SIZES)


class Wanted(NamedTuple):
    """What is wanted of a figure."""

    bound: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether the figure is as wanted."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


WANTED: Final = {
    "history.front_events_per_s": Wanted(150_000),
    "bare.end_to_end_of_stages": Wanted(0.85),
    "history.end_to_end_of_stages": Wanted(0.85),
    "bare.end_to_end_of_learning": Wanted(0.7),
    "history.end_to_end_of_learning": Wanted(0.7),
    "bare.learn_of_products_b1024": Wanted(0.6),
    "bare.learn_of_products_b4096": Wanted(0.7),
    "history.learn_of_plain_loop": Wanted(1.0),
}


def recipe_of(config: RunConfig, batch: int) -> Recipe:
    """What the run says of learning, in batches of this size."""
    recipe = wiring.recipe(config)
    return replace(recipe, training=recipe.training.model_copy(update={"batch": batch}))


def rebatched(batches: list[SampleBatch], size: int) -> list[SampleBatch]:
    """The same rows in batches of this size; what is over is left out."""
    rows = SampleBatch.concat(batches)
    return [rows.take(slice(start, start + size)) for start in range(0, len(rows) - size + 1, size)]


class Learning:
    """Learning alone: how fast our learner is beside what is possible or usual."""

    def __init__(self, config: RunConfig, *, history: bool) -> None:
        self._learners = {batch: Learner(recipe_of(config, batch)) for batch in BATCHES[: 1 if history else None]}
        recipe = wiring.recipe(config)
        self._plain = PlainLoop(recipe, self._learners[1024]) if history else None
        self._products = {} if history else {b: machine.gemm_step(b, SHAPES, torch.float32) for b in BATCHES}

    def window(self, batches: list[SampleBatch], turn: int) -> dict[str, float]:
        """Rates over these batches."""
        if self._plain is not None:
            return self._beside_plain_loop(batches, turn)
        found: dict[str, float] = {}
        for batch in BATCHES:
            found |= self._beside_products(batch, batches if batch == 1024 else rebatched(batches, batch))
        return found

    def _beside_products(self, batch: int, batches: list[SampleBatch]) -> dict[str, float]:
        """Learning and nothing but products in turn, a few steps each; the best of both are compared."""
        learner, at_once = self._learners[batch], max(BATCHES) // batch
        learn_s, products_s = [], []
        for start in range(0, len(batches) - at_once + 1, at_once):
            chunk = batches[start : start + at_once]
            learn_s.append(seconds(lambda: [learner.learn(rows) for rows in chunk]) / at_once)  # noqa: B023
            with torch_threads(CORES):
                products_s.append(machine.seconds_once(self._products[batch]))
        return {
            f"learn_samples_per_s_b{batch}": batch / statistics.median(learn_s),
            f"products_samples_per_s_b{batch}": batch / min(products_s),
            f"learn_of_products_b{batch}": min(products_s) / min(learn_s),
        }

    def _beside_plain_loop(self, batches: list[SampleBatch], turn: int) -> dict[str, float]:
        """Ours, then the plain loop, or the other way round."""
        assert self._plain is not None
        learner, prepared = self._learners[1024], [self._plain.prepare(rows) for rows in batches]
        works: list[Callable[[], Any]] = [
            lambda: [learner.learn(rows) for rows in batches],
            lambda: self._plain_loop(prepared),
        ]
        took = {at: seconds(works[at]) for at in (turn, 1 - turn)}
        return {
            "learn_samples_per_s_b1024": sum(map(len, batches)) / took[0],
            "learn_of_plain_loop": took[1] / took[0],
        }

    def _plain_loop(self, prepared: list[Prepared]) -> None:
        assert self._plain is not None
        torch.use_deterministic_algorithms(False)  # as a plain loop has it
        with torch_threads(CORES):
            for tensors in prepared:
                self._plain.step(tensors)
        torch.use_deterministic_algorithms(True)


class Bench:
    """One model over the world, looked at in four ways."""

    def __init__(self, data: Path, run: Path, settings: list[str]) -> None:
        config, alone = (settled(data, [*SETTINGS, *settings, f"training.threads={n}"]) for n in (CORES, 1))
        joins_only = wiring.Limits(joins_only=True)
        self.stages = StageByStage(built(alone, run / "stages", beside=False), keep=True)
        self.whole = Stretches(built(config, run / "whole"))
        self.front = Stretches(built(config, run / "front", limits=joins_only))
        self.table = StageTable()
        self.alone = Learner(wiring.recipe(config))
        self.learning = Learning(config, history=bool(config.features.history))
        self._run = run

    def window(self, number: int) -> dict[str, float]:
        """Figures of about `ROOTS` roots."""
        by_stage = self.stages.on(ROOTS)
        spent = self.stages.watch.spent
        if number:
            self.table.add(by_stage, spent)
        turn, calls = number % 2, self.stages.scored_and_learned()
        stretches = [("whole", self.whole), ("front", self.front)][:: 1 - 2 * turn]
        taken = {name: stretch.on(ROOTS) for name, stretch in stretches}
        whole, front = taken["whole"], taken["front"]
        alone_s = seconds(lambda: self._alone(calls))
        own_s = sum(of.cpu_s for stage, of in spent.items() if stage != BENCH)
        us = 1e6 / whole.events
        return {
            "events_per_s": whole.events / whole.wall_s,
            "roots_per_s": whole.roots / whole.wall_s,
            "cores_busy": whole.cpu_s / whole.wall_s,
            "cpu_us": whole.cpu_s * us,
            "stages_allow_events_per_s": CORES * by_stage.events / own_s,
            "end_to_end_of_stages": (own_s / by_stage.events / CORES) / (whole.wall_s / whole.events),
            "score_and_learn_events_per_s": by_stage.events / alone_s,
            "end_to_end_of_learning": (alone_s / by_stage.events) / (whole.wall_s / whole.events),
            "front_events_per_s": front.events / front.cpu_s,
            "host_stages_events_per_s": by_stage.events / sum(spent[stage].cpu_s for stage in HOST),
        } | self.learning.window(self.stages.taken("learn"), turn)

    def _alone(self, calls: list[Call]) -> None:
        for name, rows in calls:
            getattr(self.alone, name)(rows)

    def close(self) -> dict[str, float]:
        """What a snapshot of it costs, as a last figure."""
        found = snapshot(self.whole.pipeline, self._run / "snapshots")
        for stretches in (self.stages, self.whole, self.front):
            stretches.pipeline.close()
        return found


def measured(folder: Path, name: str) -> dict[str, float]:
    """The medians of one model's figures; its table of stages is printed."""
    bench = Bench(folder / "data", folder / name, MODELS[name])
    windows = []
    for number in range(WINDOWS + 1):
        windows.append(bench.window(number))
        print(f"{name}, window {number}: {windows[-1]['events_per_s']:,.0f} events/s", file=sys.stderr)
    medians = {key: statistics.median(window[key] for window in windows[1:]) for key in windows[0]}
    cpu, out = bench.table.cpu_us(), bench.table.out_bytes()
    found = medians | bench.close()
    found |= {f"{stage}_us": us for stage, us in cpu.items()} | {f"{stage}_bytes": size for stage, size in out.items()}
    print(f"\n{'with a history of 50' if name == 'history' else 'ids and numbers'}, each stage with a core to itself:")
    print("\n".join(bench.table.lines()))
    print(
        f"snapshot  {found['snapshot_mb']:,.0f} MB in {found['snapshot_wall_s']:.2f} s, "
        f"{found['snapshot_cpu_s']:.2f} s CPU"
    )
    return found


def print_figures(found: dict[str, float], wanted: dict[str, Wanted]) -> None:
    """Every figure that something is wanted of first, then the others."""
    print(f"\n{'wanted':<36}{'measured':>12}{'wanted':>12}")
    for key, want in wanted.items():
        value = found[key]
        text = f"{value:12,.0f}" if value >= 1000 else f"{value:12.3f}"
        print(f"{key:<36}{text}{want!s:>12}  {'met' if want.met(value) else 'MISSED'}")
    print()
    for key, value in found.items():
        if key not in wanted and not key.endswith(("_us", "_bytes")):
            print(f"{key:<44}{value:14,.3f}" if value < 1000 else f"{key:<44}{value:14,.0f}")


def main() -> None:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = write(str(folder / "data"), WORLD, lambda roots: None, compress=False)
        size = sum(file.stat().st_size for file in (folder / "data").iterdir())
        found["bytes_per_event"] = size / sum(counts.values())
        for model, settings in MODELS.items():
            found |= {f"{model}.{key}": value for key, value in measured(folder, model).items()}
            found |= {f"{model}.{k}": value for k, value in peak(folder / "data", [*SETTINGS, *settings]).items()}
    with torch_threads(CORES):
        found |= machine.bounds(BATCHES, **SIZES)
    cost, more = costs()
    found |= cost
    wanted = WANTED | {key: Wanted(bound, at_least=key.startswith("ratio")) for key, bound in more.items()}
    print_figures(found, wanted)
    about = {"windows": WINDOWS, "threads": CORES, "torch": torch.__version__}
    rounded = {key: round(value, 3) for key, value in found.items()}
    met = {key: want.met(found[key]) for key, want in wanted.items()}
    print(orjson.dumps({**rounded, "wanted": {k: str(w) for k, w in wanted.items()}, "met": met, **about}).decode())


if __name__ == "__main__":
    main()
