"""river's hashed logistic regression against the whole pipeline, from the same JSON lines.

river reads the impressions alone, with the clicks known beforehand, and predicts, judges and learns them one by one.
Ours reads all events, orders, joins, keeps histories, encodes, scores, learns and judges. Both are counted in
impressions/s.
"""

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
import torch

from connectors.files import FileSource, find_files
from jobs import wiring
from jobs.demo import RUN_FILE
from jobs.rundir import RunDirectory, load_run
from jobs.synthetic_data import write
from streamctr.synthetic import ID_FIELDS, NUMBER_FIELDS, WorldConfig
from tests.bench.peers_rounds import THREADS, Contestant, Rounds, run_rounds
from tests.bench.peers_world import ROWS, WIDTH

ROOTS = {"river": 20_000, "esmm": 40_000, "lr": 80_000}
"""Of a window: some tenths of a second of each."""
SETTINGS = (f"tables.width={WIDTH}", f"tables.rows={ROWS}", "training.batch=1024", f"training.threads={THREADS}")
ESMM = ("model=esmm", "model.towers=[256, 128]")
LR = ("model=lr", "features.history={}")


def learn_lines(model: Any, metric: Any, lines: list[bytes], clicked: set[str]) -> None:
    """Predict, judge and learn each impression."""
    buckets = 16 * ROWS
    for line in lines:
        event = orjson.loads(line)
        x: dict[Any, float] = {hash((field, event[field])) % buckets: 1.0 for field in ID_FIELDS}
        for field in NUMBER_FIELDS:
            x[field] = math.log1p(max(0.0, event.get(field) or 0.0))
        label = event["id"] in clicked
        metric.update(label, model.predict_proba_one(x).get(True, 0.5))
        model.learn_one(x, label)


def river(name: str, data: Path) -> Contestant:
    """river's logistic regression with its AUC."""
    model, metric = import_module("river.linear_model").LogisticRegression(), import_module("river.metrics").ROCAUC()
    clicked = {orjson.loads(line)["id"] for line in (data / "click.jsonl").open("rb")}
    reader = (data / "impression.jsonl").open("rb")

    def window(number: int) -> int:
        lines = [next(reader) for _ in range(ROOTS["river"])]
        learn_lines(model, metric, lines, clicked)
        return len(lines)

    return Contestant(name, window)


def pipeline(name: str, data: Path, run: Path, settings: tuple[str, ...], of_window: int) -> Contestant:
    """Ours, from files to figures; a window ends when all that it read is learned."""
    config = load_run(RUN_FILE, [f"files={data}/*.jsonl", *settings, *SETTINGS]).config
    assert config.files is not None
    source = FileSource(find_files(config.files, config.tree, mixed=False), config.files, config.csv)
    made = wiring.build(config, source, wiring.Outputs.files(config, RunDirectory(run)))

    def roots() -> int:
        counted = made.roots()
        return counted["final"] + counted["open"]

    def window(number: int) -> int:
        before = roots()
        while roots() < before + of_window and made.advance():
            pass
        assert made.parts.back is not None
        _ = made.parts.back.trainer
        return roots() - before

    return Contestant(name, window, deterministic=True, threads=torch.get_num_threads())


def river_rounds(folder: Path, rounds: int) -> Rounds:
    """river, and ours with the ESMM and with `lr`."""
    world = WorldConfig(roots=(rounds + 2) * max(ROOTS.values()), days=2, users=1000)
    write(str(folder / "data"), world, lambda roots: None, compress=False)
    data = folder / "data"
    contestants = [
        river("river", data),
        pipeline("pipeline esmm", data, folder / "esmm", ESMM, ROOTS["esmm"]),
        pipeline("pipeline lr", data, folder / "lr", LR, ROOTS["lr"]),
    ]
    return run_rounds(contestants, rounds)
