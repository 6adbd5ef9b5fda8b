"""The rules of the funnel, as one plain loop in event order: `join_events`.

Each small function states one rule of the design; the tests run all of them compiled and as plain Python.
"""

from typing import Final

import numpy as np

from streamctr.events import Outcome
from streamctr.idmap import find, insert, near, remove
from streamctr.join.columns import (
    CLOSED_HEAD,
    CLOSED_TAIL,
    F64,
    FINAL_ROOTS,
    FREE,
    I64,
    N_CLOSED,
    N_JOINS,
    N_ROWS,
    ORPHAN_MS,
    REMEMBER_MS,
    RESOLVE,
    RESOLVE_MS,
    U64,
    WAIT_HEAD,
    WAIT_TAIL,
    State,
)
from streamctr.kernel import inlined, kernel
from streamctr.samples import ABSENT, FINAL, LATE, NEVER_MS

_WAITING: Final = int(Outcome.WAITING)
_JOINED: Final = int(Outcome.JOINED)
_DUPLICATE: Final = int(Outcome.DUPLICATE)
_EXPIRED: Final = int(Outcome.EXPIRED)
_ORPHAN: Final = int(Outcome.ORPHAN)


@inlined
def _emit(state: State, slot: int, emit_ms: int) -> int:
    """A row that says nothing yet; its place."""
    n = state.meta[N_ROWS]
    state.meta[N_ROWS] = n + 1
    state.rows.emit_ms[n] = emit_ms
    state.rows.slot[n] = slot
    state.rows.root[n] = state.slots.root[slot]
    for k in range(state.rows.says.shape[1]):
        state.rows.says[n, k] = 0
        state.rows.label[n, k] = 0
        state.rows.at_ms[n, k] = state.slots.at_ms[slot, k]
    return int(n)


@inlined
def _close(state: State, slot: int, now_ms: int) -> None:
    """All stages are final: remember the root for a while; its slot is free again at the chunk's end."""
    meta = state.meta
    root = state.slots.root[slot]
    remove(state.open, root)
    state.closed[meta[N_CLOSED]] = slot
    meta[N_CLOSED] += 1
    meta[FINAL_ROOTS] += 1
    ring = state.remembered
    place = meta[CLOSED_TAIL] % len(ring.root)
    meta[CLOSED_TAIL] += 1
    bits = 0
    for k in range(state.slots.at_ms.shape[1]):
        if state.slots.at_ms[slot, k] != NEVER_MS:
            bits |= 1 << k
    ring.root[place] = root
    ring.stage[place] = bits
    ring.due_ms[place] = now_ms + meta[REMEMBER_MS]
    insert(state.remembered_of, root, place)


@inlined
def _finish(state: State, slot: int, stage: int) -> None:
    """The label of this stage will not change any more."""
    state.slots.final[slot, stage] = 1
    state.slots.pending[slot] -= 1


@inlined
def _deny_behind(state: State, row: int, slot: int, stage: int) -> None:
    """What lies behind a final 0 will never happen: the row says so of every such stage."""
    for k in range(stage + 1, state.rows.says.shape[1]):
        if state.tree.behind[stage, k]:
            state.rows.says[row, k] |= ABSENT
            _finish(state, slot, k)


@inlined
def _first_due(state: State, now_ms: int) -> tuple[int, int]:
    """The queue whose head fires next, -1 for none by `now_ms`, and when."""
    chosen = -1
    due = 0
    for q in range(len(state.tree.queue_parent)):
        head = state.heads[q]
        if head >= 0:
            head_due = state.slots.at_ms[head, state.tree.queue_parent[q]] + state.tree.queue_offset[q]
            if head_due <= now_ms and (chosen < 0 or head_due < due):
                chosen = q
                due = head_due
    return chosen, due


@inlined
def _fire(state: State, now_ms: int) -> bool:
    """Fire the first timer that is due by `now_ms`, in (due, place of the parent, offset, who came first)."""
    slots = state.slots
    chosen, due = _first_due(state, now_ms)
    if chosen < 0:
        return False
    slot = state.heads[chosen]
    state.heads[chosen] = slots.following[chosen, slot]
    n = _emit(state, slot, due)
    for k in range(1, state.rows.says.shape[1]):
        says = state.tree.queue_says[chosen, k]
        if says == 0:
            continue
        happened = slots.at_ms[slot, k] != NEVER_MS
        state.rows.says[n, k] |= says
        state.rows.label[n, k] = 1 if happened else 0
        if says & FINAL:
            _finish(state, slot, k)
            if not happened:
                _deny_behind(state, n, slot, k)
    if slots.pending[slot] == 0:
        _close(state, slot, due)
    return True


@inlined
def _unlink(state: State, place: int, before: int) -> None:
    """Take a waiting event out of its root's list, where it follows `before` (-1: it is the first)."""
    ring = state.waiting
    root = ring.root[place]
    following = ring.following[place]
    ring.alive[place] = 0
    if before >= 0:
        ring.following[before] = following
        if following < 0:
            ring.last[find(state.waiting_of, root)] = before
    elif following >= 0:
        ring.last[following] = ring.last[place]
        insert(state.waiting_of, root, following)
    else:
        remove(state.waiting_of, root)


@inlined
def _forget(state: State, now_ms: int) -> None:
    """Give up waits and memories that end by `now_ms`."""
    meta = state.meta
    ring = state.waiting
    while meta[WAIT_HEAD] < meta[WAIT_TAIL]:
        place = meta[WAIT_HEAD] % len(ring.root)
        if ring.due_ms[place] > now_ms:
            break
        meta[WAIT_HEAD] += 1
        if ring.alive[place]:  # the oldest of its root, so the first in its list
            state.counts[ring.stage[place], _WAITING] -= 1
            state.counts[ring.stage[place], _ORPHAN] += 1
            _unlink(state, place, -1)
    memory = state.remembered
    while meta[CLOSED_HEAD] < meta[CLOSED_TAIL]:
        place = meta[CLOSED_HEAD] % len(memory.root)
        if memory.due_ms[place] > now_ms:
            break
        meta[CLOSED_HEAD] += 1
        remove(state.remembered_of, memory.root[place])


@inlined
def _wait(state: State, stage: int, root: np.uint64, now_ms: int, value: float) -> None:
    """Keep an event until its parent comes or its wait is over."""
    ring = state.waiting
    place = state.meta[WAIT_TAIL] % len(ring.root)
    state.meta[WAIT_TAIL] += 1
    ring.root[place] = root
    ring.stage[place] = stage
    ring.value[place] = value
    ring.due_ms[place] = now_ms + state.meta[ORPHAN_MS]
    ring.alive[place] = 1
    ring.following[place] = -1
    ring.last[place] = place
    first = find(state.waiting_of, root)
    if first < 0:
        insert(state.waiting_of, root, place)
    else:
        ring.following[ring.last[first]] = place
        ring.last[first] = place
    state.counts[stage, _WAITING] += 1


@inlined
def _happen(state: State, slot: int, stage: int, now_ms: int, event: int, value: float) -> None:
    """A stage has happened: note it, start its children's timers, and look for events that waited for it."""
    slots = state.slots
    slots.at_ms[slot, stage] = now_ms
    state.counts[stage, _JOINED] += 1
    n = state.meta[N_JOINS]
    state.meta[N_JOINS] = n + 1
    state.joins.slot[n] = slot
    state.joins.stage[n] = stage
    state.joins.time_ms[n] = now_ms
    state.joins.event[n] = event
    state.joins.value[n] = value
    for q in range(state.tree.queues_of[stage], state.tree.queues_of[stage + 1]):
        slots.following[q, slot] = -1
        if state.heads[q] < 0:
            state.heads[q] = slot
        else:
            slots.following[q, state.tails[q]] = slot
        state.tails[q] = slot
    if find(state.waiting_of, slots.root[slot]) >= 0:
        state.meta[RESOLVE] = slot
        state.meta[RESOLVE_MS] = now_ms


@inlined
def _join_child(state: State, slot: int, stage: int, now_ms: int, event: int, value: float) -> None:
    """A child whose parent has happened and whose label is not final."""
    _happen(state, slot, stage, now_ms, event, value)
    if now_ms >= state.slots.at_ms[slot, state.tree.parent[stage]] + state.tree.observe_ms[stage]:
        n = _emit(state, slot, now_ms)
        state.rows.says[n, stage] = LATE
        state.rows.label[n, stage] = 1


@inlined
def _open(state: State, root: np.uint64, now_ms: int, event: int, value: float) -> int:
    """A new root: its slot."""
    slots = state.slots
    state.meta[FREE] -= 1
    slot = slots.free[state.meta[FREE]]
    slots.root[slot] = root
    for k in range(slots.at_ms.shape[1]):
        slots.at_ms[slot, k] = NEVER_MS
        slots.final[slot, k] = 0
    slots.pending[slot] = slots.at_ms.shape[1] - 1
    insert(state.open, root, slot)
    _happen(state, slot, 0, now_ms, event, value)
    _emit(state, slot, now_ms)
    return int(slot)


@inlined
def _handle(state: State, stage: int, root: np.uint64, now_ms: int, event: int, value: float) -> None:
    """One event at its time: joined, duplicate, expired, or waiting."""
    slot = find(state.open, root)
    if slot >= 0:
        slots = state.slots
        if slots.at_ms[slot, stage] != NEVER_MS:
            state.counts[stage, _DUPLICATE] += 1
        elif slots.final[slot, stage]:
            state.counts[stage, _EXPIRED] += 1
        elif slots.at_ms[slot, state.tree.parent[stage]] == NEVER_MS:
            _wait(state, stage, root, now_ms, value)
        else:
            _join_child(state, slot, stage, now_ms, event, value)
        return
    place = find(state.remembered_of, root)
    if place >= 0:
        happened = (state.remembered.stage[place] >> stage) & 1
        state.counts[stage, _DUPLICATE if happened else _EXPIRED] += 1
    elif stage == 0:
        slot = _open(state, root, now_ms, event, value)
        if state.slots.pending[slot] == 0:
            _close(state, slot, now_ms)
    else:
        _wait(state, stage, root, now_ms, value)


@inlined
def _resolve(state: State) -> None:
    """Of the events that wait for the root in `meta[RESOLVE]`, take the first whose parent has happened."""
    meta = state.meta
    slot = meta[RESOLVE]
    now_ms = meta[RESOLVE_MS]
    slots = state.slots
    ring = state.waiting
    before = -1
    place = find(state.waiting_of, slots.root[slot])
    while place >= 0:
        stage = ring.stage[place]
        if slots.at_ms[slot, state.tree.parent[stage]] != NEVER_MS:
            state.counts[stage, _WAITING] -= 1
            _unlink(state, place, before)
            if slots.at_ms[slot, stage] != NEVER_MS:
                state.counts[stage, _DUPLICATE] += 1
            elif slots.final[slot, stage]:
                state.counts[stage, _EXPIRED] += 1
            else:
                _join_child(state, slot, stage, now_ms, -1, ring.value[place])
            return
        before = place
        place = ring.following[place]
    meta[RESOLVE] = -1


@kernel
def fetch(state: State, root: U64) -> int:
    """Have what the loop will ask for at hand: one miss of the cache after another would cost more than the rules."""
    seen = 0
    for i in range(len(root)):
        seen ^= near(state.open, root[i]) ^ near(state.remembered_of, root[i]) ^ near(state.waiting_of, root[i])
    return seen


@kernel
def join_events(
    state: State,
    event: tuple[I64, I64, U64, F64],
    begin: int,
    advance_ms: int,
) -> tuple[int, bool]:
    """Take events from `begin` on, then advance; stops early when the output is full: (next event, all done).

    Args:
        state: what is known of open roots; rows and joins are written into it.
        event: times, stages, roots and values of ordered events, (N,) each.
        begin: the first to take.
        advance_ms: up to when timers fire behind the last.
    """
    time_ms, stage, root, value = event
    meta = state.meta
    i = begin
    state.rows.slot[0] = fetch(state, root[begin:])
    while True:
        if meta[N_ROWS] + 2 > len(state.rows.emit_ms) or meta[N_JOINS] + 1 > len(state.joins.slot):
            return i, False
        if meta[RESOLVE] >= 0:
            now_ms = meta[RESOLVE_MS]
        elif i < len(time_ms):
            now_ms = time_ms[i]
        else:
            now_ms = advance_ms
        if _fire(state, now_ms):
            continue
        _forget(state, now_ms)
        if meta[RESOLVE] >= 0:
            _resolve(state)
        elif i < len(time_ms):
            _handle(state, stage[i], root[i], now_ms, i, value[i])
            i += 1
        else:
            return i, True
