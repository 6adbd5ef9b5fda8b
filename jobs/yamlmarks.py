"""YAML whose every scalar is text and whose every key and value knows where it stands.

PyYAML's own loader types scalars by YAML 1.1 (`NO` is False, `1:30` is 90, `1e-3` is text); here they stay text, and
the config's declared types decide.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from streamctr.errors import ConfigError

Path = tuple[str | int, ...]
"""Where something stands in a document: keys and, within lists, places."""

_SECRET: Final = re.compile(
    r"""((?<![A-Za-z])(?:password|token)["']?\s*[:=]\s*)(?!["']?(?:env|file):)(\S.*)""", re.IGNORECASE
)
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A token: `name` is what to call its text, `line` and `column` count from 1; line 0 is a command line option."""

    line: int
    column: int
    width: int
    name: str
    text: str
    """The line that it stands in."""

    def head(self) -> str:
        """`FILE:LINE:COLUMN`, or the option as it was given."""
        return f"{self.name}:{self.line}:{self.column}" if self.line else masked(self.text)

    def underlined(self, hint: str) -> str:
        """The line with its number, and the token underlined on the next."""
        number = f"{self.line:>4}" if self.line else "    "
        before = "".join("\t" if char == "\t" else " " for char in self.text[: self.column - 1])
        return f"{number} | {masked(self.text)}\n     | {before}{'^' * self.width} {hint}".rstrip()


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong, and where."""

    span: Span
    message: str
    hint: str = ""
    path: Path = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{self.span.head()}  {self.message}\n{self.span.underlined(self.hint)}"


@dataclass(frozen=True, slots=True)
class Word:
    """A text that names something: a value of the document, or a key."""

    path: Path
    text: str
    is_key: bool = False


class MistakesError(ConfigError):
    """Everything that is wrong with a run file and its options, in the order in which it stands there."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = sorted(set(mistakes))
        count = f"{len(self.mistakes)} mistake{'s' if len(self.mistakes) > 1 else ''}; nothing was run."
        super().__init__("\n\n".join([*(str(mistake) for mistake in self.mistakes), count]))


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """`did you mean "observe"?`, all words where none is near and they are few, else nothing.

    >>> did_you_mean("observ", ["after", "observe", "window"])
    'did you mean "observe"?'
    """
    words = list(dict.fromkeys(valid))
    near = difflib.get_close_matches(word, words, n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"one of {', '.join(words)}" if 0 < len(words) <= 12 else ""


@dataclass(slots=True)
class Document:
    """Nested dicts, lists, texts and None, with the span of every key and value by path."""

    tree: dict[str, Any]
    keys: dict[Path, Span]
    values: dict[Path, Span]

    def get(self, path: Path) -> Any:
        """What stands at `path`; None where nothing does."""
        here: Any = self.tree
        for part in path:
            found = isinstance(here, dict) and part in here
            found = found or (isinstance(here, list) and isinstance(part, int) and part < len(here))
            if not found:
                return None
            here = here[part]
        return here

    def has(self, path: Path) -> bool:
        """Whether something, be it nothing, stands at `path`."""
        return path in self.values

    def span(self, path: Path) -> Span:
        """The scalar at `path`, the key of a larger value, or the nearest thing above that was written down."""
        if path in self.values and not isinstance(self.get(path), dict | list | None):
            return self.values[path]
        return self.key_span(path)

    def key_span(self, path: Path) -> Span:
        """The key at `path`, or the nearest thing above that was written down."""
        while path and path not in self.keys and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.values[path]

    def mistake(self, path: Path, message: str, hint: str = "", key: bool = False) -> Mistake:
        """A mistake at the value of `path`, or at its key."""
        span = self.key_span(path) if key else self.span(path)
        if path[-1:] in (("password",), ("token",)) and not key:  # it may stand in a line of its own
            span = replace(span, text=masked(span.text[: span.column - 1]) + "*" * len(span.text[span.column - 1 :]))
        return Mistake(span, message, hint, path)

    def mapping(self, path: Path) -> dict[str, Any]:
        """The mapping at `path`; an empty one where there is something else."""
        value = self.get(path)
        return value if isinstance(value, dict) else {}

    def words(self, path: Path) -> list[Word]:
        """The keys of the mapping at `path`, the texts of the list, or the one text."""
        value = self.get(path)
        if isinstance(value, dict):
            return [Word((*path, key), key, is_key=True) for key in value]
        if isinstance(value, list):
            return [Word((*path, place), text) for place, text in enumerate(value) if isinstance(text, str)]
        return [Word(path, value)] if isinstance(value, str) else []

    def wrong(self, word: Word, message: str, hint: str = "") -> Mistake:
        """A mistake at a word."""
        return self.mistake(word.path, message, hint, key=word.is_key)

    def line_of(self, word: Word) -> str:
        """Where a word stands, to be named beside another place: `line 7`, or the option."""
        span = self.key_span(word.path) if word.is_key else self.span(word.path)
        return f"line {span.line}" if span.line else span.text

    def override(self, option: str, expand: "dict[Path, str]") -> None:
        """Apply `key.key=value`, the value in YAML; `expand` names the key that a short form such as `esmm` stands for.

        Raises:
            MistakesError: it has no `=` or no key, or its value is not YAML.
        """
        key, equals, value = option.partition("=")
        text = f"--set {option}"
        whole = Span(0, 7, max(len(option), 1), "--set", text)
        if not equals or not all(key.split(".")):
            raise MistakesError([Mistake(whole, "an override is written key=value", "such as training.seed=2")])
        try:
            node = yaml.compose(value, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise MistakesError([Mistake(whole, f"the value is not YAML: {_problem(error)}")]) from None
        here, column = self.tree, 7
        path: Path = ()
        *parts, last = key.split(".")
        for part in parts:
            path = (*path, part)
            here = self._step_into(here, path, Span(0, column, len(part), "--set", text), expand)
            column += len(part) + 1
        self._forget((*path, last))
        reader = _Reader("--set", [text], self.keys, self.values, before=len(key) + 7)
        self.keys[(*path, last)] = Span(0, column, len(last), "--set", text)
        self.values[(*path, last)] = Span(0, len(key) + 8, max(len(value), 1), "--set", text)
        here[last] = None if node is None else reader.read(node, (*path, last))
        if reader.mistakes:
            raise MistakesError(reader.mistakes)

    def _step_into(self, here: dict[str, Any], path: Path, span: Span, expand: dict[Path, str]) -> dict[str, Any]:
        below = here.get(str(path[-1]))
        if isinstance(below, dict):
            return below
        fresh: dict[str, Any] = {}
        if isinstance(below, str) and path in expand:
            fresh[expand[path]] = below
            self.values[(*path, expand[path])] = self.values[path]
        elif below is not None:
            raise MistakesError([Mistake(span, f"{dotted(path)} has no keys: it is {shown(below)}")])
        else:
            self.keys[path] = self.values[path] = span
        here[str(path[-1])] = fresh
        return fresh

    def _forget(self, path: Path) -> None:
        for spans in (self.keys, self.values):
            for old in [p for p in spans if p[: len(path)] == path]:
                del spans[old]


def load_document(text: str, name: str) -> Document:
    """Read the text of a YAML file called `name`.

    Raises:
        MistakesError: it is not YAML, not a mapping, or a key stands in it twice.
    """
    lines = text.splitlines() or [""]
    start = Span(1, 1, max(len(lines[0]), 1), name, lines[0])
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise MistakesError([Mistake(_mark_span(error, name, lines) or start, _problem(error))]) from None
    if not isinstance(node, yaml.MappingNode):
        raise MistakesError([Mistake(start, "a run file is a mapping of keys to values")])
    reader = _Reader(name, lines)
    tree = reader.read(node, ())
    if reader.mistakes:
        raise MistakesError(reader.mistakes)
    return Document(tree, reader.keys, reader.values)


@dataclass(slots=True)
class _Reader:
    """Turns composed nodes into plain values and spans; in an option, `before` characters stand before the YAML."""

    name: str
    lines: list[str]
    keys: dict[Path, Span] = field(default_factory=dict)
    values: dict[Path, Span] = field(default_factory=dict)
    before: int = 0
    mistakes: list[Mistake] = field(default_factory=list)
    _open: list[int] = field(default_factory=list)

    def read(self, node: yaml.Node, path: Path) -> Any:
        span = self.values[path] = self._span(node)
        if isinstance(node, yaml.ScalarNode):
            return None if node.style is None and node.value in _NULLS else str(node.value)
        if id(node) in self._open:
            self.mistakes.append(Mistake(span, "an alias stands within what it is an alias of"))
            return None
        self._open.append(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.pop()
        return value

    def _sequence(self, node: yaml.Node, path: Path) -> list[Any]:
        return [self.read(item, (*path, place)) for place, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            span = self._span(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.mistakes.append(Mistake(span, "a key is one word, not a list or a mapping"))
                continue
            key = str(key_node.value)
            if key in tree:
                first = self.keys[(*path, key)].line
                self.mistakes.append(Mistake(span, f'key "{key}" stands twice', f"first in line {first}"))
                continue
            self.keys[(*path, key)] = span
            tree[key] = self.read(value_node, (*path, key))
        return tree

    def _span(self, node: yaml.Node) -> Span:
        start, end = node.start_mark, node.end_mark
        line = 0 if self.before else start.line + 1
        text = self.lines[start.line] if start.line < len(self.lines) else ""
        stop = end.column if end.line == start.line else len(text) - self.before
        return Span(line, start.column + 1 + self.before, max(stop - start.column, 1), self.name, text)


def masked(text: str) -> str:
    """A line as it may be shown: as wide, without what stands behind `password` or `token`, but for references.

    >>> masked("sasl: {username: me, password: hunter2}"), masked("password: env:KAFKA_PASSWORD")
    ('sasl: {username: me, password: ********', 'password: env:KAFKA_PASSWORD')
    """
    return _SECRET.sub(lambda found: found[1] + "*" * len(found[2]), text)


def dotted(path: Path) -> str:
    """`funnel.click`, `features.id[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else f'"{value}"'


_ADVICE: Final = {
    "scanning an alias": "a value that begins with * stands in quotes",
    "'\\t'": "indent with spaces",
    "sequence entries": 'standard input is written "-", in quotes; a list begins in a line of its own',
    "block mapping": "is it indented like the lines around it?",
}
"""By words of PyYAML, what is mostly the matter."""


def _problem(error: yaml.YAMLError) -> str:
    words = [getattr(error, "context", None), getattr(error, "problem", None)]
    problem = ": ".join(word for word in words if word) or str(error)
    advice = next((advice for words, advice in _ADVICE.items() if words in problem), "")
    return f"{problem}{advice and '; '}{advice}"


def _mark_span(error: yaml.YAMLError, name: str, lines: list[str]) -> Span | None:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return None
    text = lines[mark.line] if mark.line < len(lines) else ""
    return Span(mark.line + 1, mark.column + 1, 1, name, text)
