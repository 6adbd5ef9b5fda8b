"""`streamctr check`: all that is wrong with a run file, and what the beginning of its events looks like."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.text import Text

from connectors.files import find_files
from jobs.console import Call, Result, mistakes_json, say
from jobs.runchecks import stages
from jobs.rundir import config_path
from jobs.runfile import RunConfig, examine, read_document
from jobs.sample import Decoded, Sample, absent_fields, all_rejected, decode_sample, named_roots, read_samples
from jobs.wiring import decoder
from jobs.yamlmarks import Document, Mistake, MistakesError
from streamctr.errors import DataError
from streamctr.names import Names
from streamctr.schema import duration_text

SAMPLE_LINES: Final = 1_000


def check(call: Call, run: Path) -> Result:
    """Read the run file RUN and the first lines of each stage; exit code 78 where something is wrong."""
    document = read_document(config_path(run), call.sets)
    config, mistakes = examine(document)
    samples, unreadable = _samples(document)
    mistakes = [*mistakes, *unreadable, *absent_fields(document, samples)]
    decoded: dict[str, Decoded] = {}
    if config is not None:
        by_run = decoder(config, Names(()))
        decoded = {sample.stage: decode_sample(by_run, sample) for sample in samples}
        mistakes += all_rejected(document, decoded, mistakes)
        lines = [*_report(config, decoded), *_outcomes(config, samples)]
        call.show(Text("\n".join(lines) + "\n"))
    if mistakes:
        say(str(MistakesError(mistakes)))
    else:
        call.show(Text("No mistake was found."))
    result = {"mistakes": mistakes_json(sorted(set(mistakes))), "stages": _plain(decoded)}
    return result, MistakesError.exit_code if mistakes else 0


def _samples(document: Document) -> tuple[list[Sample], list[Mistake]]:
    """The beginnings of all stages, where the run file says which and where."""
    files = document.get(("files",))
    patterns = [files] if isinstance(files, str) else files
    if not isinstance(patterns, list) or not stages(document):
        return [], []
    try:
        paths = find_files([pattern for pattern in patterns if isinstance(pattern, str)], stages(document))
        return read_samples(paths, SAMPLE_LINES), []
    except DataError as error:
        return [], [document.mistake(("files",), str(error).removeprefix("files: "))]


def _report(config: RunConfig, decoded: dict[str, Decoded]) -> list[str]:
    if not decoded:
        return []
    counts = " · ".join(f"{stage} {found.accepted:,}" for stage, found in decoded.items())
    rejected = sum(found.rejected for found in decoded.values())
    lines = [f"Checked on the first {SAMPLE_LINES:,} lines of each stage"]
    lines.append(f"  stages     {counts} · rejected {rejected:,}")
    for stage, found in decoded.items():
        lines += [
            f"  rejected   {count:,} {stage} events: {reason}" for reason, count in list(found.reasons.items())[:1]
        ]
    return [*lines, _disorder(config, decoded), *_keys(decoded), *_notes(config, decoded)]


def _disorder(config: RunConfig, decoded: dict[str, Decoded]) -> str:
    worst_ms = max(found.disorder_ms for found in decoded.values())
    late = sum(int((found.behind_ms > config.lateness).sum()) for found in decoded.values())
    verdict = f"inside lateness {duration_text(config.lateness)}"
    if late:
        verdict = f"beyond lateness {duration_text(config.lateness)}: {late:,} event{'s'[: late > 1]} would be late"
    return f"  time       {config.time.field}: worst disorder {duration_text(worst_ms)}, {verdict}"


def _keys(decoded: dict[str, Decoded]) -> list[str]:
    """How many child events name a root, as far as the sample can tell."""
    (root, roots), *children = decoded.items()
    named = [(stage, *named_roots(child.events, roots.events)) for stage, child in children]
    told = ", ".join(f"{found:,} of {of:,} {stage}" for stage, found, of in named)
    lines = [f"  key        {told} events up to the last {root} of the sample name one in it"]
    strange = [stage for stage, found, of in named if of and not found]
    lines += [f"  note       no {stage} event names a known {root}: is the key the root's id?" for stage in strange]
    return lines


def _notes(config: RunConfig, decoded: dict[str, Decoded]) -> list[str]:
    empty = [
        f"  note       no {stage} event was found" for stage, of in decoded.items() if not of.accepted + of.rejected
    ]
    time_ms = next(iter(decoded.values())).events.time_ms
    span_ms = int(np.ptp(time_ms)) if len(time_ms) else 0
    return empty + [
        f"  note       {stage.name} window {duration_text(stage.window_ms)}, the sample spans {span_ms // 1000:,} s: "
        f"how much can be judged for {stage.name} shows only at the end"
        for stage in config.tree.stages[1:]
        if stage.window_ms > span_ms
    ]


def _outcomes(config: RunConfig, samples: list[Sample]) -> list[str]:
    """Fields that protect nothing: perhaps a slip of the pen."""
    anywhere = {field for sample in samples for field in sample.fields}
    absent = [name for name in config.outcomes if name not in anywhere]
    return [f"  note       outcomes: {', '.join(absent)} stands in no event"] if absent and samples else []


def _plain(decoded: dict[str, Decoded]) -> dict[str, Any]:
    roots = next(iter(decoded.values())).events if decoded else None
    plain: dict[str, Any] = {}
    for stage, found in decoded.items():
        named, of = named_roots(found.events, roots) if roots is not None else (0, 0)
        plain[stage] = {
            "accepted": found.accepted,
            "rejected": found.rejected,
            "reasons": found.reasons,
            "disorder_ms": found.disorder_ms,
            "named_roots": named,
            "named_roots_of": of,
        }
    return plain
