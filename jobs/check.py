"""`streamctr check`: all that is wrong with a run file, and what the beginning of its events looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.text import Text

from connectors.files import FilePartition, find_files
from jobs.console import Call, Result, mistakes_json, say
from jobs.encoded import Roots, encode, fullness, fullness_text, shown, table_of, texts_of
from jobs.findings import Findings
from jobs.mistakes import mended
from jobs.namedfields import absent_fields, unreadable
from jobs.rundir import config_path
from jobs.runfile import RunConfig, examine, read_document
from jobs.sample import Beginning, Decoded, Seen, decode, overlapping, read_beginnings, seen_fields
from jobs.yamlmarks import Document, Mistake, MistakesError
from streamctr.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class _Look:
    """What the beginning of the events showed."""

    partitions: list[FilePartition]
    beginnings: list[Beginning]
    seen: list[Seen]
    decoded: Decoded
    roots: Roots | None


def check(call: Call, run: Path) -> Result:
    """Read the run file RUN and the first lines of each stage; exit code 78 where something is wrong."""
    document = read_document(config_path(run), call.sets)
    config, mistakes = examine(document)
    usable = _usable(document, config, mistakes)
    result: dict[str, Any] = {"stages": {}, "notes": []}
    if usable is not None and usable.files is None:
        call.show(Text("It names no event files: what its topics hold shows when they are consumed.\n"))
    elif usable is not None:
        try:
            result |= _look_at(call, document, usable, mistakes)
        except DataError as error:
            if not any(
                mistake.path[:1] == ("funnel",) for mistake in mistakes
            ):  # which may say why there is no such file
                mistakes.append(document.mistake(("files",), str(error)))
    if mistakes:
        say(str(MistakesError(mistakes)))
    else:
        call.show(Text("No mistake was found."))
    return {"mistakes": mistakes_json(sorted(set(mistakes))), **result}, MistakesError.exit_code if mistakes else 0


def _usable(document: Document, config: RunConfig | None, mistakes: Sequence[Mistake]) -> RunConfig | None:
    """The config to look at events with: where it has mistakes, what they suggest stands in their place."""
    try:
        if mistakes:
            config = RunConfig.model_validate(mended(document, mistakes))
        return config if config is not None and config.tree.stages else None
    except (ValidationError, ValueError):
        return None


def _look_at(call: Call, document: Document, config: RunConfig, mistakes: list[Mistake]) -> dict[str, Any]:
    """Read the events, show what they look like, and add to the mistakes.

    Raises:
        DataError: a file cannot be read.
    """
    look, notes = _look(document, config, mistakes)
    findings = Findings.of(config, look.beginnings, look.decoded, look.seen)
    notes = [*findings.notes, *notes]
    for before, path in overlapping(look.partitions, config):
        notes.append(f"{path} begins before {before} ends: files: {{paths: ..., merge: time}} reads them side by side")
    plain = findings.plain | {"notes": notes}
    lines = list(findings.lines)
    roots: list[dict[str, Any]] = []
    if look.roots is not None and len(look.roots.events):
        plain["tables"] = fullness(config, look.roots)
        plain["roots"] = roots = shown(config, look.roots, look.beginnings, look.decoded)
        plain["lookups"] = look.roots.found
        notes += _lost(config, look.roots)
        lines.append(f"  tables     {fullness_text(plain['tables'])}")
    call.show(Text("\n".join([*lines, *(f"  note       {note}" for note in notes)]) + "\n"))
    if roots:
        root = config.tree.names[0]
        call.show(Text(f"The first {root} events, as they are read and encoded"), table_of(roots), Text(""))
    return plain


def _lost(config: RunConfig, roots: Roots) -> list[str]:
    """Lookups that find nothing."""
    events = f"{len(roots.events):,} {config.tree.names[0]} events"
    keys = {name: lookup.key for name, lookup in config.features.lookup.items()}
    return [
        f'lookup {name} finds nothing for any of {events}: does "{keys[name]}" stand in its table as in the events?'
        for name, found in roots.found.items()
        if not found
    ]


def _look(document: Document, config: RunConfig, mistakes: list[Mistake]) -> tuple[_Look, list[str]]:
    partitions = find_files(config.event_files, config.tree, config.stage is not None)
    names = texts_of(config)
    beginnings = read_beginnings(partitions, config)
    seen, decoded = seen_fields(beginnings, config), decode(beginnings, config, names)
    absent, notes = absent_fields(document, config, seen, beginnings)
    known = {mistake.path[:1] for mistake in (*mistakes, *absent)}
    mistakes += absent
    if not known & {("files",), ("funnel",)}:  # they say why nothing can be read
        mistakes += [m for m in unreadable(document, config, decoded, beginnings) if m.path[:1] not in known]
    roots = None
    if not any(mistake.path[:1] == ("features",) for mistake in mistakes):
        try:
            roots = encode(config, decoded.of(0), names)
        except (ConfigError, DataError) as error:
            mistakes.append(_lookup_mistake(document, config, str(error)))
    return _Look(partitions, beginnings, seen, decoded, roots), notes


def _lookup_mistake(document: Document, config: RunConfig, message: str) -> Mistake:
    """Where the run file names what a lookup could not be made of: the column, or the file."""
    for name, lookup in config.features.lookup.items():
        path = ("features", "lookup", name)
        column = next((c for c in (lookup.column or lookup.key, *lookup.take.values()) if f'"{c}"' in message), None)
        if any(message.startswith(version.file) or f" {version.file} " in message for version in lookup.versions):
            words = [word for key in ("column", "key", "take") for word in document.words((*path, key))]
            words += [w for word in words if word.is_key for w in document.words(word.path)]
            here = [word for word in words if word.text == column]
            return document.wrong(here[0], message) if here else document.mistake((*path, "file"), message)
    return document.mistake(("features",), message)
