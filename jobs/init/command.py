"""Write the run file that a log seems to need, and say what was found."""

import re
from pathlib import Path
from typing import Any

from rich.text import Text

from jobs.console import Call, Result
from jobs.init.document import questions, run_file
from jobs.init.guess import Guess, guess
from streamctr.errors import ConfigError
from streamctr.schema import duration_text


def init(call: Call, events: list[str], out: Path | None) -> Result:
    """Guess from the first messages of EVENTS (files, folders, patterns) and write a run file; never over another.

    Raises:
        ConfigError: the run file exists already, or a setting was given.
        DataError: the events cannot be read.
    """
    if call.sets:
        raise ConfigError(f"init has no settings; leave out --set {call.sets[0]} and edit the run file it writes")
    if "-" in events:
        raise ConfigError("init reads files: write a piece of the stream to one, such as events.jsonl, and name that")
    target = out or Path(_name(events))
    if target.exists():
        raise ConfigError(f"{target} exists already and stays as it is; write elsewhere with --out OTHER.yaml")
    found = guess(events)
    text = run_file(found, str(target))
    with target.open("x", encoding="utf-8") as file:
        file.write(text)
    asked = questions(text)
    call.show(Text("\n".join(_report(found, asked, target)) + "\n"))
    return {"out": str(target), **_plain(found), "questions": asked}, 0


def _name(events: list[str]) -> str:
    """The run file is named after the only file, or the folder that holds the files."""
    path = Path(events[0]).resolve()
    named = path if len(events) == 1 and not re.search(r"[*?\[]", path.name) else path.parent
    while re.search(r"[*?\[]", named.name):
        named = named.parent
    return f"{named.name.split('.')[0] or 'run'}.yaml"


def _report(found: Guess, asked: list[str], target: Path) -> list[str]:
    layout, key = found.layout, found.key
    told = (
        f"by the field {layout.stage_field}" if layout.stage_field else "by files" if layout.root.paths else "by fields"
    )
    stages = " · ".join(f"{stage.name} {stage.count:,}" for stage in layout.stages)
    taken = [f"{sum(f.kind == kind for f in found.features)} {kind}" for kind in ("id", "bag", "number", "vector")]
    outcomes = [feature.name for feature in found.features if feature.kind == "outcome"]
    lines = [
        f"wrote {target}",
        f"  stages     {stages}, told apart {told}",
        f"  key        {', '.join(key.fields) if key else 'not found'}",
        f"  time       {found.times[layout.root.name] or 'not found'}, lateness {duration_text(found.lateness_ms)}",
        f"  user       {found.users[0] if found.users else 'none'}",
        f"  features   {' · '.join(taken)}",
        f"  outcomes   {', '.join(outcomes) or 'none'}",
    ]
    lines += [f"  question   {question}" for question in asked]
    return [*lines, f"next: streamctr check {target}"]


def _plain(found: Guess) -> dict[str, Any]:
    layout, key = found.layout, found.key
    root = {"name": layout.root.name, "count": layout.root.count}
    behind = [
        {
            "name": draft.guess.name,
            "count": draft.guess.count,
            "after": draft.after,
            "when": list(draft.guess.when),
            "at": draft.guess.at,
            "key": list(key.others.get(draft.guess.name, key.fields)) if key else [],
            "observe": duration_text(draft.observe_ms),
            "window": duration_text(draft.window_ms),
        }
        for draft in found.stages
    ]
    return {
        "stage_field": layout.stage_field,
        "ignore": list(layout.ignore),
        "stages": [root, *behind],
        "key": list(key.fields) if key else [],
        "time": found.times[layout.root.name],
        "user": found.users[0] if found.users else None,
        "lateness": duration_text(found.lateness_ms),
        "features": {
            kind: [feature.name for feature in found.features if feature.kind == kind]
            for kind in ("id", "bag", "number", "vector", "outcome", "out")
        },
    }
