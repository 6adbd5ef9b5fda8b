"""What must fit together across a run file, looked for in the document itself, so that all is said at once."""

import re
from collections.abc import Iterator
from typing import Any

from jobs.yamlmarks import Document, Mistake, Path, did_you_mean
from streamctr.schema import duration_text, parse_duration_ms


def cross_checks(document: Document) -> list[Mistake]:
    """Every mistake that one key alone cannot show; silent about what has not even the right shape."""
    checks = (_funnel, _features, _histories, _outcomes, _slices, _tables)
    return [mistake for check in checks for mistake in check(document)]


def stages(document: Document) -> list[str]:
    """Names of the stages in the funnel, the root first."""
    return list(_mapping(document, ("funnel",)))


def id_features(document: Document) -> list[str]:
    """Names of the id columns: declared ids, then time parts."""
    return [name for _, name in (*_texts(document, ("features", "id")), *_texts(document, ("features", "time")))]


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
            if config:
                message = f"{name} is the root, the event that is scored: it takes no keys"
                yield document.mistake(path, message, f"write {name}: {{}}", key=True)
        elif not config:
            yield document.mistake(path, f'missing key "observe" in funnel.{name}', key=True)
        elif isinstance(config, dict):
            yield from _stage(document, path, names[:place])


def _stage(document: Document, path: Path, above: list[str]) -> Iterator[Mistake]:
    name, after = path[-1], document.get((*path, "after"))
    if isinstance(after, str) and after not in above:
        message = f'{name}.after: "{after}" is not a stage above {name}'
        yield document.mistake((*path, "after"), message, did_you_mean(after, above))
    observe_ms, window_ms = (_duration_ms(document.get((*path, key))) for key in ("observe", "window"))
    if observe_ms is not None and window_ms is not None and window_ms < observe_ms:
        window, observe = duration_text(window_ms), duration_text(observe_ms)
        message = (
            f"{name}.window {window} is shorter than {name}.observe {observe}: the label would be final before it is "
            f"observed; set window to {observe} or more"
        )
        yield document.mistake((*path, "window"), message)


def _features(document: Document) -> Iterator[Mistake]:
    listed = [*_texts(document, ("features", "id")), *_texts(document, ("features", "time"))]
    first: dict[str, Path] = {}
    for path, name in listed:
        if name in first:
            hint = f"first in line {document.span(first[name]).line}"
            yield document.mistake(path, f'feature "{name}" is listed twice', hint)
        first.setdefault(name, path)
    if "features" in document.tree and not listed and not _mapping(document, ("features", "number")):
        message = "features names neither an id nor a number: there is nothing to learn from"
        yield document.mistake(("features",), message, "such as {id: [user_id]}")


def _histories(document: Document) -> Iterator[Mistake]:
    names = stages(document)
    ids = [name for _, name in _texts(document, ("features", "id"))]
    for history in _mapping(document, ("features", "history")):
        path: Path = ("features", "history", history)
        of = document.get((*path, "of"))
        if isinstance(of, str) and names and of not in names[1:]:
            why = "the root, which every event has" if of == names[0] else "not a stage of the funnel"
            message = f'features.history.{history}.of: "{of}" is {why}'
            yield document.mistake((*path, "of"), message, did_you_mean(of, names[1:]))
        for take, name in _texts(document, (*path, "take")):
            if name not in ids and isinstance(document.get(("features", "id")), list):
                message = f'features.history.{history}.take: "{name}" is not listed in features.id'
                yield document.mistake(take, message, did_you_mean(name, ids))
        if document.get(("user",)) is None:
            message = f"features.history.{history} needs to know whose history it is"
            yield document.mistake(path, message, "add user: FIELD", key=True)


def _outcomes(document: Document) -> Iterator[Mistake]:
    """Promise 2: what tells the label is no feature."""
    outcomes = [name for _, name in _texts(document, ("outcomes",))]
    features = _texts(document, ("features", "id"))
    features += [(("features", "number", name), name) for name in _mapping(document, ("features", "number"))]
    features += [(("user",), str(document.get(("user",))))]
    for path, name in features:
        if name in outcomes:
            message = f'field "{name}" is an outcome: it is known only after the root, so it cannot be a feature'
            where = "user" if path == ("user",) else f"{path[0]}.{path[1]}"
            hint = f"take it out of {where} or out of outcomes"
            yield document.mistake(path, message, hint, key="number" in path[1:2])


def _slices(document: Document) -> Iterator[Mistake]:
    ids = id_features(document)
    for path, name in _texts(document, ("metrics", "slices")):
        if name not in ids:
            message = f'metrics.slices: "{name}" is no id or time feature'
            yield document.mistake(path, message, did_you_mean(name, ids))


def _tables(document: Document) -> Iterator[Mistake]:
    ids, shared = id_features(document), _mapping(document, ("tables", "shared"))
    for name in shared:
        if name not in ids:
            message = f'tables.shared: "{name}" is no id or time feature'
            yield document.mistake(("tables", "shared", name), message, did_you_mean(name, ids), key=True)
    tables = [str(shared.get(name, name)) for name in ids]
    for name in _mapping(document, ("tables", "sizes")):
        if name not in tables:
            message = f'tables.sizes: "{name}" is no table that a feature uses'
            yield document.mistake(("tables", "sizes", name), message, did_you_mean(name, tables), key=True)


def _mapping(document: Document, path: Path) -> dict[str, Any]:
    value = document.get(path)
    return value if isinstance(value, dict) else {}


def _texts(document: Document, path: Path) -> list[tuple[Path, str]]:
    value = document.get(path)
    items = value if isinstance(value, list) else []
    return [((*path, place), item) for place, item in enumerate(items) if isinstance(item, str)]


def _duration_ms(value: Any) -> int | None:
    try:
        return parse_duration_ms(value)
    except ValueError:
        return None
