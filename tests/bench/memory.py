"""Whether memory is bounded, and what a piece of state takes: `python -m tests.bench.memory` (`make bench-memory`).

A stream whose bounds (users, table rows, windows, what is remembered) are reached within the first tenth is replayed
for one and for ten times the event time at the same rate, each in a process of its own. The bytes of each state must
agree within 1 %, the peak of the resident memory within 5 % + 50 MB. Prints one JSON line; exit code 1 where they do
not. Before that, what a piece of each state takes (see `pieces`).
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from connectors.files import FileSource, find_files
from jobs import wiring
from jobs.demo import RUN_FILE
from jobs.rundir import RunDirectory, load_run
from jobs.synthetic_data import write
from streamctr.pipeline import Pipeline
from streamctr.synthetic import WorldConfig
from tests.bench.pieces import pieces
from tests.bench.stages import peak_mb

DAY_ROOTS = 60_000
SETTINGS = ["users=200", "remember=30m", "funnel.click.observe=1m", "funnel.conversion.observe=10m"]
SETTINGS += ["funnel.conversion.window=30m", "tables.rows=128", "metrics.bucket=10m", "metrics.tick=10m"]
STATES = 0.01
PEAK, PEAK_MB = 1.05, 50


def world(times: int) -> WorldConfig:
    """As many days as `times`, each with the same number of roots at an even rate."""
    delays = {"click_delay": "10s", "click_window": "1m", "conversion_delay": "10m", "conversion_window": "30m"}
    return WorldConfig(roots=times * DAY_ROOTS, days=times, users=1000, items=1000, rhythm=0, **delays)


def sizes(pipeline: Pipeline) -> dict[str, int]:
    """Bytes of each state, now."""
    parts = pipeline.parts
    encoded = parts.encoder.size_bytes()
    return {
        "open_roots": parts.joiner.size_bytes() + encoded["open_features"],
        "histories": encoded["histories"],
        "tables": parts.back.trainer.learner.table.bytes(),
        "pending_scores": parts.back.judge.bytes(),
    }


def replay(folder: Path) -> dict[str, Any]:
    """Run over the files in `folder`; the largest size that each state had, and the peak of resident memory."""
    config = load_run(RUN_FILE, [f"files={folder}/*.jsonl", *SETTINGS]).config
    source = FileSource(find_files(config.files, config.tree, mixed=False), config.files, config.csv)
    with tempfile.TemporaryDirectory() as name:
        pipeline = wiring.build(config, source, wiring.Outputs.files(config, RunDirectory(Path(name))))
        largest: dict[str, int] = {}
        while pipeline.advance():
            largest = {state: max(size, largest.get(state, 0)) for state, size in sizes(pipeline).items()}
        pipeline.finish()
        pipeline.close()
    return {"roots": pipeline.roots()["final"], "bytes": largest, "peak_mb": round(peak_mb(), 1)}


def child(folder: Path) -> dict[str, Any]:
    """The same in a process of its own, whose peak is its own."""
    command = [sys.executable, "-m", "tests.bench.memory", str(folder)]
    return orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> int:
    if len(sys.argv) > 1:
        print(orjson.dumps(replay(Path(sys.argv[1]))).decode())
        return 0
    bytes_of = pieces()
    found = []
    with tempfile.TemporaryDirectory() as name:
        for times in (1, 10):
            folder = Path(name) / str(times)
            write(str(folder), world(times), lambda roots: None, compress=False)
            found.append(child(folder))
    once, often = found
    broken = [state for state, size in often["bytes"].items() if abs(size / once["bytes"][state] - 1) > STATES]
    if often["peak_mb"] > PEAK * once["peak_mb"] + PEAK_MB:
        broken.append("peak_mb")
    print(orjson.dumps({"bytes_of": bytes_of, "1x": once, "10x": often, "broken": broken}).decode())
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
