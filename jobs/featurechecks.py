"""What must fit together across the features of a run file: each name once, and none that tells the label."""

from collections.abc import Iterable, Iterator
from typing import Final

from jobs.yamlmarks import Document, Mistake, Path, Word, did_you_mean

_KINDS: Final = ("id", "time", "bag", "number", "vector", "bucket")


def feature_checks(document: Document) -> list[Mistake]:
    """Every mistake in features, and in what names them: outcomes, types, slices, tables."""
    of_features = (_something, _repeats, _members, _buckets, _crosses, _lookups, _histories, _outcomes, _unlearnable)
    return [mistake for check in (*of_features, _types, _key_types, _slices, _tables) for mistake in check(document)]


def features(document: Document, kind: str) -> list[Word]:
    """The names that stand under features.KIND."""
    return document.words(("features", kind))


def crosses(document: Document) -> list[list[Word]]:
    """The members of each cross."""
    listed = document.get(("features", "cross"))
    places = range(len(listed)) if isinstance(listed, list) else ()
    return [document.words(("features", "cross", place)) for place in places]


def taken(document: Document) -> dict[str, list[Word]]:
    """Fields that each lookup takes."""
    return {w.text: document.words((*w.path, "take")) for w in features(document, "lookup")}


def read_fields(document: Document) -> Iterator[tuple[Word, str]]:
    """Fields of the root's messages, or of its lookups, that a root is described by, and under which key."""
    for kind in ("id", "bag", "number", "vector"):
        yield from ((word, f"features.{kind}") for word in features(document, kind))
    for kind, key in (("bucket", "of"), ("lookup", "key")):
        for name in features(document, kind):
            yield from ((word, f"features.{kind}") for word in document.words((*name.path, key)))
    yield from ((word, "features.cross") for members in crosses(document) for word in members)


def _ids(document: Document) -> list[str]:
    """Names of the single id columns."""
    named = [word.text for kind in ("id", "time", "bucket") for word in features(document, kind)]
    return [*named, *("*".join(word.text for word in members) for members in crosses(document))]


def _something(document: Document) -> Iterator[Mistake]:
    named = any(features(document, kind) for kind in _KINDS) or crosses(document)
    if "features" in document.tree and not named:
        message = "features names neither an id nor a number: there is nothing to learn from"
        yield document.mistake(("features",), message, "such as {id: [user_id]}")


def _repeats(document: Document) -> Iterator[Mistake]:
    """What has table rows is told apart by its name, and so is what is a number."""
    for kinds in (("id", "time", "bucket", "bag"), ("number", "vector")):
        first: dict[str, Word] = {}
        for word in (word for kind in kinds for word in features(document, kind)):
            if word.text in first:
                hint = f"first in {document.line_of(first[word.text])}"
                yield document.wrong(word, f'feature "{word.text}" is listed twice', hint)
            first.setdefault(word.text, word)
        for members in crosses(document) if "id" in kinds else ():
            name = "*".join(word.text for word in members)
            if name in first:
                message = f'"{name}" is also the name of a cross'
                yield document.wrong(first[name], message, f"take one of them out; the cross: {name}")


_WAYS_OUT: Final = {
    "bag": "it has several values: list a field that has one",
    "number": "make a bucket of it, such as {of: FIELD, at: [1, 10, 100]}, or list it under id too",
    "vector": "it is a list of numbers: list a field that has one value",
}
"""By kind of a field that is no single id: what to do instead."""


def _members(document: Document) -> Iterator[Mistake]:
    """Crosses are of single ids, a lookup finds its row by one."""
    keys = [word for name in features(document, "lookup") for word in document.words((*name.path, "key"))]
    wanted = [(word, "a cross is made of single ids") for members in crosses(document) for word in members]
    wanted += [(word, "a lookup finds its row by a single id") for word in keys]
    for word, what in wanted:
        kind = _kind(document, word.text, ("id", "time", "bucket", *_WAYS_OUT))
        if kind is not None and kind in _WAYS_OUT:
            yield document.wrong(word, f'"{word.text}" is a {kind}: {what}', _WAYS_OUT[kind])
    for word in keys:
        if _kind(document, word.text, ("time", "bucket")) is not None:
            message = f'"{word.text}" is made of other fields: a lookup finds its row by a field of the event'
            yield document.wrong(word, message, "or by one that a lookup above it takes")


def _buckets(document: Document) -> Iterator[Mistake]:
    """A bucket is of a single number."""
    for name in features(document, "bucket"):
        for word in document.words((*name.path, "of")):
            kind = _kind(document, word.text, ("time", "bucket", "bag", "vector"))
            if kind is not None:
                what = "a part of the time" if kind == "time" else f"a {kind}"
                yield document.wrong(word, f'"{word.text}" is {what}: a bucket is made of a single number')


def _kind(document: Document, name: str, kinds: Iterable[str]) -> str | None:
    """The first of the kinds under which a name is listed."""
    return next((kind for kind in kinds if any(w.text == name for w in features(document, kind))), None)


def _crosses(document: Document) -> Iterator[Mistake]:
    first: dict[frozenset[str], Word] = {}
    for members in crosses(document):
        names = [word.text for word in members]
        for place, word in enumerate(members):
            if word.text in names[:place]:
                yield document.wrong(word, f'"{word.text}" is crossed with itself', "write each field once")
        fields = frozenset(names)
        if members and fields in first:
            message = f"{' and '.join(sorted(fields))} are crossed twice"
            yield document.wrong(members[0], message, f"first in {document.line_of(first[fields])}")
        first.setdefault(fields, members[0] if members else Word((), ""))


def _lookups(document: Document) -> Iterator[Mistake]:
    takes = taken(document)
    first: dict[str, tuple[Word, str]] = {}
    for lookup, words in takes.items():
        for word in words:
            if word.text in first:
                before, by = first[word.text]
                message = f'field "{word.text}" is taken by two lookups, {by} and {lookup}'
                hint = f"first in {document.line_of(before)}; name one otherwise: take: {{NAME: {word.text}}}"
                yield document.wrong(word, message, hint)
            first.setdefault(word.text, (word, lookup))
    names = list(takes)
    for place, lookup in enumerate(names):
        path: Path = ("features", "lookup", lookup)
        for word in document.words((*path, "key")):
            by = first[word.text][1] if word.text in first else ""
            if by and names.index(by) >= place:
                what = "itself" if by == lookup else f"lookup {by}, which stands below it"
                message = f'features.lookup.{lookup}.key: "{word.text}" is taken by {what}'
                yield document.wrong(word, message, "a key is a field of the event, or one that a lookup above takes")
        yield from _versions(document, path)


def _versions(document: Document, path: Path) -> Iterator[Mistake]:
    given = document.mapping(path)
    if given and "file" not in given and "versions" not in given:
        message = f'missing key "file" in {".".join(map(str, path))}'
        yield document.mistake((*path, "versions"), message, "or versions: [{from: TIME, file: FILE}]", key=True)
    if "file" in given and "versions" in given:
        yield document.mistake((*path, "file"), "file and versions both name files", "leave one of them out", key=True)


def _histories(document: Document) -> Iterator[Mistake]:
    names, ids = list(document.mapping(("funnel",))), _ids(document)
    for history in features(document, "history"):
        for word in document.words((*history.path, "of")):
            if names and word.text not in names[1:]:
                why = "the root, which every event has" if word.text == names[0] else "not a stage of the funnel"
                message = f'features.history.{history.text}.of: "{word.text}" is {why}'
                yield document.wrong(word, message, did_you_mean(word.text, names[1:]))
        for word in document.words((*history.path, "take")):
            if word.text not in ids and isinstance(document.get(("features", "id")), list):
                message = f'features.history.{history.text}.take: "{word.text}" is not listed in features.id'
                yield document.wrong(word, message, did_you_mean(word.text, ids))
        if not document.words(("user",)):
            message = f"features.history.{history.text} needs to know whose history it is"
            yield document.wrong(history, message, "add user: FIELD")


def _outcomes(document: Document) -> Iterator[Mistake]:
    """Promise 2: what tells the label is no feature."""
    listed = {word.text for word in document.words(("outcomes",))}
    telling: dict[str, tuple[Word, str]] = {}
    for name in document.mapping(("funnel",)):
        for key in ("when", "at", "value"):
            for word in document.words(("funnel", name, key)):
                telling.setdefault(word.text, (word, f"funnel.{name}.{key}"))
    uses = list(read_fields(document))
    uses += [(word, key) for key in ("user", "weight") for word in document.words((key,))]
    for word, where in uses:
        role = "a feature" if where not in ("weight",) else "the weight"
        if _within(word.text, listed):
            message = f'field "{word.text}" is an outcome: it is known only after the root, so it cannot be {role}'
            yield document.wrong(word, message, f"take it out of {where} or out of outcomes")
        elif outcome := _within(word.text, telling):
            teller, by = telling[outcome]
            message = (
                f'field "{word.text}" is an outcome, by {by} in {document.line_of(teller)}: it is known only after '
                f"the root, so it cannot be {role}"
            )
            yield document.wrong(word, message, f"take it out of {where}")


def _within(field: str, outcomes: Iterable[str]) -> str | None:
    """The outcome that a field is, is a part of, or holds: `order.total` is a part of `order`."""
    parts = (one for one in outcomes if one == field or one.startswith(f"{field}.") or field.startswith(f"{one}."))
    return next(parts, None)


def _unlearnable(document: Document) -> Iterator[Mistake]:
    """Ids that no two roots share teach nothing."""
    key = document.words(("key",))
    root = next(iter(document.mapping(("funnel",))), "")
    keys = document.words(("funnel", root, "key")) or key
    time = document.words(("time", "field")) or document.words(("time",))
    for word, where in read_fields(document):
        if where in ("features.number", "features.vector", "features.lookup"):
            continue
        if len(keys) == 1 and word.text == keys[0].text:
            message = f'"{word.text}" is the key: every root has another, so nothing can be learned of it'
            yield document.wrong(word, message, f"take it out of {where}")
        if where != "features.bucket" and any(word.text == at.text and not at.is_key for at in time):
            message = f'"{word.text}" is the time: hardly a value comes twice, so nothing can be learned of it'
            yield document.wrong(word, message, f"take it out of {where}; time: [hour, weekday] are parts of it")


def _types(document: Document) -> Iterator[Mistake]:
    stages = document.mapping(("funnel",))
    paths: list[Path] = [("key",), ("user",), *(("funnel", name, key) for name in stages for key in ("key", "when"))]
    used = [word.text for path in paths for word in document.words(path)]
    used += [w.text for w, where in read_fields(document) if where not in ("features.number", "features.vector")]
    used += [word.text for words in taken(document).values() for word in words]
    for word in document.words(("types",)):
        if word.text not in used:
            message = f'types: "{word.text}" is no id, bag, key or user of this run file'
            yield document.wrong(word, message, did_you_mean(word.text, dict.fromkeys(used)))


def _key_types(document: Document) -> Iterator[Mistake]:
    """A root is found by what is of one type in all stages: alone, 7 as an integer is not "7" as a text."""
    types, common = document.mapping(("types",)), document.words(("key",))
    own = [(name, document.words(("funnel", name, "key"))) for name in document.mapping(("funnel",))]
    first = next((words for _, words in own[:1]), []) or common
    for name, words in own[1:]:
        for word, root in zip(words, first, strict=False) if len(words) == len(first) == 1 else ():
            is_now, wanted = types.get(word.text, "text"), types.get(root.text, "text")
            if is_now != wanted:
                message = f'the key of {name}, "{word.text}", is {is_now}, and the root\'s, "{root.text}", is {wanted}'
                yield document.wrong(word, f"{message}: no {name} event would find its root", "set both under types")


def _slices(document: Document) -> Iterator[Mistake]:
    ids = _ids(document)
    for word in document.words(("metrics", "slices")):
        if word.text not in ids:
            message = f'metrics.slices: "{word.text}" is no id or time feature'
            yield document.wrong(word, message, did_you_mean(word.text, ids))


def _tables(document: Document) -> Iterator[Mistake]:
    names = [*_ids(document), *(word.text for word in features(document, "bag"))]
    shared = document.mapping(("tables", "shared"))
    for word in document.words(("tables", "shared")):
        if word.text not in names:
            message = f'tables.shared: "{word.text}" is no id or time feature'
            yield document.wrong(word, message, did_you_mean(word.text, names))
    tables = [str(shared.get(name, name)) for name in names]
    for word in document.words(("tables", "sizes")):
        if word.text not in tables:
            message = f'tables.sizes: "{word.text}" is no table that a feature uses'
            yield document.wrong(word, message, did_you_mean(word.text, tables))
