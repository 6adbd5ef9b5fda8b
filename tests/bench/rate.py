"""How fast events become a trained and judged model: `python -m tests.bench.rate` (`make bench`).

The synthetic world (16 ids, 8 numbers, a history of 50) as plain JSON lines goes through the whole pipeline into an
ESMM of 256-128 over rows of 16 numbers, in batches of 1024, with figures. Three things alternate, window by window, on
the same batches, so that a busy machine slows all of them; the medians of the windows behind the first are printed.

1. The pipeline, end to end. Its stages are timed by wrapping its parts from outside.
2. Scoring and training alone: the same calls of `score` and `learn`, from batches in memory.
3. Training alone, against a plain torch loop of the same ESMM: one `nn.Embedding(sparse=True)` with SparseAdam, Adam
   for the rest, both at torch's defaults. Its tensors are made beforehand (rows numbered without gaps, histories padded
   to the longest of the batch), ours from hashed ids within the step: the comparison favours the plain loop.

Behind that, what other forms of log and lookup tables cost (see `cost`).
"""

import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from torch import nn

from connectors.files import FileSource, find_files
from jobs import wiring
from jobs.demo import RUN_FILE
from jobs.rundir import RunDirectory, load_run
from jobs.synthetic_data import write
from streamctr import feedback
from streamctr.models import InputShape, ModelInput, SequenceInput, build
from streamctr.samples import SampleBatch
from streamctr.synthetic import WorldConfig
from streamctr.training import Learner, Recipe
from tests.bench.cost import costs
from tests.bench.timing import Timed, seconds

WINDOWS = 8
ROOTS = 25_000
"""Roots of a window; the first window warms up."""
WORLD = WorldConfig(roots=(WINDOWS + 2) * ROOTS, days=2, users=1000)
"""Few users, so that histories fill: ten roots a user would leave them empty."""
SETTINGS = ["model.towers=[256, 128]", "tables.width=16", "training.batch=1024"]
PLAIN_ROWS = 2**21
STAGES = ("read", "decode", "order", "join", "history+encode", "score", "learn", "judge")


class PlainLoop:
    """The same model over one sparse `nn.Embedding`, as one would write it first."""

    def __init__(self, recipe: Recipe, learner: Learner) -> None:
        self._recipe, self._learner = recipe, learner
        shape = InputShape.of(recipe.features, recipe.tables.width)
        stages = len(recipe.funnel.stages) - 1
        self.model = build(recipe.model, shape, torch.zeros(stages), torch.Generator().manual_seed(0))
        self.embedding = nn.Embedding(PLAIN_ROWS, recipe.tables.width, padding_idx=0, sparse=True)
        self.sparse = torch.optim.SparseAdam(list(self.embedding.parameters()))
        self.dense = torch.optim.Adam(self.model.parameters())
        self._number: dict[int, int] = {}

    def prepare(self, rows: SampleBatch) -> tuple[Any, ...]:
        """Tensors of a batch."""
        features, table = self._recipe.features, self._learner.table
        ids = self._numbered(table.rows(rows.ids_NF, np.arange(len(features.ids)))[:, 0])
        numbers, missing = (
            torch.tensor(p, dtype=torch.float32) for p in self._learner.moments.standardise(rows.numbers_NM)
        )
        histories = []
        for history, config in zip(rows.histories, features.history.values(), strict=True):
            longest = max(1, int(history.length.max()))
            columns = np.array([features.ids.index(field) for field in config.take])
            places = table.rows(history.ids_NTC[:, :longest], columns, history.length)
            mask = torch.tensor(np.arange(longest) < history.length[:, None], dtype=torch.float32)
            histories.append((self._numbered(places), mask))
        targets = feedback.targets(self._recipe.training.delayed_feedback, rows.says, rows.label, rows.weight)
        return ids, numbers, missing, histories, targets

    def step(self, ids: Any, numbers: Any, missing: Any, histories: Any, targets: Any) -> None:
        """One step."""
        self.sparse.zero_grad()
        self.dense.zero_grad()
        looked = tuple(SequenceInput(self.embedding(places), mask) for places, mask in histories)
        x = ModelInput(self.embedding(ids), numbers, missing, looked)
        loss = self.model.loss(self.model(x), targets) / self._recipe.training.batch
        loss.backward()
        self.sparse.step()
        self.dense.step()

    def _numbered(self, rows: Any) -> torch.Tensor:
        """Rows without gaps from 1 on; 0 is padding."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        dense = [0 if row < 0 else self._number.setdefault(row, len(self._number) + 1) for row in distinct.tolist()]
        assert len(self._number) < PLAIN_ROWS
        return torch.tensor(np.array(dense)[inverse].reshape(rows.shape))


class Bench:
    """The pipeline over the world with its parts wrapped, and what its batches are tried on besides."""

    def __init__(self, folder: Path) -> None:
        config = load_run(RUN_FILE, [f"files={folder}/data/*.jsonl", *SETTINGS]).config
        source = FileSource(find_files(config.files, config.tree, mixed=False), config.files, config.csv)
        self.pipeline = wiring.build(config, source, wiring.Outputs.files(config, RunDirectory(folder / "run")))
        self.clock: dict[str, float] = defaultdict(float)
        self.calls: list[tuple[str, tuple[SampleBatch, ...]]] = []
        self._wrap()
        recipe = Recipe(config.model, config.tables, config.training, config.features, config.tree)
        self.alone, self.ours = Learner(recipe), Learner(recipe)
        self.plain = PlainLoop(recipe, self.alone)

    def _wrap(self) -> None:
        parts, clock = self.pipeline.parts, self.clock
        trainer: Any = parts.back.trainer
        trainer.learner = Timed(trainer.learner, {"score": "score", "learn": "learn"}, clock, self.calls)
        trainer._judge = Timed(trainer._judge, "judge", clock)
        self.pipeline.parts = replace(
            parts,
            source=Timed(parts.source, "read", clock),
            decoder=Timed(parts.decoder, "decode", clock),
            orderer=Timed(parts.orderer, "order", clock),
            joiner=Timed(parts.joiner, "join", clock),
            encoder=Timed(parts.encoder, "history+encode", clock),
        )

    def window(self, number: int) -> dict[str, Any] | None:
        """Figures of about `ROOTS` roots; None at the end of the input."""
        self.clock.clear()
        self.calls.clear()
        roots = self._roots()
        elapsed = seconds(lambda: self._advance(roots + ROOTS))
        roots = self._roots() - roots
        if roots < ROOTS:
            return None
        stages = {stage: self.clock[stage] / roots for stage in STAGES}
        calls = [(name, arguments[0]) for name, arguments in self.calls if name in ("score", "learn")]
        alone = seconds(lambda: [getattr(self.alone, name)(rows) for name, rows in calls])
        batches = [rows for name, rows in calls if name == "learn"]
        prepared = [self.plain.prepare(rows) for rows in batches]
        loops: list[Callable[[], Any]] = [lambda: self._ours(batches), lambda: self._plain(prepared)]
        turn = number % 2
        times = {turn: seconds(loops[turn]), 1 - turn: seconds(loops[1 - turn])}
        samples = sum(len(rows) for rows in batches)
        return {
            "roots_per_s": roots / elapsed,
            "ratio_to_score_and_train_alone": alone / elapsed,
            "train_samples_per_s": samples / times[0],
            "plain_samples_per_s": samples / times[1],
            "ratio_of_training_to_plain": times[1] / times[0],
            "history_length": float(np.mean(np.concatenate([rows.histories[0].length for rows in batches]))),
            **{f"{stage}_us": 1e6 * share for stage, share in stages.items()},
            "rest_us": 1e6 * (elapsed / roots - sum(stages.values())),
        }

    def _roots(self) -> int:
        roots = self.pipeline.roots()
        return roots["final"] + roots["open"]

    def _advance(self, roots: int) -> None:
        while self._roots() < roots and self.pipeline.advance():
            pass

    def _ours(self, batches: list[SampleBatch]) -> None:
        for rows in batches:
            self.ours.learn(rows)

    def _plain(self, prepared: list[tuple[Any, ...]]) -> None:
        torch.use_deterministic_algorithms(False)  # as a plain loop has it
        for tensors in prepared:
            self.plain.step(*tensors)
        torch.use_deterministic_algorithms(True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(str(folder / "data"), WORLD, lambda roots: None, compress=False)
        bench = Bench(folder)
        windows = []
        for number in range(WINDOWS + 1):
            found = bench.window(number)
            if found is None:
                break
            print(f"window {number}: {found['roots_per_s']:,.0f} roots/s", file=sys.stderr)
            windows.append(found)
        bench.pipeline.close()
    medians = {key: statistics.median(window[key] for window in windows[1:]) for key in windows[0]}
    total = 1e6 / medians["roots_per_s"]
    for stage in (*STAGES, "rest"):
        print(f"{stage:<16}{medians[f'{stage}_us']:8.1f} us a root  {medians[f'{stage}_us'] / total:6.1%}")
    about = {"windows": len(windows) - 1, "threads": torch.get_num_threads(), "torch": torch.__version__}
    wanted = {"ratio_to_score_and_train_alone": 0.4, "ratio_of_training_to_plain": 1.0}
    rounded = {key: round(value, 3) for key, value in medians.items()}
    cost, more_wanted = costs()
    print(orjson.dumps({**rounded, **cost, "wanted": wanted | more_wanted, **about}).decode())


if __name__ == "__main__":
    main()
