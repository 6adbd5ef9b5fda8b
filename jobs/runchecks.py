"""What must fit together across a run file, looked for in the document itself, so that all is said at once."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final

from jobs.featurechecks import feature_checks
from jobs.yamlmarks import Document, Mistake, Path, Word, did_you_mean, dotted
from streamctr.schema import StageConfig, duration_text, parse_duration_ms

_COMPARISON: Final = re.compile(r"(>=|>|<=|<)\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_OF_ROOTS: Final = frozenset({"after", "observe", "window", "when", "at", "delay", "told_by"})


def cross_checks(document: Document) -> list[Mistake]:
    """Every mistake that one key alone cannot show; silent about what has not even the right shape."""
    checks = (_funnel, _messages, _keys, _files)
    return [*(mistake for check in checks for mistake in check(document)), *feature_checks(document)]


def stages(document: Document) -> list[str]:
    """Names of the stages in the funnel, the root first."""
    return list(document.mapping(("funnel",)))


def _funnel(document: Document) -> Iterator[Mistake]:
    names = stages(document)
    if "funnel" in document.tree and len(names) < 2:
        message = "a funnel needs a root, the event that is scored, and a stage behind it"
        yield document.mistake(("funnel",), message, "such as {view: {}, click: {observe: 10m}}")
    for place, name in enumerate(names):
        path: Path = ("funnel", name)
        config = document.get(path)
        if not re.fullmatch(r"[^\W\d][\w.-]*", name):
            message = f'"{name}" is no name for a stage: heads are named after stages, joined by | and &'
            yield document.mistake(path, message, "write letters, digits, _ . and -, a letter first", key=True)
        if place == 0:
            yield from _root(document, path)
        elif not config:
            yield document.mistake(path, f'missing key "observe" in funnel.{name}', key=True)
        elif isinstance(config, dict):
            yield from _stage(document, path, names[:place])
            yield from _told(document, path, names[:place])


def _root(document: Document, path: Path) -> Iterator[Mistake]:
    for word in document.words(path):
        if word.is_key and word.text in _NOT_OF_ROOTS and _says(document, path, word.text):
            message = f"{path[-1]} is the root, the event that is scored: it takes no {word.text}"
            yield document.wrong(word, message, "take it out; the root takes key, time, called and value")


def _stage(document: Document, path: Path, above: list[str]) -> Iterator[Mistake]:
    """Which stage it follows, and its windows."""
    name, config = path[-1], document.mapping(path)
    yield from _above(document, (*path, "after"), above)
    meant = [key for key in config if key not in StageConfig.model_fields]
    if config.get("observe") is None and not any(difflib.get_close_matches(key, ["observe"]) for key in meant):
        yield document.mistake(path, f'missing key "observe" in funnel.{name}', key=True)
    observe_ms, window_ms = (_duration_ms(config.get(key)) for key in ("observe", "window"))
    if observe_ms is not None and window_ms is not None and window_ms < observe_ms:
        window, observe = duration_text(window_ms), duration_text(observe_ms)
        message = (
            f"{name}.window {window} is shorter than {name}.observe {observe}: the label would be final before it is "
            f"observed; set window to {observe} or more"
        )
        yield document.mistake((*path, "window"), message)


def _told(document: Document, path: Path, above: list[str]) -> Iterator[Mistake]:
    """Whether it has messages of its own, or fields of others tell of it."""
    name, at = path[-1], document.get((*path, "at"))
    yield from _above(document, (*path, "told_by"), above)
    if _derived(document, path):
        message = f"{name} is told of by fields of another stage's messages (when, at): it takes no "
        hint, refused = "take it out, or take out when and at", {"key", "time", "called"}
    else:
        message = f"{name} has messages of its own, without when and at: it takes no "
        hint, refused = "take it out, or add when: FLAG or at: FIELD", {"delay", "told_by"}
    for word in document.words(path):
        if word.text in refused and _says(document, path, word.text):
            yield document.wrong(word, message + word.text, hint)
    for word in (word for flag in document.mapping((*path, "when")) for word in document.words((*path, "when", flag))):
        if word.text[:1] in ("<", ">") and not _COMPARISON.fullmatch(word.text):
            yield document.wrong(word, f'"{word.text}" compares with no number', 'write one as in ">= 4"')
    if at is not None and at == _time_field(document):
        message = f'{name}.at: "{at}" is the time of every message: {name} would always happen, and at once'
        yield document.mistake((*path, "at"), message, f"write the field with the time of {name}, or when and delay")


def _above(document: Document, path: Path, above: list[str]) -> Iterator[Mistake]:
    """`after` and `told_by` name a stage that stands above."""
    for word in document.words(path):
        if word.text not in above:
            name, key = path[-2:]
            message = f'{name}.{key}: "{word.text}" is not a stage above {name}'
            yield document.wrong(word, message, did_you_mean(word.text, above))


def _messages(document: Document) -> Iterator[Mistake]:
    """What a line's stage field says is one stage, or to be ignored."""
    means: dict[str, Word] = {}
    for word in _callings(document):
        if word.text in means:
            message = f'"{word.text}" already means another stage'
            yield document.wrong(word, message, f"first in {document.line_of(means[word.text])}")
        means.setdefault(word.text, word)
    for word in document.words(("ignore",)):
        if word.text in means:
            hint = f"take it out of one of them; the stage is in {document.line_of(means[word.text])}"
            yield document.wrong(word, f'"{word.text}" is a stage, and is to be ignored', hint)
    if document.words(("ignore",)) and document.get(("stage",)) is None:
        message = "ignore holds values of the field that says what a line is, and no field is named as that"
        yield document.mistake(("ignore",), message, "add stage: FIELD", key=True)


def _keys(document: Document) -> Iterator[Mistake]:
    """No key is made of the same field twice."""
    paths: list[Path] = [("key",), *(("funnel", name, "key") for name in stages(document))]
    for path in paths:
        seen: set[str] = set()
        for word in document.words(path):
            if word.text in seen:
                yield document.wrong(word, f'"{word.text}" stands twice in {dotted(path)}', "write it once")
            seen.add(word.text)


def _callings(document: Document) -> Iterator[Word]:
    """Values of the stage field that mean a stage."""
    for name in stages(document):
        path: Path = ("funnel", name)
        if not _derived(document, path):
            yield Word(path, name, is_key=True)
            yield from (word for word in document.words((*path, "called")) if word.text != name)


def _derived(document: Document, path: Path) -> bool:
    return _says(document, path, "when") or _says(document, path, "at")


def _says(document: Document, path: Path, key: str) -> bool:
    """Whether a key has a value that is not its default, as it stands in the copy of a run file."""
    value = document.mapping(path).get(key)
    return value not in (None, [], {}) and not (key == "delay" and _duration_ms(value) == 0)


def _files(document: Document) -> Iterator[Mistake]:
    """There are files or topics; `files.stages` names stages of their own, where no field says what a line is."""
    if document.get(("files",)) is None and document.get(("kafka",)) is None:
        yield document.mistake((), 'missing key "files"', "name event files, or topics with kafka", key=True)
    names = stages(document)
    words = document.words(("files", "stages"))
    if words and document.get(("stage",)) is not None:
        message = "files.stages and stage both say what a line is"
        yield document.mistake(("files", "stages"), message, "leave one of them out", key=True)
    for word in words:
        if names and word.text not in names:
            message = f'files.stages: "{word.text}" is no stage of the funnel'
            yield document.wrong(word, message, did_you_mean(word.text, names))
        elif _derived(document, ("funnel", word.text)):
            message = f"files.stages: {word.text} is told of by fields of another stage's messages (when, at)"
            yield document.wrong(word, message, "it has no files of its own: take them out")


def _time_field(document: Document) -> Any:
    time = document.get(("time",))
    return time.get("field") if isinstance(time, dict) else time


def _duration_ms(value: Any) -> int | None:
    try:
        return None if value is None else parse_duration_ms(value)
    except ValueError:
        return None
