"""The names that a scan looks for, and how they are found. Legend: M wanted names, S slots, W wanted fields."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.decode.tokens import ESCAPED, QUOTE, WORD, Bytes, bytes_of, skip_text
from streamctr.kernel import inlined, kernel

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_SLOTS: Final = 256
_FIRST: Final = np.array([(1 << 8 * size) - 1 for size in range(WORD + 1)], np.uint64)
"""Masks of the first bytes of a word."""
_K1: Final = np.uint64(0x9E3779B185EBCA87)
_K2: Final = np.uint64(0xC2B2AE3D27D4EB4F)


class Tree(NamedTuple):
    """The wanted names: members of objects, of which some are fields and some lead to further objects.

    Slots are looked up by the hash of a name. Those that no wanted name has remember others, and all what came next.
    """

    names: Bytes
    """The members' names, each with a word of newlines behind it."""
    starts_M: I64
    objects_M: I64
    """Which object a member leads to, -1 for none; the line's own is 0."""
    fields_M: I64
    """Which field it is, -1 for none."""
    below_M2: I64
    """The fields inside: the first, and behind the last."""
    words_S2: U64
    """Of the name in each slot, the first and the last bytes."""
    slots_S4: I64
    """Its size, -1 for none; its object; which member it is, -1 for an unwanted one; the slot of the name behind it."""


@kernel
def _ends(words: U64, at: int, size: int) -> tuple[np.uint64, np.uint64]:
    """The first and the last bytes of a name, a word each."""
    mask = _FIRST[min(size, WORD)]
    return words[at] & mask, words[at + max(size - WORD, 0)] & mask


@kernel
def _slot(first: np.uint64, last: np.uint64, size: int, parent: int) -> int:
    """Where to look for a name; only so many bits count as there are slots."""
    mixed = (first + np.uint64(size)) * _K1 ^ (last + np.uint64(parent)) * _K2
    return int(np.int64(mixed * _K1 >> np.uint64(20)))


@inlined
def _is_in(slot: int, text: Bytes, at: int, size: int, tree: Tree) -> bool:
    """Whether the name of that size at `at` is the one in a slot of the right size and object."""
    first, last = _ends(text.words, at, size)
    same = tree.words_S2[slot, 0] == first and tree.words_S2[slot, 1] == last
    if same and size > 2 * WORD:
        start = tree.starts_M[tree.slots_S4[slot, 2]]
        for place in range(size):
            same &= text.data[at + place] == tree.names.data[start + place]
    return bool(same)


@inlined
def _look_up(text: Bytes, at: int, size: int, parent: int, tree: Tree) -> int:
    """The slot of a name; of one that has none, the first behind those of wanted names becomes its own."""
    first, last = _ends(text.words, at, size)
    n_slots = len(tree.slots_S4) - 1
    slot = _slot(first, last, size, parent) & (n_slots - 1)
    while True:
        if tree.slots_S4[slot, 0] == size and tree.slots_S4[slot, 1] == parent and _is_in(slot, text, at, size, tree):
            return slot
        if tree.slots_S4[slot, 2] < 0:
            break
        slot = (slot + 1) & (n_slots - 1)
    if size > 2 * WORD:
        return n_slots
    tree.words_S2[slot, 0], tree.words_S2[slot, 1] = first, last
    tree.slots_S4[slot, 0], tree.slots_S4[slot, 1] = size, parent
    return slot


@inlined
def name(text: Bytes, at: int, parent: int, before: int, tree: Tree) -> tuple[int, int]:
    """The place behind the name at `at`, -1 for what the strict parser must judge; and its slot.

    First it is compared with the name that came last behind the one `before`: where that is right, nothing has to wait
    until the end of the name is found.
    """
    slot = tree.slots_S4[before, 3]
    size = tree.slots_S4[slot, 0]
    known = size >= 0 and tree.slots_S4[slot, 1] == parent and at + size < len(text.data)
    if known and text.data[at + size] == QUOTE and _is_in(slot, text, at, size, tree):
        return at + size + 1, slot
    end, kind = skip_text(text.data, at)
    if end < 0 or kind == ESCAPED:
        return -1, slot
    slot = _look_up(text, at, end - at, parent, tree)
    tree.slots_S4[before, 3] = slot
    return end + 1, slot


def tree_of(paths: Sequence[str]) -> Tree:
    """The tree of these paths, sorted by their names: field W is the one of path W."""
    fields = {tuple(path.split(".")): field for field, path in enumerate(paths)}
    members = list(dict.fromkeys(path[:depth] for path in fields for depth in range(1, len(path) + 1)))
    inner = [member for member in members if any(path[: len(member)] == member != path for path in fields)]
    objects = {member: 1 + number for number, member in enumerate(inner)} | {(): 0}
    inside = [[field for path, field in fields.items() if path[: len(m)] == m != path] for m in members]
    names, parents = [member[-1].encode() for member in members], [objects[member[:-1]] for member in members]
    text = bytes_of(b"".join(name + b"\n" * WORD for name in names))
    starts_M = np.cumsum([0, *(len(name) + WORD for name in names)])[:-1]
    return Tree(
        text,
        starts_M,
        np.array([objects.get(member, -1) for member in members], np.int64),
        np.array([fields.get(member, -1) for member in members], np.int64),
        np.array([(found[0], found[-1] + 1) if found else (0, 0) for found in inside], np.int64).reshape(-1, 2),
        *_slots(text.words, starts_M, np.array([len(name) for name in names], np.int64), np.array(parents, np.int64)),
    )


def _slots(words: U64, starts_M: I64, sizes_M: I64, parents_M: I64) -> tuple[U64, I64]:
    """Slots with the wanted names in them, most of which stay free, and a last one for names that get none."""
    n_slots = max(_SLOTS, 1 << (4 * len(starts_M)).bit_length())
    words_S2, slots_S4 = np.zeros((n_slots + 1, 2), np.uint64), np.full((n_slots + 1, 4), -1)
    slots_S4[:, 3] = n_slots
    for member, start, size, parent in zip(range(len(starts_M)), starts_M, sizes_M, parents_M, strict=True):
        ends = _ends(words, start, size)
        slot = _slot(*ends, size, parent) % n_slots
        while slots_S4[slot, 2] >= 0:
            slot = (slot + 1) % n_slots
        words_S2[slot] = ends
        slots_S4[slot, :3] = size, parent, member
    return words_S2, slots_S4
