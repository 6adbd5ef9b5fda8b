"""Whether the cost of an event grows: `python -m tests.bench.growth` (`make bench-growth`), `--quick` for a small one.

An endless stream (see `stream`) goes through pipelines of which one thing differs, by powers of ten:

- events: one pipeline reads on and on; at each size it takes turns with one that is young.
- ids: distinct ids over all fields, uniform, which is the worst case for caches; an ESMM over 2^24 table rows learns
  all of them first.
- open impressions: the funnel's windows are as long as it takes.
- users: those who have a history, front half alone.

The pipelines of one curve are filled first, then take turns, window by window; medians of CPU microseconds an event are
printed, one JSON line, and drawn into `tests/bench/growth.svg`. Everything runs in one thread: a stage's figure is what
it costs with a core to itself. Making the stream is left out. `lr` learns in batches of 4096 where the tables are not
what is looked at. Caches allow a factor of 2, the algorithms none.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from jobs import wiring
from tests.bench.plot import Panel, drawing
from tests.bench.stages import HOST, StageByStage, StageTable, built
from tests.bench.stream import Stream, StreamConfig

PICTURE: Final = Path(__file__).with_name("growth.svg")
ALLOWED: Final = 2.0
WINDOWS: Final = 6
ROOTS: Final = 20_000
"""Roots of a window."""
LINES: Final = ("all", "front half", "back half")
BACK: Final = ("queues", "score", "learn", "judge")
LR: Final[dict[str, Any]] = {"model": {"name": "lr"}, "training": {"batch": 4096, "threads": 1}}
ESMM: Final[dict[str, Any]] = {
    "model": {"name": "esmm", "towers": [256, 128]},
    "training": {"batch": 1024, "threads": 1},
    "tables": {"rows": 2**20},
}


@dataclass(slots=True)
class Point:
    """One size of one curve: a pipeline, and what it costs."""

    size: int
    steps: StageByStage
    table: StageTable = field(default_factory=StageTable)

    def window(self) -> None:
        """One more window."""
        window = self.steps.on(ROOTS)
        self.table.add(window, self.steps.watch.spent)

    def cost(self) -> dict[str, float]:
        """CPU microseconds an event: each stage, and the lines of the picture."""
        stages = {stage: us for stage, us in self.table.cpu_us().items() if stage != "read"}
        sums = (sum(stages.values()), *(sum(stages.get(name, 0) for name in half) for half in (HOST, BACK)))
        return stages | dict(zip(LINES, sums, strict=True))


@dataclass(slots=True)
class Curve:
    """What one thing that grows does to the cost."""

    name: str
    x_label: str
    sizes: list[int] = field(default_factory=list)
    costs: list[dict[str, float]] = field(default_factory=list)
    ratio: float = 1.0
    """Of the dearest size to the cheapest that ran beside it."""

    def take(self, points: Sequence[Point]) -> None:
        """Their sizes and costs."""
        self.sizes += [point.size for point in points]
        self.costs += [point.cost() for point in points]

    def panel(self) -> Panel:
        """To draw."""
        lines = LINES if any(cost["back half"] for cost in self.costs) else LINES[1:2]
        return Panel(self.name, self.x_label, self.sizes, {n: [cost[n] for cost in self.costs] for n in lines})

    def lines(self) -> list[str]:
        """The table: a row a size."""
        stages = [name for name in self.costs[0] if name not in LINES]
        made = [f"{self.x_label:>22}{''.join(f'{name:>11}' for name in (*LINES, *stages))}"]
        for size, cost in zip(self.sizes, self.costs, strict=True):
            made.append(f"{size:22,}{''.join(f'{cost[name]:11.2f}' for name in (*LINES, *stages))}")
        return [*made, f"largest to smallest: {self.ratio:.2f}, {'met' if self.ratio <= ALLOWED else 'MISSED'}"]


class Growth:
    """All curves; `scale` divides the largest sizes."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder, self._made = folder, 0
        self._skipped = 2 if quick else 0
        """Decades that are left out."""

    def curves(self) -> list[Curve]:
        """One after the other; each is printed when it is there."""
        made = []
        for curve in (self.open, self.users, self.ids, self.events):
            made.append(curve())
            print("\n".join(["", f"{made[-1].name}, CPU us an event", *made[-1].lines()]), flush=True)
        return made

    def events(self) -> Curve:
        """One pipeline from 1e5 to 1e7 events, beside young ones."""
        curve, ratios = Curve("the stream goes on", "events so far"), []
        old = self._pipeline(StreamConfig(), LR)
        done = 0
        for size in sorted({*self._sizes(10**5, 10**7), *self._sizes(3 * 10**5, 10**7)}):
            done += old.on(size - done).events
            points = [Point(size, old), Point(10**5, self._pipeline(StreamConfig(), LR))]
            points[1].steps.on(10**5)
            done += self._turns(points)
            curve.take(points[:1])
            ratios.append(points[0].cost()["all"] / points[1].cost()["all"])
            points[1].steps.pipeline.close()
        curve.ratio = max(ratios)
        return curve

    def ids(self) -> Curve:
        """Distinct ids, all learned."""
        configs = {size: StreamConfig(values=size) for size in self._sizes(10**4, 10**7)}
        return self._beside(Curve("distinct ids", "ids"), configs, ESMM, fill=2 / 15)

    def open(self) -> Curve:
        """Roots whose labels are not final."""
        sizes, rate = self._sizes(10**3, 10**6), StreamConfig().roots_per_s
        configs = {size: StreamConfig(window_ms=size * 1000 // rate) for size in sizes}
        return self._beside(Curve("open impressions", "open impressions"), configs, LR, fill=1.2)

    def users(self) -> Curve:
        """Users with a history; the front half alone."""
        configs = {size: StreamConfig(users=size, click_rate=0.5) for size in self._sizes(10**3, 10**6)}
        front = {"users": 10**6, "model": {"name": "lr"}}
        return self._beside(Curve("users", "users with a history"), configs, front, fill=3, joins_only=True)

    def _sizes(self, least: int, most: int) -> list[int]:
        """From the least on, each ten times the one before."""
        most //= 10**self._skipped
        return [least * 10**decade for decade in range(8) if least * 10**decade <= most]

    def _beside(
        self,
        curve: Curve,
        configs: dict[int, StreamConfig],
        run: dict[str, Any],
        fill: float,
        *,
        joins_only: bool = False,
    ) -> Curve:
        """Pipelines over these streams, filled with so many roots a unit of size, then turn by turn."""
        limits = wiring.Limits(joins_only=joins_only)
        points = []
        for size, config in configs.items():
            points.append(Point(size, self._pipeline(config, run, limits)))
            points[-1].steps.on(max(2 * ROOTS, int(fill * size)))
        self._turns(points)
        curve.take(points)
        whole = [cost["all"] for cost in curve.costs]
        curve.ratio = max(whole) / min(whole)
        for point in points:
            point.steps.pipeline.close()
        return curve

    def _turns(self, points: list[Point]) -> int:
        """Windows of all points in turn; how many events the first one took."""
        before = points[0].steps.pipeline.events_read
        for number in range(WINDOWS):
            for point in points[:: 1 - 2 * (number % 2)]:
                point.window()
        return points[0].steps.pipeline.events_read - before

    def _pipeline(self, config: StreamConfig, run: dict[str, Any], limits: wiring.Limits | None = None) -> StageByStage:
        self._made += 1
        told = config.run(run, last=0 if run is ESMM else 10)
        return StageByStage(
            built(told, self._folder / str(self._made), Stream(config), limits=limits or wiring.Limits(), beside=False)
        )


def main() -> None:
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        curves = Growth(Path(name), quick=quick).curves()
    if not quick:
        PICTURE.write_text(drawing([curve.panel() for curve in curves], "CPU µs an event", LINES), encoding="utf-8")
    found = {
        curve.name: {
            "sizes": curve.sizes,
            "cpu_us": [{name: round(us, 3) for name, us in cost.items()} for cost in curve.costs],
            "ratio": round(curve.ratio, 3),
        }
        for curve in curves
    }
    met = {curve.name: curve.ratio <= ALLOWED for curve in curves}
    print(orjson.dumps({**found, "allowed": ALLOWED, "met": met, "windows": WINDOWS}).decode())


if __name__ == "__main__":
    main()
