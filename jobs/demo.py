"""`streamctr demo`: learn a world whose own probabilities are known, twice, and compare.

The same events are replayed learning to the end, and frozen after the first day: the first shows what learning while
the events arrive is worth against a model that is trained once, the world's own probabilities what there is to be had.
"""

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from jobs.console import Call, Result, say
from jobs.mistakes import configured
from jobs.progress import Progress
from jobs.replay import Request, replay
from jobs.rundir import load_run
from jobs.synthetic_data import apart, write
from streamctr.metrics.running import HeadFigures
from streamctr.schema import Funnel, instant_text
from streamctr.synthetic import DAY_MS, Roots, World, WorldConfig

RUN_FILE: Final = Path(__file__).parent / "examples" / "synthetic.yaml"
PLACE: Final = Path("runs") / "demo"
HEADS: Final = ("click", "conversion|click", "click&conversion")
_WORLD: Final = ("roots=200000", "users=5000", "items=2000", "click_rate=0.1", "conversion_rate=0.15")
_RUN: Final = ("tables.rows=2^16", "training.threads=1")
"""One thread: batches this small gain little by a second one, and lose tenfold where another program wants it too."""


def run(call: Call) -> Result:
    """Make the world, replay it twice in folders below `runs/demo`, print both and the ceiling.

    A setting `world.KEY=VALUE` is the world's, every other one the run file's.

    Raises:
        StreamctrError: a setting cannot be used, or a replay fails.
    """
    began = time.monotonic()
    own, others = apart(call.sets)
    world = configured(WorldConfig, (*_WORLD, *own))
    day_two = instant_text(world.start + DAY_MS)
    sets = (f"files={PLACE}/data/*.jsonl.zst", f"metrics.from={day_two}", *_RUN, *others)
    funnel = load_run(RUN_FILE, list(sets)).config.tree
    with Progress("making the world", world.roots) as progress:
        write(str(PLACE / "data"), world, progress.advance)
    found: dict[str, Any] = {"world": world.model_dump(mode="json")}
    for name, frozen in (("learning", None), ("frozen", day_two)):
        say(f"replaying it, {'learning to the end' if frozen is None else 'frozen after day one'}")
        part = Call(sets, as_json=call.as_json or frozen is not None)
        found[name], exit_code = replay(part, Request(RUN_FILE, frozen=frozen, directory=PLACE / name, fresh=True))
        if exit_code:
            return found, exit_code
    found["auc"] = compared(found["learning"], found["frozen"], ceiling(world, funnel))
    found["seconds"] = round(time.monotonic() - began, 3)
    call.show(_table(found["auc"]), Text(_LAST.format(seconds=found["seconds"])))
    return found, 0


_LAST: Final = """
All roots behind day one, each scored when it arrived. {seconds:.0f} s in all.
For a log of your own:
next: streamctr init YOUR_EVENTS.jsonl"""


def compared(
    learning: dict[str, Any], frozen: dict[str, Any], best: dict[str, HeadFigures]
) -> dict[str, dict[str, Any]]:
    """By head: rows judged behind day one, and the three AUCs."""
    found = {}
    for head in HEADS:
        figures, still, top = learning["judged_from"][head], frozen["judged_from"][head], best[head].get()
        found[head] = {
            "rows": figures["rows"],
            "learning": figures["auc"],
            "frozen": still["auc"],
            "ceiling": top["auc"],
        }
    return found


def ceiling(config: WorldConfig, funnel: Funnel) -> dict[str, HeadFigures]:
    """Figures of the world's own probabilities over the roots behind day one whose labels are final at its end."""
    click_ms, conversion_ms = (stage.window_ms for stage in funnel.stages[1:])
    end_ms = max(_newest(roots) for roots in World(config).chunks())
    found = {head: HeadFigures() for head in HEADS}
    for roots in World(config).chunks():
        clicked = roots.click & (roots.click_delay_ms < click_ms)
        converted = clicked & roots.conversion & (roots.conversion_delay_ms < conversion_ms)
        judged = (roots.time_ms >= config.start + DAY_MS) & (roots.time_ms + click_ms <= end_ms)
        settled = clicked & (roots.time_ms >= config.start + DAY_MS) & (roots.click_ms + conversion_ms <= end_ms)
        entire = settled | (judged & ~clicked)
        _add(found["click"], clicked, roots.p_click, judged)
        _add(found["conversion|click"], converted, roots.p_conversion, settled)
        _add(found["click&conversion"], converted, roots.p_click * roots.p_conversion, entire)
    return found


def _newest(roots: Roots) -> int:
    """Time of the newest event of a chunk."""
    times_ms = (roots.time_ms, roots.click_ms[roots.click], roots.conversion_ms[roots.conversion])
    return max(int(time_ms.max(initial=0)) for time_ms in times_ms)


def _add(head: HeadFigures, label: NDArray[np.bool_], p: NDArray[np.float64], judged: NDArray[np.bool_]) -> None:
    head.update_many(label[judged], np.log(p[judged] / (1 - p[judged])))


def _table(auc: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2), title="\nis it worth learning all the time?", title_justify="left")
    table.add_column("AUC behind day one", no_wrap=True)
    for column in ("rows", "learning", "frozen after day one", "the world's own"):
        table.add_column(column, justify="right", no_wrap=True)
    for head, found in auc.items():
        values = (found[key] for key in ("learning", "frozen", "ceiling"))
        table.add_row(
            head.replace("&", " & "), f"{found['rows']:,}", *("-" if v is None else f"{v:.4f}" for v in values)
        )
    return table
