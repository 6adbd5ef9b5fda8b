"""JSON lines in one compiled pass: which lines are surely one object each, and where the wanted values stand in them.

A line is PLAIN when it is one object by RFC 8259 and nothing is left to judge: ordinary numbers, no lone surrogates,
not too deep, no escaped name where a wanted one could stand. Everything else is SUSPECT and is shown to the strict
parser. That the bytes are UTF-8 is not looked at here.

Legend: L lines, W wanted fields, D levels.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.decode.tokens import (
    LIST,
    NEWLINE,
    OBJECT,
    QUOTE,
    Bytes,
    pack,
    read_scalar,
    skip_space,
    skip_text,
)
from streamctr.decode.tree import Tree, name
from streamctr.kernel import inlined, kernel
from streamctr.ports import LINE_LIMIT_BYTES

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

BLANK: Final = 0
PLAIN: Final = 1
SUSPECT: Final = 2

_LEVELS: Final = 64
_COMMA: Final = 0x2C
_COLON: Final = 0x3A
_LIST: Final = 0x5B
_OBJECT: Final = 0x7B
_OF_LIST: Final = -2
_UNWANTED: Final = -1
_REFUSED: Final = -3


class Found(NamedTuple):
    """What the scan finds."""

    spans_WL: I64
    """Where the value stands: `pack(kind, start, size)`; 0 for missing. Anything for lines that are not PLAIN."""
    starts_L1: I64
    states_L: U8
    stack_D3: I64
    """Objects and lists around the place that is read: which object, its start, the member whose value it is."""


@inlined
def _forget_below(line: int, member: int, tree: Tree, found: Found) -> None:
    """Of two objects under one name the last counts."""
    for field in range(tree.below_M2[member, 0], tree.below_M2[member, 1]):
        found.spans_WL[field, line] = 0


@inlined
def _write(line: int, member: int, span: int, tree: Tree, found: Found) -> bool:
    """Write the value of a member; False where it should be an object, which the strict parser has words for."""
    if tree.fields_M[member] >= 0:
        found.spans_WL[tree.fields_M[member], line] = span
    if tree.objects_M[member] >= 0:
        _forget_below(line, member, tree, found)
        return span == 0
    return True


@inlined
def _inside(text: Bytes, at: int, line: int, member: int, tree: Tree, found: Found) -> int:
    """In which object or list one is behind `at`; REFUSED for a list where there should be an object."""
    wanted = tree.objects_M[member] if member >= 0 else _UNWANTED
    if text.data[at] == _LIST:
        return _OF_LIST if wanted < 0 else _REFUSED
    if wanted >= 0:
        _forget_below(line, member, tree, found)
    return wanted


@inlined
def _close(text: Bytes, at: int, line: int, depth: int, tree: Tree, found: Found) -> tuple[int, int]:
    """Behind all objects and lists that end here, and how deep that is."""
    while depth >= 0:
        start, member = found.stack_D3[depth, 1], found.stack_D3[depth, 2]
        if text.data[at] != text.data[start] + 2:  # in ASCII the closing one is the second behind the opening one
            break
        if member >= 0 and tree.fields_M[member] >= 0:
            kind = OBJECT if text.data[start] == _OBJECT else LIST
            found.spans_WL[tree.fields_M[member], line] = pack(kind, start, at + 1 - start)
        depth -= 1
        at = skip_space(text.data, at + 1)
    return at, depth


@inlined
def _next(text: Bytes, at: int, parent: int, before: int, tree: Tree) -> tuple[int, int]:
    """The place of the next value of an object or a list, -1 where there is none; and the slot of its name."""
    at = skip_space(text.data, at)
    if parent == _OF_LIST:
        return at, before
    if text.data[at] != QUOTE:
        return -1, before
    if parent >= 0:
        at, before = name(text, at + 1, parent, before, tree)
    else:
        at = skip_text(text.data, at + 1)[0] + 1
    if at <= 0:
        return -1, before
    at = skip_space(text.data, at)
    return (skip_space(text.data, at + 1) if text.data[at] == _COLON else -1), before


@inlined
def _read_object(text: Bytes, at: int, line: int, tree: Tree, found: Found) -> int:
    """The next place without a blank behind the object at `at`; -1 for what the strict parser must judge."""
    stack, nowhere = found.stack_D3, len(tree.slots_S4) - 1
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, at, _UNWANTED
    depth, at, empty, slot = 0, skip_space(text.data, at + 1), True, nowhere
    while depth >= 0:
        if not empty or text.data[at] != text.data[stack[depth, 1]] + 2:
            parent = stack[depth, 0]
            at, slot = _next(text, at, parent, slot, tree)
            member = tree.slots_S4[slot, 2] if parent >= 0 else _UNWANTED
            if at >= 0 and (text.data[at] == _OBJECT or text.data[at] == _LIST):
                depth, inside = depth + 1, _inside(text, at, line, member, tree, found)
                if depth == _LEVELS or inside == _REFUSED:
                    return -1
                stack[depth, 0], stack[depth, 1], stack[depth, 2] = inside, at, member
                at, empty = skip_space(text.data, at + 1), True
                continue
            at, span = read_scalar(text.data, at) if at >= 0 else (-1, 0)
            if at < 0 or (member >= 0 and not _write(line, member, span, tree, found)):
                return -1
            at = skip_space(text.data, at)
        at, depth = _close(text, at, line, depth, tree, found)
        if depth >= 0 and text.data[at] != _COMMA:
            return -1
        at, empty = at + int(depth >= 0), False
    return at


@inlined
def _read_line(text: Bytes, start: int, line: int, tree: Tree, found: Found) -> int:
    """Write what the line at `start` is and holds; the place of its newline."""
    at, state = skip_space(text.data, start), BLANK
    if text.data[at] == _OBJECT:
        at, state = _read_object(text, at, line, tree, found), PLAIN
    if at < 0 or text.data[at] != NEWLINE:
        at, state = start, SUSPECT
        while text.data[at] != NEWLINE:
            at += 1
    found.states_L[line] = SUSPECT if at - start > LINE_LIMIT_BYTES else state
    return at


@kernel
def _scan(text: Bytes, tree: Tree, found: Found) -> None:
    at = 0
    for line in range(len(found.states_L)):
        found.starts_L1[line] = at
        at = _read_line(text, at, line, tree, found) + 1
    found.starts_L1[len(found.states_L)] = at


def scan(text: Bytes, n_lines: int, n_fields: int, tree: Tree) -> Found:
    """What is found in `n_lines` lines, each of which ends with a newline.

    >>> from streamctr.decode.tokens import bytes_of, unpack
    >>> from streamctr.decode.tree import tree_of
    >>> found = scan(bytes_of(b'{"a": {"b": 17}}\\n \\nNaN\\n'), 3, 1, tree_of(["a.b"]))
    >>> found.states_L.tolist(), unpack(int(found.spans_WL[0, 0]))
    ([1, 0, 2], (2, 12, 2))
    """
    spans_WL = np.zeros((n_fields, n_lines), np.int64)
    stack_D3, starts_L1 = np.empty((_LEVELS, 3), np.int64), np.empty(n_lines + 1, np.int64)
    found = Found(spans_WL, starts_L1, np.empty(n_lines, np.uint8), stack_D3)
    _scan(text, tree, found)
    return found
