"""Histories as of the root, against deques; ties, eviction, any chunks."""

import itertools
from collections import OrderedDict, deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamctr.history import HistoryBuffer
from streamctr.schema import HistoryConfig
from streamctr.testing import check_stateful

CONFIG = HistoryConfig(of="click", take=("a", "b"), last=3)


def show(buffer, roots, behaviours):
    """What each root sees, [(a, b), ...] oldest first; roots (time, user), behaviours (time, user, a)."""
    n = len(roots)
    out, length = np.zeros((n, 3, 2), np.uint64), np.zeros(n, np.int32)
    time_ms, user = (np.array([root[k] for root in roots], t) for k, t in ((0, np.int64), (1, np.uint64)))
    behaved = (
        np.array([b[0] for b in behaviours], np.int64),
        np.array([b[1] for b in behaviours], np.uint64),
        np.array([(b[2], b[2] + 100) for b in behaviours], np.uint64).reshape(-1, 2),
    )
    buffer.run((time_ms, user, np.arange(n)), behaved, out, length)
    return [[tuple(int(v) for v in out[r, t]) for t in range(length[r])] for r in range(n)]


def plain(roots, behaviours, max_users, lag=0):
    """The same by ordered dict and deques."""
    users, seen, kept = OrderedDict(), [], 0
    for time_ms, user in roots:
        while kept < len(behaviours) and behaviours[kept][0] < time_ms - lag:
            _, who, what = behaviours[kept]
            kept += 1
            if who == 0:
                continue
            if who not in users and len(users) == max_users:
                users.popitem(last=False)
            users.setdefault(who, deque(maxlen=3)).append((what, what + 100))
            users.move_to_end(who)
        if user in users:
            users.move_to_end(user)
        seen.append(list(users.get(user, [])))
    return seen


def test_a_root_sees_only_what_lies_strictly_before_it():
    buffer = HistoryBuffer(CONFIG, 10)
    assert show(buffer, [(5, 1), (6, 1)], [(5, 1, 7)]) == [[], [(7, 107)]]


def test_a_behaviour_at_the_roots_own_time_does_not_push_out_an_older_one():
    buffer = HistoryBuffer(CONFIG, 10)
    assert show(buffer, [(5, 1)], [(1, 1, 1), (2, 1, 2), (3, 1, 3), (5, 1, 4)]) == [[(1, 101), (2, 102), (3, 103)]]
    assert show(buffer, [(6, 1)], []) == [[(2, 102), (3, 103), (4, 104)]]


def test_what_an_earlier_root_left_in_a_slot_is_gone():
    buffer = HistoryBuffer(CONFIG, 10)
    out, length = np.full((2, 3, 2), 9, np.uint64), np.full(2, 3, np.int32)
    roots = (np.array([5, 6]), np.array([1, 2], np.uint64), np.array([0, 1]))
    buffer.run(roots, (np.array([4]), np.array([1], np.uint64), np.array([[7, 8]], np.uint64)), out, length)
    assert out.tolist() == [[[7, 8], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]]
    assert length.tolist() == [1, 0]


def test_a_missing_user_has_no_history():
    buffer = HistoryBuffer(CONFIG, 10)
    assert show(buffer, [(5, 0)], [(1, 0, 1)]) == [[]]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=30).map(sorted),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(1, 50)), max_size=30).map(
        lambda rows: sorted(rows, key=lambda row: row[0])
    ),
    st.integers(1, 4),
    st.lists(st.integers(0, 13), max_size=4).map(sorted),
    st.integers(0, 4),
)
@settings(max_examples=200)
def test_any_chunks_show_what_deques_show(roots, behaviours, max_users, cuts, lag):
    buffer, seen = HistoryBuffer(CONFIG.model_copy(update={"lag": lag}), max_users), []
    for a, b in itertools.pairwise([-1, *cuts, 100]):
        seen += show(buffer, [r for r in roots if a <= r[0] < b], [x for x in behaviours if a <= x[0] < b])
    assert seen == plain(roots, behaviours, max_users, lag)


def test_a_behaviour_is_seen_from_one_millisecond_behind_the_lag_on():
    buffer = HistoryBuffer(CONFIG.model_copy(update={"lag": 10}), 9)
    assert show(buffer, [(15, 1), (16, 1)], [(5, 1, 7), (8, 1, 8)]) == [[], [(7, 107)]]
    assert show(buffer, [(18, 1), (19, 1)], []) == [[(7, 107)], [(7, 107), (8, 108)]]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=9).map(sorted),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(1, 50)), max_size=30).map(
        lambda rows: sorted(rows, key=lambda row: row[0])
    ),
    st.tuples(st.integers(9, 14), st.integers(0, 5)),
    st.integers(0, 4),
)
def test_what_a_root_would_see_is_what_it_sees_when_it_comes(roots, behaviours, root, lag):
    buffer = HistoryBuffer(CONFIG.model_copy(update={"lag": lag}), 9)
    show(buffer, roots, behaviours)
    ids_NLC, length_N = buffer.show(np.array([root[0]]), np.array([root[1]], np.uint64))
    assert [tuple(ids_NLC[0, t].tolist()) for t in range(length_N[0])] == show(buffer, [root], [])[0]
    assert not ids_NLC[0, length_N[0] :].any()


def test_to_show_keeps_nothing_and_touches_nobody():
    def asked(buffer):
        buffer.show(np.array([9, 9]), np.array([1, 3], np.uint64))
        return [array.tobytes() for array in buffer.state().values()]

    buffer = HistoryBuffer(CONFIG, 2)
    show(buffer, [(3, 1)], [(1, 1, 1), (2, 2, 2), (5, 1, 3)])
    before = [array.tobytes() for array in buffer.state().values()]
    assert asked(buffer) == before


def test_stateful():
    steps = [
        lambda b: show(b, [(3, 1), (4, 2)], [(1, 1, 1), (2, 2, 2), (4, 1, 3)]),
        lambda b: show(b, [(5, 1)], [(5, 3, 4)]),
        lambda b: show(b, [(7, 3), (7, 1), (8, 2)], []),
    ]
    check_stateful(lambda: HistoryBuffer(CONFIG, 2), steps)
