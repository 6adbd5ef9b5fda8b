"""The end of a run, for people: what became of every event, and how good the predictions were."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from streamctr.decode import OTHER


def summary(result: Mapping[str, Any]) -> list[RenderableType]:
    """Tables of what `replay --json` prints."""
    lag = [lag_line(result["lag"])] if "lag" in result else []
    return [events_table(result["events"]), *_hints(result["events"]), *lag, *learned_summary(result)]


def lag_line(lag: Mapping[str, Any]) -> Text:
    """How far topics were read."""
    idle = f", {lag['idle']} of them idle" if lag["idle"] else ""
    return Text(
        f" topics    {lag['records']:,} messages left in {len(lag['partitions'])} partitions{idle} · "
        f"watermark {lag['watermark'] or 'not yet'}"
    )


_MANY: Final = 0.05
"""What is worth a word: more than this of a stage's events."""
_REMEDIES: Final = {
    "late": "older than those before by more than lateness; raise it, or set files.merge to time if files overlap",
    "orphan": "they name no root that is known by then; is its key the root's id, is orphan_wait long enough?",
    "expired": "they came behind their window; set a longer one",
    "rejected": "they cannot be read; see streamctr dead-letters list",
}


def _hints(events: Mapping[str, Mapping[str, int]]) -> list[RenderableType]:
    """What to do where much of a stage was not joined."""
    return [
        Text(f" note      {counts[outcome]:,} of {counts['read']:,} {stage} events are {outcome}: {remedy}")
        for stage, counts in events.items()
        for outcome, remedy in _REMEDIES.items()
        if counts[outcome] > _MANY * counts["read"]
    ]


def learned_summary(result: Mapping[str, Any]) -> list[RenderableType]:
    """The same without the events."""
    roots = result["roots"]
    parts: list[RenderableType] = [
        Text(f" roots     {roots['final']:,} final, {roots['open']:,} still open\n"),
        judged_table("judged", result["judged"]),
    ]
    if result["judged_from"] is not None:
        parts += ["", judged_table("judged from", result["judged_from"])]
    if "held_out" in result:
        nll = " ".join(_number(nll) for nll in result["held_out"]["nll"])
        parts.append(Text(f"\n epochs    NLL of the roots held out {nll}, epoch {result['held_out']['best']} is kept"))
    name, sha256, run = result["snapshot"], result["weights_sha256"], result["run"]
    return [
        *parts,
        Text(
            f"\nsnapshot {name} verified · weights sha256 {sha256[:4]}...{sha256[-2:]} · "
            f"next: streamctr snapshots show {run}"
        ),
    ]


def events_table(events: Mapping[str, Mapping[str, int]]) -> Table:
    """A row a stage and their sum; `read` is all the others together, which the run has asserted."""
    columns = ["read", "joined", "duplicate", "expired", "late", "orphan", "rejected", "skipped", "waiting"]
    drawn = figures_table("events", columns)
    for stage, counts in events.items():
        if stage == OTHER and not counts["read"]:
            continue
        drawn.add_row(stage, *(f"{counts[column]:,}" for column in columns))
    totals = (sum(counts[column] for counts in events.values()) for column in columns)
    drawn.add_row("total", *(f"{total:,}" for total in totals), "= read")
    return drawn


def judged_table(title: str, judged: Mapping[str, Mapping[str, float | int | None]]) -> Table:
    """A row a head."""
    columns = {"base": "base_rate", "AUC": "auc", "PR-AUC": "pr_auc", "NE": "ne", "PCOC": "pcoc"}
    drawn = figures_table(title, ["rows", *columns])
    for head, figures in judged.items():
        numbers = (_number(figures[key]) for key in columns.values())
        drawn.add_row(head.replace("&", " & "), f"{figures['rows']:,}", *numbers)
    return drawn


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def figures_table(title: str, columns: list[str]) -> Table:
    """An empty table: names on the left, numbers on the right."""
    drawn = Table(box=None, padding=(0, 1))
    drawn.add_column(title, no_wrap=True)
    for column in columns:
        drawn.add_column(column, justify="right", no_wrap=True)
    return drawn
