"""`streamctr dead-letters`: what could not be read, by reason and with its bytes; and the messages as event files."""

import base64
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
from rich.text import Text

from connectors.appended import read_extent
from jobs.console import Call, Result
from jobs.extents import kept_extent
from jobs.rundir import RunDirectory, config_path, load_run
from jobs.runfile import RunConfig, RunFile
from jobs.summary import figures_table
from streamctr.decode import reason_kind
from streamctr.errors import ConfigError, DataError

Letter = dict[str, Any]

_LISTED: Final = 20
_SHOWN_BYTES: Final = 400
_WHOLE_BYTES: Final = 1 << 16
"""Of a longer message a letter holds only the beginning."""


def list_all(call: Call, run: Path) -> Result:
    """Every reason, the commonest first, as its first message has it; reasons alike but for a value are one."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Letter] = {}
    for letter in _letters(call, run):
        key = letter["stage"], reason_kind(letter["reason"])
        counts[key] += 1
        first.setdefault(key, letter)
    found: list[dict[str, Any]] = [
        {"stage": key[0], "reason": first[key]["reason"], "count": count, "first": _place(first[key])}
        for key, count in counts.most_common()
    ]
    listed = figures_table("dead letters", ["count"])
    for title in ("reason", "first"):
        listed.add_column(title, overflow="fold")
    for of in found[:_LISTED]:
        listed.add_row(of["stage"], f"{of['count']:,}", Text(of["reason"]), Text(of["first"]))
    total = sum(counts.values())
    rest = f"{len(found) - _LISTED:,} more reasons\n" if len(found) > _LISTED else ""
    call.show(
        listed, Text(f"{rest}{total:,} in all" + (f" · next: streamctr dead-letters show {run}" if total else ""))
    )
    return {"total": total, "reasons": found}, 0


def show(call: Call, run: Path, words: str | None, limit: int) -> Result:
    """Messages whose reason contains the words, with their bytes."""
    found = [letter for letter in _letters(call, run) if words is None or words in letter["reason"]]
    for letter in found[:limit]:
        lines = [f"{_place(letter)}  {letter['stage']}: {letter['reason']}", *_beside(letter), _shown(_value(letter))]
        call.show(Text("\n  ".join(lines) + "\n"))
    call.show(Text(f"{min(limit, len(found)):,} of {len(found):,} shown"))
    return {"total": len(found), "letters": found[:limit]}, 0


def redrive(call: Call, run: Path, out: Path) -> Result:
    """Write every message once, as it was, into event files in `out`: for a fresh run, mended here or in the run file.

    Raises:
        ConfigError: `out` holds something already.
    """
    config = load_run(run, call.sets).config
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} holds something already: name a new folder, so that no message is written twice")
    derived = {stage.name for stage in config.tree.stages if stage.config.derived}
    written: Counter[str] = Counter()
    left = Counter(dict.fromkeys(_LEFT, 0))
    done: set[tuple[str, int]] = set()
    headers: dict[str, bytes] = {}
    with ExitStack() as opened:
        files: dict[str, BinaryIO] = {}
        for letter in _letters(call, run):
            message, place = _message(letter), (letter["path"], letter["line"])
            reason = _left_out(letter, letter["stage"] in derived, place in done)
            if reason:
                left[reason] += 1
                continue
            done.add(place)
            name, header = _file_of(letter, headers)
            if name not in files:
                out.mkdir(parents=True, exist_ok=True)
                files[name], headers[name] = opened.enter_context((out / name).open("wb")), header
                files[name].write(header + b"\n" * bool(header))
            files[name].write(message + b"\n")
            written[name] += 1
    call.show(Text("\n".join([*_told(out, written, left), *([_next(config, run, out)] if written else [])])))
    return {"written": dict(written), "left_out": dict(left), "out": str(out)}, 0


def _left_out(letter: Letter, derived: bool, repeated: bool) -> str:
    message = _message(letter)
    if derived:
        return "derived"
    if not message.strip():
        return "empty"
    cut = "cut" in letter if "key" in letter else len(message) >= _WHOLE_BYTES
    return "cut" if cut else "repeated" if repeated else ""


def _next(config: RunConfig, run: Path, out: Path) -> str:
    """What to do then; read behind the others, by name, mended messages would all be late."""
    if config.kafka is None:
        return _NEXT.format(out=out)
    return _NEXT_TOPICS.format(out=out, run=run)


_NEXT: Final = """next: if the run file was wrong, mend it and replay --fresh
      if the messages were, mend them in {out}, add it to files with merge: time, and replay --fresh"""

_NEXT_TOPICS: Final = """next: if the run file was wrong, mend it and consume --fresh
      if the messages were, mend them in {out}; streamctr produce {run} --set files={out} sends them to their topics,
      and those that happened longer ago than the lateness are late"""

_LEFT: Final = {
    "repeated": "stood in an earlier letter too",
    "cut": "only their beginning was kept, they are too long; take them from where they came from",
    "derived": "only a stage that their fields tell of could not be read: the messages themselves were taken",
    "empty": "there is nothing in them (tombstones): an event file holds no such message",
}


def _told(out: Path, written: Counter[str], left: Counter[str]) -> list[str]:
    lines = [f"{count:,} messages written to {out / name}" for name, count in written.items()]
    return (lines or ["no message to write"]) + [
        f"{count:,} left out: {_LEFT[reason]}" for reason, count in left.items() if count
    ]


def _file_of(letter: Letter, headers: dict[str, bytes]) -> tuple[str, bytes]:
    """The event file that a message goes to, and the header line that it needs; its name says the stage."""
    stem = "redriven" if letter["stage"].startswith("(") else f"{letter['stage']}-redriven"
    if letter.get("kind") != "csv":
        return f"{stem}.jsonl", b""
    delimiter = letter["delimiter"]
    header = delimiter.join(_quoted(name, delimiter) for name in letter["header"]).encode()
    suffix = "tsv" if delimiter == "\t" else "csv"
    names = (f"{stem}{'-' * (n > 0)}{n or ''}.{suffix}" for n in range(len(headers) + 1))
    return next(name for name in names if headers.get(name, header) == header), header


def _quoted(name: str, delimiter: str) -> str:
    return '"' + name.replace('"', '""') + '"' if delimiter in name or '"' in name else name


def _place(letter: Letter) -> str:
    return f"{letter['path']}:{letter['line']}"


def _value(letter: Letter) -> bytes | None:
    return None if letter["bytes"] is None else base64.b64decode(letter["bytes"])


def _message(letter: Letter) -> bytes:
    """The message as a line of an event file; in JSON a carriage return means what a line break does."""
    value = _value(letter) or b""
    return value.replace(b"\n", b"\r") if letter["kind"] == "json" else value


def _beside(letter: Letter) -> Iterator[str]:
    """Lines for what a message has besides its value."""
    if letter.get("key") is not None:
        yield f"key: {_shown(base64.b64decode(letter['key']))}"
    for name, text in letter.get("headers", []):
        yield f"header {name}: {_shown(None if text is None else base64.b64decode(text))}"


def _shown(content: bytes | None) -> str:
    return "(none)" if content is None else content[:_SHOWN_BYTES].decode(errors="backslashreplace")


def _letters(call: Call, run: Path) -> Iterator[Letter]:
    """All letters of a run that count, from where it leaves them, in the order in which they were written.

    Raises:
        ConfigError: there is no such run, or it has not been run.
        DataError: a line of a file is no letter, and not the last one, which a run may be writing.
        StreamctrError: they are in a topic, and that cannot be read.
    """
    directory, path = RunDirectory.of(run), config_path(run)
    if not path.exists():
        raise ConfigError(f"there is no run file {run}; name one, or the directory of a run")
    config = RunFile.load(path, call.sets).config
    if config.kafka is not None and config.kafka.dead_letters is not None:
        from connectors.kafka.deadletters import read_dead_letters  # loads the client

        if not directory.path.exists():
            raise ConfigError(f"{directory.path} is not there: has {run} been run? streamctr consume {run}")
        yield from read_dead_letters(config.kafka, config.kafka.dead_letters, directory.run_id)
        return
    if not directory.dead_letters.exists():
        raise ConfigError(f"{directory.dead_letters} is not there: has {run} been run? streamctr replay {run}")
    for file, size_bytes in _files(directory):
        yield from _of_file(file, size_bytes)


def _files(directory: RunDirectory) -> list[tuple[Path, int]]:
    """What counts of the run's folder: what its newest snapshot lists, or all where there is none yet."""
    folder, extent = directory.dead_letters, kept_extent("dead_letters", directory.snapshots, directory.joined)
    if extent is not None:
        return read_extent(folder, "letters", ".jsonl", extent)
    written = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in folder.glob("letters*.jsonl"))
    return [(path, size_bytes) for _, size_bytes, path in written]


def _of_file(path: Path, size_bytes: int) -> Iterator[Letter]:
    with path.open("rb") as file:
        number = 0
        while file.tell() < size_bytes:
            line, number = file.readline(), number + 1
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError:
                if line.endswith(b"\n"):
                    raise DataError(f"{path}:{number} is not a letter; was the file edited?") from None
