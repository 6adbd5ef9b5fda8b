"""Room for the loop, chunk by chunk: the Python side of the joiner."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from streamctr.events import EventBatch, Outcome
from streamctr.idmap import IdMap, new_map, reserve
from streamctr.join.columns import (
    CLOSED_HEAD,
    CLOSED_TAIL,
    FINAL_ROOTS,
    FREE,
    I64,
    META_SIZE,
    N_CLOSED,
    N_JOINS,
    N_ROWS,
    ORPHAN_MS,
    REMEMBER_MS,
    RESOLVE,
    WAIT_HEAD,
    WAIT_TAIL,
    Joins,
    Remembered,
    Rows,
    Slots,
    State,
    Tree,
    Waiting,
)
from streamctr.join.loop import join_events
from streamctr.ports import Arrays
from streamctr.samples import FINAL, OBSERVED
from streamctr.schema import Config, DurationMs, Funnel

Columns = TypeVar("Columns", bound=NamedTuple)

_WIDTHS: Final[dict[str, Any]] = {"root": np.uint64, "value": np.float64, "alive": np.uint8}
_LINKS: Final = ("following", "last")
"""Columns of places in the ring; -1 for none."""


class JoinConfig(Config):
    """How long a child waits for its parent, and how long a closed root is remembered; both in event time."""

    orphan_wait: DurationMs = 10_000
    remember: DurationMs = 3_600_000


@dataclass(frozen=True, slots=True)
class Joined:
    """What one chunk gave; `rows.slot` and `joins.slot` hold until the next chunk is asked for."""

    events: EventBatch
    rows: Rows
    joins: Joins
    first_ordinal: int
    n_slots: int


class Joiner:
    """Joins events of a funnel: `push` what the order stage released, and the watermark.

    Args:
        config: waits and memory.
        funnel: the tree of stages.
        chunk_rows: at most so many rows leave at once; no effect on what they say.
    """

    def __init__(self, config: JoinConfig, funnel: Funnel, chunk_rows: int = 16_384) -> None:
        tree = _tree(funnel)
        stages, queues = len(funnel.stages), len(tree.queue_parent)
        self._ordinal = 0
        meta = np.zeros(META_SIZE, np.int64)
        meta[RESOLVE], meta[ORPHAN_MS], meta[REMEMBER_MS] = -1, config.orphan_wait, config.remember
        self._state = State(
            tree=tree,
            slots=_slots(0, stages, queues),
            heads=np.full(queues, -1, np.int64),
            tails=np.full(queues, -1, np.int64),
            open=new_map(8),
            waiting=_ring(Waiting, 8),
            waiting_of=new_map(8),
            remembered=_ring(Remembered, 8),
            remembered_of=new_map(8),
            counts=np.zeros((stages, len(Outcome)), np.int64),
            meta=meta,
            rows=_rows(chunk_rows, stages),
            joins=_joins(chunk_rows),
            closed=np.zeros(chunk_rows, np.int64),
        )

    @property
    def rows(self) -> int:
        """How many rows it has said: the ordinal of the next one."""
        return self._ordinal

    def push(self, events: EventBatch, advance_ms: int) -> Iterator[Joined]:
        """Take ordered events, then fire all timers due by `advance_ms` (not before the newest event)."""
        begin, done = 0, False
        columns = events.time_ms, events.stage, events.root, events.value
        while not done:
            self._make_room(len(events) - begin)
            begin, done = join_events(self._state, columns, begin, advance_ms)
            meta = self._state.meta
            rows, joins = _head(self._state.rows, meta[N_ROWS]), _head(self._state.joins, meta[N_JOINS])
            yield Joined(events, rows, joins, self._ordinal, len(self._state.slots.root))
            self._ordinal += int(meta[N_ROWS])
            self._release()

    @property
    def counts(self) -> I64:
        """Events by stage and `Outcome`, (K, outcomes); `WAITING` are those that wait for a parent now."""
        return self._state.counts

    @property
    def roots_open(self) -> int:
        """Roots that have a stage that is not final."""
        return int(self._state.open.n_keys[0])

    @property
    def roots_final(self) -> int:
        """Roots all of whose stages are final."""
        return int(self._state.meta[FINAL_ROOTS])

    def size_bytes(self) -> int:
        """Bytes of the open roots, the waiting events and the remembered roots."""
        return sum(array.nbytes for array in self.state().values())

    def state(self) -> Arrays:
        """All columns but the output of the chunk, which is empty between chunks."""
        arrays: Arrays = {"ordinal": np.array([self._ordinal])}
        for name in ("heads", "tails", "counts", "meta"):
            arrays[name] = getattr(self._state, name)
        for name in ("slots", "open", "waiting", "waiting_of", "remembered", "remembered_of"):
            for field, array in getattr(self._state, name)._asdict().items():
                arrays[f"{name}.{field}"] = array
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Become the joiner that gave `arrays`."""
        self._ordinal = int(arrays["ordinal"][0])
        changed: dict[str, Any] = {name: arrays[name].copy() for name in ("heads", "tails", "counts", "meta")}
        for name in ("slots", "open", "waiting", "waiting_of", "remembered", "remembered_of"):
            old = getattr(self._state, name)
            changed[name] = type(old)(
                *(arrays[f"{name}.{field}"].astype(column.dtype) for field, column in old._asdict().items())
            )
        self._state = self._state._replace(**changed)

    def _make_room(self, n_events: int) -> None:
        """At most `chunk_rows` roots open and close in a chunk, and every event may open one or have to wait."""
        state, limit = self._state, len(self._state.rows.emit_ms)
        opening = min(limit, n_events)
        closing = min(limit, self.roots_open + n_events)
        if state.meta[FREE] < opening:
            state = state._replace(slots=_grown_slots(state.slots, state.meta, opening))
        if len(state.waiting.root) < state.meta[WAIT_TAIL] - state.meta[WAIT_HEAD] + n_events:
            state = _relaid(state, "waiting", WAIT_HEAD, WAIT_TAIL, n_events)
        if len(state.remembered.root) < state.meta[CLOSED_TAIL] - state.meta[CLOSED_HEAD] + closing:
            state = _relaid(state, "remembered", CLOSED_HEAD, CLOSED_TAIL, closing)
        self._state = state._replace(
            open=reserve(state.open, opening),
            waiting_of=reserve(state.waiting_of, n_events),
            remembered_of=reserve(state.remembered_of, closing),
        )

    def _release(self) -> None:
        """Closed slots are free again only now, when nothing of the chunk refers to them."""
        slots, meta = self._state.slots, self._state.meta
        free, n_closed = meta[FREE], meta[N_CLOSED]
        slots.free[free : free + n_closed] = self._state.closed[:n_closed]
        meta[FREE] += n_closed
        meta[N_CLOSED] = meta[N_ROWS] = meta[N_JOINS] = 0


def _tree(funnel: Funnel) -> Tree:
    stages = funnel.stages
    parent = np.array([stage.parent for stage in stages], np.int64)
    keys = sorted({(s.parent, offset) for s in stages[1:] for offset in (s.observe_ms, s.window_ms)})
    says = np.zeros((len(keys), len(stages)), np.uint8)
    for place, stage in enumerate(stages[1:], start=1):
        says[keys.index((stage.parent, stage.observe_ms)), place] |= OBSERVED
        says[keys.index((stage.parent, stage.window_ms)), place] |= FINAL
    behind = np.array([[a in funnel.path(b)[:-1] for b in range(len(stages))] for a in range(len(stages))], np.uint8)
    queue_parent = np.array([key[0] for key in keys], np.int64)
    return Tree(
        parent=parent,
        observe_ms=np.array([stage.observe_ms for stage in stages], np.int64),
        behind=behind,
        queue_parent=queue_parent,
        queue_offset=np.array([key[1] for key in keys], np.int64),
        queue_says=says,
        queues_of=np.searchsorted(queue_parent, np.arange(len(stages) + 1)).astype(np.int64),
    )


def _slots(size: int, stages: int, queues: int) -> Slots:
    return Slots(
        root=np.zeros(size, np.uint64),
        at_ms=np.zeros((size, stages), np.int64),
        final=np.zeros((size, stages), np.uint8),
        pending=np.zeros(size, np.uint8),
        following=np.zeros((queues, size), np.int32),
        free=np.zeros(size, np.int32),
    )


def _grown_slots(slots: Slots, meta: I64, extra: int) -> Slots:
    old, stages = slots.at_ms.shape
    size = max(2 * old, old + extra)
    larger = _slots(size, stages, len(slots.following))
    for name in ("root", "at_ms", "final", "pending", "free"):
        getattr(larger, name)[:old] = getattr(slots, name)
    larger.following[:, :old] = slots.following
    larger.free[meta[FREE] : meta[FREE] + size - old] = np.arange(size - 1, old - 1, -1)
    meta[FREE] += size - old
    return larger


def _ring(kind: Any, size: int) -> Any:
    columns: dict[str, Any] = {name: np.zeros(size, _WIDTHS.get(name, np.int64)) for name in kind._fields}
    for name in {*columns} & {*_LINKS}:
        columns[name][:] = -1
    return kind(**columns)


def _relaid(state: State, name: str, head_at: int, tail_at: int, extra: int) -> State:
    """The state with the ring `name` in a larger one, its first entry at place 0, and all that points into it moved."""
    ring: Waiting | Remembered = getattr(state, name)
    ids: IdMap = getattr(state, f"{name}_of")
    head, tail = int(state.meta[head_at]), int(state.meta[tail_at])
    size = len(ring.root)
    larger: Waiting | Remembered = _ring(type(ring), max(2 * size, tail - head + extra))
    live = np.arange(head, tail) % size
    for field in ring._fields:
        getattr(larger, field)[: tail - head] = getattr(ring, field)[live]
    moved = np.full(size + 1, -1, np.int64)  # the last place stands for -1, none
    moved[live] = np.arange(tail - head)
    for column in (ids.values, *(getattr(larger, link) for link in _LINKS if link in ring._fields)):
        column[:] = moved[column]
    state.meta[head_at], state.meta[tail_at] = 0, tail - head
    changed: dict[str, Any] = {name: larger}
    return state._replace(**changed)


def _rows(size: int, stages: int) -> Rows:
    return Rows(
        emit_ms=np.zeros(size, np.int64),
        slot=np.zeros(size, np.int64),
        root=np.zeros(size, np.uint64),
        says=np.zeros((size, stages), np.uint8),
        label=np.zeros((size, stages), np.uint8),
        at_ms=np.zeros((size, stages), np.int64),
    )


def _joins(size: int) -> Joins:
    places = {name: np.zeros(size, np.int64) for name in Joins._fields if name != "value"}
    return Joins(**places, value=np.zeros(size, np.float64))


def _head(columns: Columns, n: int) -> Columns:
    """The first `n` of each column, copied: the next chunk writes over them."""
    return type(columns)(*(column[:n].copy() for column in columns))
