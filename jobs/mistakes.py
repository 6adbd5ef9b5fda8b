"""What pydantic refuses, said in the words of the run file, at the token that is meant."""

import copy
import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.yamlmarks import Document, Mistake, MistakesError, Path, did_you_mean, dotted, load_document, shown

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_LISTED: Final = 3
"""Names that a remedy writes out."""
_WANTED: Final = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length} of them",
    "string_too_short": "a text",
}


def mistakes_of(
    error: ValidationError, document: Document, model: type[BaseModel], known: Iterable[Path]
) -> list[Mistake]:
    """One mistake for each place that `model` refused in `document`.

    Left out: a verdict on a block where one of the `known` mistakes in it says it better, and a missing key that an
    unknown one beside it was meant to be.
    """
    found: dict[Path, Mistake] = {}
    for details in error.errors(include_url=False):
        path = _path(details, document)
        is_verdict = details["type"] in ("value_error", "missing")
        if not (is_verdict and any(other[: len(path)] == path for other in known)):
            found.setdefault(path, _mistake(details, path, document, model))
    meant = {(*path[:-1], mistake.hint) for path, mistake in found.items()}
    return [m for path, m in found.items() if (*path[:-1], f'did you mean "{path[-1]}"?') not in meant]


def mended(document: Document, mistakes: Iterable[Mistake]) -> dict[str, Any]:
    """The document's tree with the word that a mistake suggests in place of what stands there, or without it.

    A guess of what was meant, good enough to look at events with.
    """
    tree = copy.deepcopy(document.tree)
    for mistake in mistakes:
        *parents, last = mistake.path or ("",)
        above: Any = tree
        for part in parents:
            above = above[part] if _holds(above, part) else None
        if not _holds(above, last) or mistake.message.startswith("missing key"):
            continue
        meant = re.fullmatch(r'did you mean "(.*)"\?', mistake.hint)
        if meant and not mistake.message.startswith("unknown key"):
            above[last] = meant[1]
        elif isinstance(above, dict):
            value = above.pop(last)
            above |= {meant[1]: value} if meant else {}
    return tree


def _holds(above: Any, part: str | int) -> bool:
    if isinstance(above, list):
        return isinstance(part, int) and part < len(above)
    return isinstance(above, dict) and part in above


def configured(model: type[ConfigT], sets: Iterable[str]) -> ConfigT:
    """A config of which only what `sets` say differs from its defaults.

    Raises:
        MistakesError: one of them cannot be used.
    """
    document = load_document("{}", "settings")
    for override in sets:
        document.override(override, {})
    try:
        return model.model_validate(document.tree)
    except ValidationError as error:
        raise MistakesError(mistakes_of(error, document, model, ())) from None


def valid_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that may stand at `loc` (as pydantic gives it: with the tags of unions) of a `model`.

    >>> from streamctr.schema import FeaturesConfig
    >>> valid_keys(FeaturesConfig, ("number", "price"))
    ('transform', 'clip', 'standardise', 'default')
    """
    here = [model]
    for part in loc:
        below = [arm for annotation in here for arm in _below(annotation, part)]
        here = below or [arm for arm in here if not _is_model(arm) or part in _tags(arm)] or here
    models = (arm for arm in here if _is_model(arm))
    return tuple(dict.fromkeys(name for arm in models for name in _fields(arm)))


def _mistake(details: ErrorDetails, path: Path, document: Document, model: type[BaseModel]) -> Mistake:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), valid_keys(model, details["loc"][:-1]))
        return document.mistake(path, f'unknown key "{path[-1]}"{_within(path)}', hint, key=True)
    if kind in ("missing", "union_tag_not_found"):
        return document.mistake(path[:-1], f'missing key "{path[-1]}"{_within(path)}', key=True)
    value = document.get(path)
    words = re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))
    if value is None and path[:1] == ("files",):
        return document.mistake(path, f"{dotted(path)} has no value", 'standard input is written "-", in quotes')
    if value is None:
        return document.mistake(path, f"{dotted(path)} has no value", did_you_mean("", words))
    if words:
        hint = did_you_mean(str(value), words)
        return document.mistake(path, f"{shown(value)} is not a value of {dotted(path)}", hint)
    if kind in _WANTED:
        bounds = {key: f"{bound:g}" if isinstance(bound, float) else bound for key, bound in context.items()}
        wanted = _WANTED[kind].format(**bounds)
        return document.mistake(path, f"{dotted(path)} wants {wanted}, not {shown(value)}", _unfolded(path, value))
    return document.mistake(path, f"{dotted(path)}: {details['msg'].removeprefix('Value error, ')}")


def _unfolded(path: Path, value: Any) -> str:
    """Of numbers that are listed as ids are: the mapping that is wanted."""
    if path != ("features", "number") or not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        return ""
    named = [f"{name}: none" for name in value[:_LISTED]] + ["..."] * (len(value) > _LISTED)
    return f"write {{{', '.join(named)}}}"


def _within(path: Path) -> str:
    return f" in {dotted(path[:-1])}" if path[:-1] else ""


def _path(details: ErrorDetails, document: Document) -> Path:
    """Where the document has what is meant: without the parts that are tags of unions; a missing key stays."""
    path: Path = ()
    for part in details["loc"]:
        if document.has((*path, part)):
            path = (*path, part)
    if details["type"] == "missing":
        return (*path, details["loc"][-1])
    tag: Path = (*path, details.get("ctx", {}).get("discriminator", "").strip("'"))
    return tag if document.has(tag) or details["type"] == "union_tag_not_found" else path


def _below(annotation: Any, part: str | int) -> list[Any]:
    if _is_model(annotation):
        return _fields(annotation).get(str(part), [])
    arguments = get_args(annotation)
    if isinstance(part, int):
        return _arms(arguments[0]) if arguments else []
    return _arms(arguments[1]) if _is_mapping(annotation) else []


def _arms(annotation: Any) -> list[Any]:
    """The types that a union stands for, bare."""
    if get_origin(annotation) is Annotated:
        return _arms(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [arm for union_arm in get_args(annotation) for arm in _arms(union_arm)]
    return [annotation]


def _fields(model: type[BaseModel]) -> dict[str, list[Any]]:
    return {field.alias or name: _arms(field.annotation) for name, field in model.model_fields.items()}


def _tags(model: type[BaseModel]) -> set[Any]:
    return {tag for field in model.model_fields.values() for tag in get_args(field.annotation)}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)
