"""Event-time order: any chunks and any interleaving of partitions release the same events, late ones are told."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamctr.events import EventBatch
from streamctr.order import LAST_MS, Orderer
from streamctr.testing import check_stateful, same


def events(rows):
    """(time, stage, root, content) rows as a batch."""
    columns = [np.array([row[k] for row in rows], np.int64) for k in range(4)]
    n = len(rows)
    return EventBatch(
        columns[0], columns[1], columns[2].astype(np.uint64), np.zeros(n, np.uint64), np.zeros((n, 0), np.uint64),
        np.zeros((n, 0)), columns[3].astype(np.uint64), np.zeros(n), np.ones(n),
    )  # fmt: skip


def orderer(partitions=1, lateness_ms=5):
    return Orderer(partitions, lateness_ms, EventBatch.empty(0, 0))


def test_equal_times_are_released_by_stage_then_root_then_content():
    order = orderer()
    order.push(0, events([(1, 1, 5, 0), (1, 0, 9, 0), (1, 0, 2, 7), (1, 0, 2, 3), (0, 1, 1, 1)]))
    order.end(0)
    released = order.release(order.watermark_ms())
    rows = list(zip(released.time_ms, released.stage, released.root, released.content, strict=True))
    assert rows == [(0, 1, 1, 1), (1, 0, 2, 3), (1, 0, 2, 7), (1, 0, 9, 0), (1, 1, 5, 0)]


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 4), min_size=70, max_size=200), st.integers(1, 3))
def test_many_events_of_one_moment_from_several_pushes_are_released_in_order(rows, pushes):
    order = orderer(lateness_ms=9)
    for part in np.array_split(np.array(rows), pushes):
        order.push(0, events(part))
    order.end(0)
    released = order.release(order.watermark_ms())
    columns = released.time_ms, released.stage, released.root, released.content
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == sorted(rows)


def test_what_a_row_carries_goes_with_it():
    order, first, again = orderer(partitions=2), events([(1, 0, 5, 0), (4, 0, 6, 0)]), events([(2, 0, 7, 0)])
    for place, part in enumerate((first, again)):
        ids, numbers = np.stack([part.root, part.root + 1], axis=1), part.root[:, None] / 2
        columns = {name: getattr(part, name) for name in part.__slots__} | {"ids_NF": ids, "numbers_NM": numbers}
        order.push(place, EventBatch(**columns))
        order.end(place)
    released = order.release(order.watermark_ms())
    assert released.ids_NF.tolist() == [[5, 6], [7, 8], [6, 7]]
    assert released.numbers_NM.tolist() == [[2.5], [3.5], [3.0]]


def test_an_event_exactly_as_old_as_the_lateness_allows_is_kept_and_an_older_one_is_late():
    order = orderer()
    late = order.push(0, events([(100, 0, 1, 0), (95, 0, 2, 0), (94, 0, 3, 0), (101, 0, 4, 0), (95, 0, 5, 0)]))
    assert late.tolist() == [False, False, True, False, True]


def test_a_partition_without_events_holds_the_watermark_until_it_ends():
    order = orderer(partitions=2)
    order.push(0, events([(100, 0, 1, 0), (200, 0, 2, 0)]))
    assert len(order.release(order.watermark_ms())) == 0
    order.end(1)
    assert order.release(order.watermark_ms()).time_ms.tolist() == [100]
    assert order.held.time_ms.tolist() == [200]


def test_what_a_message_tells_of_shares_its_fate_and_waits_for_its_own_time():
    order = orderer()
    lines, told = events([(100, 0, 1, 0), (94, 0, 2, 0), (97, 0, 3, 0)]), events([(101, 1, 2, 0), (120, 1, 3, 0)])
    assert order.push(0, lines, told, np.array([1, 2])).tolist() == [False, True, False]
    order.end(0)
    released = order.release(order.watermark_ms())
    assert list(zip(released.time_ms, released.root, strict=True)) == [(97, 3), (100, 1), (120, 3)]


def test_what_a_message_tells_of_makes_nothing_late():
    order = orderer()
    order.push(0, events([(100, 0, 1, 0)]), events([(500, 1, 1, 0)]), np.array([0]))
    assert order.watermark_ms() == 95
    assert order.push(0, events([(95, 0, 2, 0)])).tolist() == [False]


def test_until_holds_back_what_lies_at_it_or_behind_it():
    order = orderer()
    order.push(0, events([(10, 0, 1, 0), (20, 0, 2, 0), (30, 0, 3, 0)]))
    order.end(0)
    assert order.release(order.watermark_ms(20)).time_ms.tolist() == [10]
    assert order.release(order.watermark_ms()).time_ms.tolist() == [20, 30]


def test_after_the_end_only_what_is_newer_than_everything_released_is_accepted():
    order = orderer()
    order.push(0, events([(10, 0, 1, 0)]))
    order.end(0)
    order.release(order.watermark_ms())
    order.resume()
    assert order.push(0, events([(10, 0, 2, 0), (11, 0, 3, 0)])).tolist() == [True, False]


@st.composite
def streams(draw):
    """Some partitions, each a list of events with disorder, and two ways to read them."""
    row = st.tuples(st.integers(0, 40), st.integers(0, 2), st.integers(0, 4), st.integers(0, 3))
    partitions = draw(st.lists(st.lists(row, max_size=15), min_size=1, max_size=3))
    turns = [place for place, rows in enumerate(partitions) for _ in rows]
    return partitions, draw(st.permutations(turns)), draw(st.permutations(turns)), draw(st.integers(1, 4))


def read(partitions, turns, size, lateness_ms=5):
    """Release everything, taking `size` events a turn; the released batch and the late ones of each partition."""
    order = orderer(len(partitions), lateness_ms)
    at = [0] * len(partitions)
    released, late = [], [0] * len(partitions)
    for place, rows in enumerate(partitions):
        if not rows:
            order.end(place)
    for place in turns:
        late[place] += int(order.push(place, events(partitions[place][at[place] : at[place] + size])).sum())
        at[place] += size
        if at[place] >= len(partitions[place]):
            order.end(place)
        released.append(order.release(order.watermark_ms()))
    released.append(order.release(LAST_MS))
    return EventBatch.concat(released), late


@given(streams())
@settings(max_examples=200)
def test_any_chunks_and_any_interleaving_release_the_same_in_the_same_order(stream):
    partitions, turns, others, size = stream
    first, late = read(partitions, turns, 1)
    second, late_again = read(partitions, others, size)
    assert late == late_again
    assert same(first, second)
    keys = list(zip(first.time_ms, first.stage, first.root, first.content, strict=True))
    assert keys == sorted(keys)
    assert len(first) + sum(late) == sum(len(rows) for rows in partitions)


def test_stateful():
    steps = [
        lambda o: o.push(0, events([(10, 0, 1, 0), (30, 0, 2, 0), (26, 1, 1, 0), (20, 0, 9, 0)])),
        lambda o: o.release(o.watermark_ms()),
        lambda o: o.push(1, events([(12, 0, 3, 0), (40, 0, 4, 0)])),
        lambda o: o.release(o.watermark_ms()),
        lambda o: o.end(0),
        lambda o: o.release(o.watermark_ms()),
        lambda o: o.end(1),
        lambda o: (o.release(o.watermark_ms()), o.newest_released_ms),
    ]
    check_stateful(lambda: orderer(2), steps)


def test_partitions_that_a_state_does_not_know_stand_behind_and_hold_the_watermark_until_they_bring_something():
    before, after = orderer(), orderer(partitions=3)
    before.push(0, events([(100, 0, 1, 0), (200, 0, 2, 0)]))
    before.end(0)
    before.release(before.watermark_ms(150))
    after.restore(before.state())
    assert (after.all_ended, after.behind(), after.held.time_ms.tolist()) == (False, 1, [200])
    assert len(after.release(after.watermark_ms())) == 0
    # what is older than all that was said is late, whichever partition brings it
    assert after.push(1, events([(149, 0, 3, 0), (150, 0, 4, 0)])).tolist() == [True, False]
    after.push(2, events([(300, 0, 5, 0)]))
    assert after.watermark_ms() == 145
    after.end(1)
    assert after.release(after.watermark_ms()).time_ms.tolist() == [150, 200]


def test_what_was_promised_of_a_silent_partition_holds_after_a_restart_whatever_comes_when():
    order = orderer(partitions=2)
    order.promise(1, 7, 100)
    order.promise(1, 7, 90)  # said before
    rows = events([(98, 0, 1, 0), (99, 0, 2, 0), (100, 0, 3, 0)])
    assert order.push(1, rows, numbers=np.array([6, 7, 8])).tolist() == [False, True, False]
    assert order.push(0, events([(98, 0, 1, 0)]), numbers=np.array([9])).tolist() == [False]
    again = orderer(partitions=2)
    again.restore(order.state())
    assert again.push(1, events([(99, 0, 4, 0)]), numbers=np.array([9])).tolist() == [True]


def test_a_new_partition_holds_the_watermark_back_until_its_first_event():
    order = orderer()
    order.push(0, events([(100, 0, 1, 0)]))
    assert order.watermark_ms() == 95
    order.release(95)
    order.reach(2)
    assert order.watermark_ms() < 0
    assert order.push(1, events([(94, 0, 1, 0), (95, 0, 2, 0)])).tolist() == [True, False]
    assert order.watermark_ms() == 90
    assert order.released_ms == 95


def test_at_a_splice_only_events_of_messages_before_the_watermark_stay():
    order = orderer()
    lines, told = events([(90, 0, 1, 0), (100, 0, 2, 0), (97, 0, 3, 0)]), events([(120, 1, 1, 0), (130, 1, 2, 0)])
    order.push(0, lines, told, np.array([0, 1]))
    order.release(95)
    back = order.splice(3)
    assert sorted(zip(back.time_ms, back.root, strict=True)) == [(97, 3), (100, 2), (130, 2)]
    assert list(zip(order.held.time_ms, order.held.root, strict=True)) == [(120, 1)]
    assert order.newest_ms.tolist() == [orderer().newest_ms[0]] * 3
    assert order.push(2, events([(94, 0, 9, 0), (95, 0, 9, 0)])).tolist() == [True, False]
