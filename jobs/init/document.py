"""Guesses as a commented run file; what is not known is a question at its line, `# ?`."""

import glob
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import yaml

from jobs.init.features import FeatureGuess
from jobs.init.funnel import StageDraft
from jobs.init.guess import Guess
from jobs.init.stages import StageGuess
from jobs.init.words import ITEMS, is_row_weight, tokens, user_rank
from streamctr.schema import duration_text

_COMMENT_COLUMN: Final = 46
_WIDTH: Final = 140
_MERGED: Final = "side by side: the files' times overlap"
_MISSING: Final = {"key": "ROOT_ID", "time": "EVENT_TIME", "click": "CLICKED"}
"""Words in place of what was not found; `check` says that no event has them."""


def run_file(guess: Guess, path: str) -> str:
    """The text of a run file to be called `path`."""
    blocks = (_head(guess, path), _messages(guess), _funnel(guess), _features(guess), _outcomes(guess), _model(guess))
    return "\n".join("\n".join(block) + "\n" for block in (list(block) for block in blocks) if block)


def questions(text: str) -> list[str]:
    """The questions of a run file, with what stands at their lines."""
    lines = text.splitlines()
    found = []
    for place, line in enumerate(lines):
        before, mark, asked = line.partition("# ? ")
        if mark:
            at = before.strip() or next(below.strip() for below in lines[place + 1 :] if not below.startswith("# ?"))
            found.append(f"{at.lstrip('# ').partition(':')[0]}: {asked}")
    return found


def _line(text: str, why: str | None = None, question: str | None = None) -> str:
    """A line with its comment; a comment that is too long stands above it."""
    comment = why or ""
    if question:
        comment = f"? {question} ({why})" if why else f"? {question}"
    line = f"{text:<{_COMMENT_COLUMN}}  # {comment}" if comment else text
    indent = " " * (len(text) - len(text.lstrip()))
    return line if len(line) <= _WIDTH else f"{indent}# {comment}\n{text}"


def _head(guess: Guess, path: str) -> Iterator[str]:
    lines = sum(len(beginning.rows) for beginning in guess.layout.beginnings)
    yield f"# Guessed by `streamctr init` from {lines:,} messages. Read it through; lines with `# ?` ask something."
    yield f"# Next: streamctr check {path}, then streamctr replay {path}"


def _messages(guess: Guess) -> Iterator[str]:
    layout = guess.layout
    yield from _files(guess)
    yield from _csv(guess)
    if layout.stage_field:
        yield _line(f"stage: {word(layout.stage_field)}", "the field that says what a line is")
    if layout.ignore:
        yield _line(f"ignore: {words(layout.ignore)}", None, "other kinds of line, skipped: is one of them a stage?")
    if guess.key:
        one = one_or_more(guess.key.fields)
        yield _line(f"key: {one}", None if guess.key.question else f"names one {layout.root.name}", guess.key.question)
    else:
        yield _line(f"key: {_MISSING['key']}", None, f"which field or fields name one {layout.root.name}?")
    yield _time(guess)
    if guess.users:
        yield _user(guess)
    else:
        yield _line("# user: FIELD", None, "no field seems to name the user; histories need one")
    for name in filter(is_row_weight, layout.root.lines.fields):
        yield _line(f"# weight: {word(name)}", None, "does it say how much a root counts in learning?")
    worst = f"{guess.disorder_ms / 1000:,.0f} s" if guess.disorder_ms else "none"
    yield _line(f"lateness: {duration_text(guess.lateness_ms)}", f"worst disorder in the sample: {worst}")


def _files(guess: Guess) -> Iterator[str]:
    layout = guess.layout
    own = [stage for stage in layout.stages if stage.paths]
    said = not any(s.folder for s in own) and all(
        re.match(rf"{re.escape(s.name)}(?![^\W\d_])", Path(path).name) for s in own for path in s.paths
    )
    if own and not said:
        yield "files:"
        yield "  stages:"
        for stage in own:
            yield f"    {word(stage.name)}: {one_or_more(_patterns(stage.paths, stage.folder))}"
        if guess.side_by_side:
            yield _line("  merge: time", _MERGED)
    elif guess.side_by_side:
        yield _line(f"files: {{paths: {one_or_more(_patterns(layout.paths))}, merge: time}}", _MERGED)
    else:
        yield _line(f"files: {one_or_more(_patterns(layout.paths))}", "the file's name says the stage" if own else None)
    yield from (f"# not used, since its name says no stage: {path}" for path in layout.unused[:10])


def _patterns(paths: Sequence[str], within: str | None = None) -> list[str]:
    """One pattern, where it means just these files; all files below `within`, where that is given."""
    folder, name = Path(os.path.commonpath([Path(path).parent for path in paths])), Path(paths[0]).name
    suffix = re.search(r"(\.[A-Za-z]\w*){0,2}$", name)
    start = re.match(r"[^\W\d_]*", name)
    end = suffix[0] if suffix else ""
    patterns = [str(folder / begin) for begin in (f"*{end}", f"{start[0] if start else ''}*{end}", f"**/*{end}")]
    if within:
        patterns.insert(0, f"{within}/**/*{end}")
    if len(paths) > 1 or within:
        for pattern in patterns:
            if set(glob.glob(pattern, recursive=True)) == set(paths):
                return [pattern]
    return list(paths)


def _csv(guess: Guess) -> Iterator[str]:
    marks = {beginning.delimiter for beginning in guess.layout.beginnings} - {None, ","}
    missing = sorted({text for beginning in guess.layout.beginnings for text in beginning.missing})
    columns = guess.layout.beginnings[0].columns
    parts = [f"delimiter: {word('tab' if mark == chr(9) else mark)}" for mark in sorted(filter(None, marks))[:1]]
    parts += [f"columns: {words(columns)}"] if columns else []
    parts += [f"missing: {words(missing)}"] if missing else []
    if parts:
        asked = "what are the columns? the first line is no header" if columns else None
        yield _line(f"csv: {{{', '.join(parts)}}}", None, asked)


def _time(guess: Guess) -> str:
    root = guess.layout.root
    name = guess.times[root.name]
    moments = root.lines.fields[name].moments if name else None
    if name is None or moments is None:
        asked = "which field is an event's time, in every line? ISO-8601, or s, ms or us since 1970"
        return _line(f"time: {_MISSING['time']}", None, asked)
    if moments.form == "text" and not moments.offset:
        asked = "the times have no offset from UTC: in which zone were they written, such as Europe/Paris?"
        return _line(f"time: {{field: {word(name)}, zone: UTC}}", None, asked)
    unit = f", unit: {moments.form}" if moments.form in ("s", "us") else ""
    form = "ISO-8601 with an offset" if moments.form == "text" else f"a number of {moments.form}"
    return _line(f"time: {{field: {word(name)}{unit}}}", f"{form}; zone: Asia/Shanghai would shift hour and weekday")


def _user(guess: Guess) -> str:
    name, *others = guess.users
    field = guess.layout.root.lines.fields[name]
    more = f"; or {', '.join(others)}" if others else ""
    asked = "is it one person? several fields may stand in a list" if (user_rank(name) or 0) > 0 else None
    return _line(f"user: {word(name)}", f"{len(field.distinct):,} values{more}", asked)


def _funnel(guess: Guess) -> Iterator[str]:
    root = guess.layout.root
    yield _line("funnel:", "each stage follows the one above, or `after:`; windows are counted from there")
    called = f"{{called: {word(root.called)}}}" if root.called else "{}"
    yield _line(f"  {word(root.name)}: {called}", f"the root, which is scored: {root.count:,} in the sample")
    for draft in guess.stages:
        yield _line(f"  {word(draft.guess.name)}: {{{', '.join(_stage(guess, draft))}}}", draft.why, draft.question)
    if not guess.stages:
        text = f"  click: {{when: {_MISSING['click']}, observe: 30m}}"
        yield _line(text, None, "what follows? a flag (when), a time (at), or files of its own")


def _stage(guess: Guess, draft: StageDraft) -> Iterator[str]:
    stage = draft.guess
    if draft.after:
        yield f"after: {word(draft.after)}"
    if stage.called:
        yield f"called: {word(stage.called)}"
    own = guess.key.others.get(stage.name) if guess.key else None
    if own:
        yield f"key: {one_or_more(own)}"
    time = guess.times[stage.name]
    if time and time != guess.times[guess.layout.root.name]:
        yield f"time: {word(time)}"
    yield from _told(stage)
    yield f"observe: {duration_text(draft.observe_ms)}"
    if draft.window_ms > draft.observe_ms:
        yield f"window: {duration_text(draft.window_ms)}"
    if draft.value:
        yield f"value: {word(draft.value)}"


def _told(stage: StageGuess) -> Iterator[str]:
    if stage.when:
        yield f"when: {one_or_more(stage.when)}"
        yield "delay: 0s"
    if stage.at:
        yield f"at: {word(stage.at)}"


def _features(guess: Guess) -> Iterator[str]:
    found = {kind: [f for f in guess.features if f.kind == kind] for kind in ("id", "bag", "number", "vector", "out")}
    yield "features:"
    if found["id"]:
        yield "  id:"
        yield from (_line(f"    - {word(feature.name)}", feature.why) for feature in found["id"])
    for kind in ("bag", "number", "vector"):
        if found[kind]:
            yield f"  {kind}:"
            yield from (_line(f"    {word(f.name)}: {f.setting}", f.why) for f in found[kind])
    if guess.times[guess.layout.root.name]:
        yield "  time: [hour, weekday]"
    yield from _history(guess, found["id"])
    yield from (f"  # left out: {feature.name}: {feature.why}" for feature in found["out"])
    yield from _lookups(guess)


def _lookups(guess: Guess) -> Iterator[str]:
    """Files without times as lookups that a person may switch on."""
    for table in guess.layout.tables[:10]:
        columns = list(table.rows[0])
        key = next((name for name in columns if name in guess.layout.root.lines.fields), None)
        if key is not None:
            take = words([name for name in columns if name != key])
            name = word(Path(table.path).name.split(".")[0])
            yield "  # ? nothing in this file is a time: is it a table? then list its columns under id and number above"
            yield f"  # lookup: {{{name}: {{file: {word(table.path)}, key: {word(key)}, take: {take}}}}}"


def _history(guess: Guess, ids: Sequence[FeatureGuess]) -> Iterator[str]:
    """What the user did before, where there is a user, and an id called like an item."""
    items = [
        feature.name for feature in ids if ITEMS & set(tokens(feature.name)) and feature.name not in guess.users[:1]
    ]
    if guess.users and items and guess.stages:
        of = guess.stages[0].guess.name
        name = word(re.sub(r"\W", "_", f"past_{of}"))
        taken = f"{{of: {word(of)}, take: {words(items[:2])}, last: 50}}"
        yield _line(f"  history: {{{name}: {taken}}}", f"the user's last {of}s")


def _outcomes(guess: Guess) -> Iterator[str]:
    outcomes = [feature for feature in guess.features if feature.kind == "outcome"]
    if outcomes:
        yield _line(
            "outcomes:",
            "fields that seem known only later, refused as features: take out what is known when the root happens",
        )
        yield from (_line(f"  - {word(feature.name)}", feature.why) for feature in outcomes)


def _model(guess: Guess) -> Iterator[str]:
    branched = any(draft.after for draft in guess.stages)
    yield _line(
        f"model: {'lr' if branched else 'esmm'}", "or lr" if not branched else "esmm takes a chain of stages only"
    )
    root = guess.layout.root.name
    rates = {
        draft.guess.name if draft.parent == root else f"{draft.guess.name}|{draft.parent}": min(draft.rate, 0.99)
        for draft in guess.stages
        if draft.rate
    }
    if rates:
        told = ", ".join(f"{word(head)}: {rate:.2g}" for head, rate in rates.items())
        yield _line(f"training: {{base_rate: {{{told}}}}}", "where the heads start: the rates in the sample")


def one_or_more(texts: Sequence[str]) -> str:
    """A single text as it is, several as a list."""
    return word(texts[0]) if len(texts) == 1 else words(texts)


def words(texts: Sequence[str]) -> str:
    """A YAML list in one line.

    >>> words(["a.b", "yes"])
    '[a.b, "yes"]'
    """
    return f"[{', '.join(word(text) for text in texts)}]"


def word(text: str) -> str:
    """A text as YAML reads it, in quotes where it would be something else.

    >>> word("imp.id"), word("0"), word("a: b")
    ('imp.id', '"0"', '"a: b"')
    """
    plain = re.fullmatch(r"[\w./*+-]+", text) and not text.startswith(("*", "-"))
    return text if plain and yaml.safe_load(text) == text else json.dumps(text, ensure_ascii=False)
