"""The joiner's columns: what the loop in `streamctr.join.loop` reads and writes.

Legend: S slots (open roots), K stages (0 is the root), Q timer queues, R rows, J joins.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.idmap import IdMap

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]


class Tree(NamedTuple):
    """The funnel as columns. A queue holds the timers of one parent and one offset, in (parent, offset) order."""

    parent: I64  # (K,)
    observe_ms: I64  # (K,)
    behind: U8  # (K, K): whether the second stage lies anywhere behind the first
    queue_parent: I64  # (Q,)
    queue_offset: I64  # (Q,)
    queue_says: U8  # (Q, K): what the queue's timer says of each stage
    queues_of: I64  # (K + 1,): queues of stage k are queues_of[k] .. queues_of[k + 1]


class Slots(NamedTuple):
    """Open roots, by slot."""

    root: U64  # (S,)
    at_ms: I64  # (S, K)
    final: U8  # (S, K)
    pending: U8  # (S,): stages behind the root that are not final
    following: I32  # (Q, S): the next slot in each timer queue
    free: I32  # (S,): a stack of free slots, `meta[FREE]` of them


class Waiting(NamedTuple):
    """A first-in-first-out ring of events that wait for a parent."""

    root: U64
    stage: I64
    value: F64  # what the event carries
    due_ms: I64
    alive: U8
    following: I64  # the next event that waits for the same root, -1 for none
    last: I64  # in the first event of a root, the last one


class Remembered(NamedTuple):
    """A first-in-first-out ring of closed roots."""

    root: U64
    stage: I64  # bits of the stages that had happened
    due_ms: I64


class Rows(NamedTuple):
    """Rows of the emission log without their features, which stand at `slot` until the chunk is released."""

    emit_ms: I64  # (R,)
    slot: I64  # (R,)
    root: U64  # (R,)
    says: U8  # (R, K)
    label: U8  # (R, K)
    at_ms: I64  # (R, K)


class Joins(NamedTuple):
    """Events that joined, in the order and at the time at which they are taken to happen."""

    slot: I64  # (J,)
    stage: I64  # (J,)
    time_ms: I64  # (J,)
    event: I64  # (J,): place in the pushed batch; -1 when it had waited
    value: F64  # (J,): what the event carries


class State(NamedTuple):
    """Everything that the loop reads and writes; the last three are the output of the chunk at hand."""

    tree: Tree
    slots: Slots
    heads: I64  # (Q,): first slot of each timer queue, -1 for none
    tails: I64  # (Q,)
    open: IdMap
    waiting: Waiting
    waiting_of: IdMap
    remembered: Remembered
    remembered_of: IdMap
    counts: I64  # (K, outcomes)
    meta: I64  # scalars, at the places below
    rows: Rows
    joins: Joins
    closed: I64  # (R,): slots that closed in this chunk


FREE, RESOLVE, RESOLVE_MS, N_ROWS, N_JOINS, N_CLOSED = range(6)
WAIT_HEAD, WAIT_TAIL, CLOSED_HEAD, CLOSED_TAIL, ORPHAN_MS, REMEMBER_MS, FINAL_ROOTS = range(6, 13)
META_SIZE: Final = 13
