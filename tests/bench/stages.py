"""One world's events through pipelines that are looked at from outside: stage by stage, front half, end to end.

`python -m tests.bench.stages FOLDER SETTING...` replays a folder's events end to end in a process of its own and prints
the peak of its resident memory: what no stopwatch within a bench that holds several pipelines can tell.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson
import torch

from connectors.files import FileSource, find_files
from jobs import wiring
from jobs.demo import RUN_FILE
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from streamctr import cores
from streamctr.pipeline import Pipeline
from streamctr.samples import SampleBatch
from streamctr.snapshot import SnapshotStore
from tests.bench.timing import BENCH, Spent, Stopwatch, Timed

HOST: Final = ("decode", "order", "join", "histories", "encode")
STAGES: Final = ("read", *HOST, "queues", "score", "learn", "judge")
REST: Final = "rest"
Call = tuple[str, SampleBatch]


def settled(folder: Path, settings: list[str]) -> RunConfig:
    """The run over a folder of the synthetic world's events."""
    return load_run(RUN_FILE, [f"files={folder}/*.jsonl", *settings]).config


def built(config: RunConfig, run: Path, source: Any = None, **how: Any) -> Pipeline:
    """A pipeline over the run's files, or over another source of its events."""
    if source is None:
        source = FileSource(find_files(config.event_files, config.tree, mixed=False), config.event_files, config.csv)
    return wiring.build(config, source, wiring.Outputs.files(config, RunDirectory(run)), **how)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextmanager
def loops_of_one_core() -> Iterator[None]:
    """Loops over parts have one core within: a second one's waiting would count as work."""
    before = cores._cores.most
    cores.use_cores(1)
    yield
    cores.use_cores(before)


@dataclass(slots=True)
class Window:
    """What a stretch of the stream took."""

    events: int
    roots: int
    wall_s: float
    cpu_s: float


class Stretches:
    """A pipeline that is taken on a stretch at a time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def roots(self) -> int:
        """Roots so far, final or open."""
        roots = self.pipeline.roots()
        return roots["final"] + roots["open"]

    def on(self, roots: int) -> Window:
        """Take about so many roots more through all of it; `roots` is less at the end of the input."""
        events, before = self.pipeline.events_read, self.roots()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        while self.roots() < before + roots and self.pipeline.advance():
            pass
        if self.pipeline.parts.back is not None:
            _ = self.pipeline.parts.back.trainer  # at rest: all that was read is learned
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return Window(self.pipeline.events_read - events, self.roots() - before, wall_s, cpu_s)


class StageByStage(Stretches):
    """A pipeline in one thread with its parts wrapped: the seconds of each stage, and the batches that it learned.

    Stages are timed by the CPU time of the whole process; where the run learns with one thread, each has a core to
    itself and nobody waits.
    """

    def __init__(self, pipeline: Pipeline, *, keep: bool = False) -> None:
        super().__init__(pipeline)
        self.watch = Stopwatch()
        self.calls: list[tuple[str, Any]] | None = [] if keep else None
        parts, watch = pipeline.parts, self.watch
        encoder: Any = parts.encoder
        encoder._buffers = {n: Timed(b, {"run": "histories"}, watch) for n, b in encoder._buffers.items()}
        back: Any = parts.back
        if back is not None:
            trainer = back.trainer
            trainer.learner = Timed(trainer.learner, {"score": "score", "learn": "learn"}, watch, self.calls)
            trainer._judge = Timed(trainer._judge, "judge", watch)
            trainer.schedule = Timed(trainer.schedule, {"feed": "queues"}, watch)
        pipeline.parts = replace(
            parts,
            source=Timed(parts.source, "read", watch),
            decoder=Timed(parts.decoder, {"decode": "decode"}, watch),
            orderer=Timed(parts.orderer, {"push": "order", "release": "order"}, watch),
            joiner=Timed(parts.joiner, {"push": "join"}, watch),
            encoder=Timed(encoder, {"encode": "encode"}, watch),
        )

    def on(self, roots: int) -> Window:
        self.watch.clear()
        if self.calls is not None:
            self.calls.clear()
        with loops_of_one_core():
            return super().on(roots)

    def taken(self, name: str) -> list[SampleBatch]:
        """The batches of the stretch that were scored or learned."""
        return [rows for called, (rows, *_) in self.calls or () if called == name]

    def scored_and_learned(self) -> list[Call]:
        """All calls of both, in order."""
        return [(name, rows) for name, (rows, *_) in self.calls or () if name in ("score", "learn")]


class StageTable:
    """Microseconds of CPU and bytes an event, by stage: medians of windows."""

    def __init__(self) -> None:
        self._windows: list[tuple[Window, dict[str, Spent]]] = []

    def add(self, window: Window, spent: dict[str, Spent]) -> None:
        """One more window."""
        own = {stage: of for stage, of in spent.items() if stage != BENCH}
        self._windows.append((replace(window, cpu_s=window.cpu_s - spent[BENCH].cpu_s), own))

    def cpu_us(self) -> dict[str, float]:
        """CPU an event, of each stage and of the `rest`."""
        stages = {
            stage: self._median(lambda window, spent, of=stage: 1e6 * spent[of].cpu_s / window.events)
            for stage in self._stages()
        }

        def rest(window: Window, spent: dict[str, Spent]) -> float:
            return 1e6 * (window.cpu_s - sum(one.cpu_s for one in spent.values())) / window.events

        return stages | {REST: self._median(rest)}

    def wall_us(self) -> dict[str, float]:
        """Wall time an event, of each stage."""
        return {
            stage: self._median(lambda window, spent, of=stage: 1e6 * spent[of].wall_s / window.events)
            for stage in self._stages()
        }

    def out_bytes(self) -> dict[str, float]:
        """Bytes handed on an event, of each stage."""
        return {
            stage: self._median(lambda window, spent, of=stage: spent[of].out_bytes / window.events)
            for stage in self._stages()
        }

    def total_us(self) -> float:
        """CPU of all an event."""
        return self._median(lambda window, spent: 1e6 * window.cpu_s / window.events)

    def lines(self) -> list[str]:
        """The table, to print."""
        cpu, wall, out, total = self.cpu_us(), self.wall_us(), self.out_bytes(), self.total_us()
        head = f"{'stage':<10}{'events/s':>13}{'CPU s a million':>17}{'wall s':>9}{'share':>8}{'bytes out':>11}"
        made = [head]
        for stage, us in cpu.items():
            rest = stage == REST
            made.append(
                f"{stage:<10}{1e6 / us if us > 0 else 0:13,.0f}{us:17.2f}"
                f"{'' if rest else f'{wall[stage]:.2f}':>9}{us / total:8.1%}{'' if rest else f'{out[stage]:,.0f}':>11}"
            )
        return [*made, f"{'all':<10}{1e6 / total:13,.0f}{total:17.2f}"]

    def _stages(self) -> list[str]:
        return [stage for stage in STAGES if any(stage in spent for _, spent in self._windows)]

    def _median(self, figure: Callable[..., float]) -> float:
        return statistics.median(figure(window, spent) for window, spent in self._windows)


def snapshot(pipeline: Pipeline, folder: Path) -> dict[str, float]:
    """What one snapshot of the pipeline as it stands costs."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    arrays = pipeline.state()
    SnapshotStore(folder, keep=1).save(pipeline.events_read, arrays, {}, ())
    spent = time.perf_counter() - wall_s, time.process_time() - cpu_s
    size_mb = sum(array.nbytes for array in arrays.values()) / 1e6
    return {"snapshot_mb": size_mb, "snapshot_wall_s": spent[0], "snapshot_cpu_s": spent[1]}


def peak(folder: Path, settings: list[str]) -> dict[str, float]:
    """The peak of resident memory of a replay end to end, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.stages", str(folder), *settings]
    found: dict[str, float] = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def peak_mb() -> float:
    """The most that was resident in this process; `getrusage` would say its parent's where that was more."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    folder, *settings = sys.argv[1:]
    bare_mb = peak_mb()
    with tempfile.TemporaryDirectory() as run:
        pipeline = built(settled(Path(folder), settings), Path(run))
        while pipeline.advance():
            pass
        pipeline.finish()
        pipeline.close()
    print(orjson.dumps({"peak_mb": peak_mb(), "imports_mb": bare_mb}).decode())


if __name__ == "__main__":
    main()
