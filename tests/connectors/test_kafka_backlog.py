"""Who is read on, who is given and who is idle: decided without a client and without a clock."""

import numpy as np
import pytest

from connectors.kafka.backlog import Backlog
from connectors.kafka.client import Records
from streamctr.ports import Original

A, B, C = ("clicks", 0), ("clicks", 1), ("views", 0)
MOST, MOST_BYTES = 1000, 1 << 20
HELD = 256
"""Bytes that a record takes besides its value, as the backlog counts them."""


def records(place, *offsets, size=1):
    values = [b"x" * size] * len(offsets)
    times_ms = np.array(offsets, np.int64)

    def original(at):
        return Original(values[at], None, (), offsets[at])

    return Records(place, values, np.array(offsets, np.int64), times_ms, original, size * len(offsets))


def backlog(buffer_bytes=1 << 20, idle_s=30.0, places=(A, B, C)):
    made = Backlog(buffer_bytes, idle_s)
    for place in places:
        made.add(place, 0, 0, 0, 100.0)
    return made


def given(made, partition, most=MOST, most_bytes=MOST_BYTES):
    """Partition, offsets, and what is said of it; None where there is nothing to say."""
    chosen = made.choose(partition)
    if chosen is None:
        return None
    block = made.give(chosen, most, most_bytes)
    offsets = [offset for some in block.records for offset in some.offsets.tolist()]
    said = [word for word in ("ended", "idle") if getattr(block, word)]
    return chosen, offsets, said


def nexts(made):
    return [lag.next for lag in made.lag()]


def test_only_the_partition_that_is_asked_for_is_given():
    made = backlog()
    made.put([records(A, 0, 1), records(B, 0)], 101)
    assert given(made, 2) is None
    assert nexts(made) == [0, 0, 0]
    assert given(made, 1) == (1, [0], [])
    assert given(made, 0) == (0, [0, 1], [])
    assert nexts(made) == [2, 1, 0]


def test_what_waits_is_joined_and_parted_at_the_most_that_is_wanted():
    made = backlog()
    made.put([records(A, 0, 1, 2), records(A, 5, 6)], 101)
    assert [given(made, 0, most=2) for _ in range(3)] == [(0, [0, 1], []), (0, [2, 5], []), (0, [6], [])]
    made.put([records(A, *range(7, 17), size=100)], 102)
    assert given(made, 0, most_bytes=399) == (0, [7, 8, 9, 10], [])
    assert given(made, 0, most_bytes=1) == (0, [11], [])  # one at least
    assert nexts(made) == [12, 0, 0]


def test_offsets_without_a_message_are_passed_when_nothing_before_them_waits():
    made = backlog()
    made.put([records(A, 0, 1)], 101)
    made.reached({A: 4})
    assert given(made, 0, most=1) == (0, [0], [])
    assert nexts(made)[0] == 1
    assert given(made, 0) == (0, [1], [])
    assert nexts(made)[0] == 4
    made.reached({A: 6})
    assert nexts(made)[0] == 4  # it moves with what is given out
    made.give(0, MOST, MOST_BYTES)
    assert nexts(made)[0] == 6


def test_records_that_came_before_are_not_taken_twice():
    made = backlog()
    made.put([records(A, 0, 1, 2)], 101)
    made.put([records(A, 1, 2, 3)], 101)
    assert given(made, 0) == (0, [0, 1, 2, 3], [])


def test_one_with_more_than_its_share_is_left_out_until_it_has_less_than_half_of_it():
    share = 10 * (HELD + 100)
    made = backlog(buffer_bytes=3 * share)
    assert made.wanted() == {A: 0, B: 0, C: 0}
    made.put([records(A, *range(10), size=100)], 101)
    assert made.waiting_bytes == share
    assert made.wanted() == {A: 10, B: 0, C: 0}
    made.put([records(A, 10, size=100)], 101)
    assert made.wanted() == {B: 0, C: 0}
    given(made, 0, most=5)
    assert made.wanted() == {B: 0, C: 0}  # six wait
    given(made, 0, most=1)
    assert made.wanted() == {A: 11, B: 0, C: 0}
    assert made.waiting_bytes == share / 2


def test_where_all_have_their_share_nothing_is_read_and_one_that_was_given_out_is_read_again():
    made = backlog(buffer_bytes=300)
    made.put([records(place, 0) for place in (A, B, C)], 101)
    assert made.wanted() == {}
    given(made, 1)
    assert made.wanted() == {B: 1}


def test_a_partition_is_idle_when_it_was_silent_for_long_and_the_brokers_said_then_that_this_is_its_end():
    made = backlog()
    made.put([records(A, 0)], 110)
    given(made, 0)
    made.confirm({A: 1, B: 0, C: 5}, 139.9)
    assert given(made, 0) is None
    made.confirm({A: 1, B: 0, C: 5}, 140)
    assert given(made, 0) == (0, [], ["idle"])
    assert given(made, 0) is None  # it is said once
    assert given(made, 1) == (1, [], ["idle"])
    assert given(made, 2) is None  # five are to come


def test_brokers_that_do_not_answer_make_nobody_idle_and_an_end_that_has_moved_takes_it_back():
    made = backlog(places=(A,))
    made.confirm({A: 0}, 125)
    assert given(made, 0) is None  # asked last when it had been silent for 25 s
    made.confirm({A: 0}, 131)
    made.confirm({A: 3}, 132)
    assert given(made, 0) is None


def test_what_waits_and_was_not_asked_for_is_not_idle():
    made = backlog(places=(A,))
    made.put([records(A, 0)], 100)
    made.confirm({A: 1}, 500)
    assert given(made, 0) == (0, [0], [])
    assert given(made, 0) == (0, [], ["idle"])  # all was given out, and nothing came since


def test_one_that_was_idle_comes_before_the_one_that_is_asked_for_and_may_become_idle_again():
    made = backlog()
    made.confirm({A: 0, B: 0, C: 0}, 130)
    assert given(made, 1) == (1, [], ["idle"])
    made.put([records(A, 0), records(B, 0)], 140)
    assert given(made, 0) == (1, [0], [])
    assert given(made, 0) == (0, [0], [])
    made.confirm({B: 1}, 169)
    assert given(made, 1) is None
    made.confirm({B: 1}, 170)
    assert given(made, 1) == (1, [], ["idle"])


def test_nobody_is_idle_where_that_is_off():
    made = backlog(idle_s=None)
    made.confirm({A: 0, B: 0, C: 0}, 1e9)
    assert given(made, 0) is None


def test_a_partition_ends_where_it_is_told_to_and_says_so_with_its_last_messages():
    made = backlog()
    made.end_at({A: 2, B: 0, C: 3})
    made.put([records(A, 0, 1, 2, 3), records(C, 0)], 101)
    assert made.wanted() == {C: 1}
    assert given(made, 0, most=1) == (0, [0], [])
    assert given(made, 0) == (0, [1], ["ended"])
    assert nexts(made) == [2, 0, 0]
    assert given(made, 1) == (1, [], ["ended"])
    assert given(made, 1) == (1, [], ["ended"])
    assert given(made, 2) == (2, [0], [])
    made.reached({C: 7})  # offsets 1 and 2 hold no message
    assert given(made, 2) == (2, [], ["ended"])
    assert nexts(made) == [2, 0, 3]


def test_where_all_are_idle_all_can_be_ended_those_first_that_were_said_to_be_idle():
    made = backlog()
    made.confirm({A: 0, B: 0, C: 1}, 200)
    assert given(made, 1) == (1, [], ["idle"])
    made.finish_if_idle()
    assert given(made, 1) is None  # one more is to come
    made.put([records(C, 0)], 201)
    made.confirm({A: 0, B: 0, C: 1}, 231)
    made.finish_if_idle()
    assert given(made, 2) == (2, [0], [])  # it waited, so not all were idle
    made.finish_if_idle()
    assert [given(made, 0) for _ in range(2)] == [(1, [], ["ended"]), (0, [], ["ended"])]
    assert given(made, 2) == (2, [], ["ended"])
    assert made.wanted() == {}


def test_going_elsewhere_forgets_what_waited_and_what_was_said():
    made = backlog(places=(A, B))
    made.put([records(A, 0, 1)], 101)
    made.confirm({A: 2, B: 0}, 200)
    given(made, 1)
    made.go_to({A: 7, B: 3}, 200)
    assert (made.wanted(), nexts(made), made.waiting_bytes) == ({A: 7, B: 3}, [7, 3], 0)
    assert given(made, 0) is None
    made.order([B, A])
    made.put([records(A, 7)], 201)
    assert given(made, 1) == (1, [7], [])


def test_what_is_gone_is_skipped_and_what_was_read_before_it_is_given_out():
    made = backlog(places=(A,))
    made.put([records(A, 0, 1)], 101)
    made.skip_to({A: 9})
    assert made.wanted() == {A: 9}
    made.put([records(A, 9)], 102)
    assert given(made, 0) == (0, [0, 1, 9], [])
    made.skip_to({A: 0})  # a topic that was created anew
    made.put([records(A, 0)], 103)
    assert given(made, 0) == (0, [0], [])
    assert nexts(made) == [1]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_put_and_asked_for_all_comes_once_and_in_order_and_never_much_more_than_the_buffer_waits(seed):
    chance = np.random.default_rng(seed)
    share = 20 * (HELD + 1)
    made = backlog(buffer_bytes=3 * share)
    found = {0: [], 1: [], 2: []}
    for _ in range(2000):
        wanted = made.wanted()
        for place, offset in wanted.items():
            if chance.random() < 0.3:
                made.put([records(place, *range(offset, offset + int(chance.integers(1, 8))))], 101)
        assert made.waiting_bytes <= 3 * (share + 7 * (HELD + 1))
        block = given(made, int(chance.integers(3)), most=int(chance.integers(1, 12)))
        if block is not None:
            found[block[0]] += block[1]
    assert all(offsets == list(range(len(offsets))) and len(offsets) > 100 for offsets in found.values())
