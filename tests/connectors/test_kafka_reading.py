"""A source that goes on for months: silence, new partitions, topics that change, what waits, and how it ends."""

import threading
import time

import numpy as np
import orjson
import pytest
from kafka import TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaSource
from streamctr.errors import DataError, TopicError
from streamctr.order import FIRST_MS
from streamctr.ports import Original
from streamctr.schema import Funnel, StageConfig

FUNNEL = Funnel.from_mapping({"view": None, "click": StageConfig(observe=1000)})
WAIT_S = 30


@pytest.fixture(params=["kafka-python", "confluent"])
def client(request):
    return request.param


@pytest.fixture
def open_source(kafka, client):
    opened = []

    def opening(topic, until=None, on_gap="stop", tell=lambda _: None, **settings):
        config = KafkaConfig(servers=kafka.servers, topic=topic, client=client, **settings)
        opened.append(KafkaSource(config, FUNNEL, True, until, on_gap, tell))
        return opened[-1]

    yield opening
    for source in opened:
        source.close()
    assert "kafka reader" not in {thread.name for thread in threading.enumerate()}


def lines_of(block):
    return block.payload.split(b"\n") if block.payload else []


def poll_until(source, partition, wanted):
    """The first block that is as wanted, and the lines of all before it."""
    lines, deadline = [], time.monotonic() + WAIT_S
    while not wanted(block := source.poll(partition)):
        lines += lines_of(block)
        assert time.monotonic() < deadline, "waited in vain"
    return block, lines


def wait_for(found):
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_partition_is_idle_once_when_its_end_is_confirmed_and_its_next_messages_come_first(kafka, open_source):
    topic = kafka.topic(2)
    kafka.send(topic, [(0, b"a")])
    source = open_source(topic, idle=300)
    began_s = time.monotonic()
    idle, lines = poll_until(source, 0, lambda block: block.idle)
    assert (idle.partition, idle.payload, idle.ended, lines) == (0, b"", False, [b"a"])
    assert time.monotonic() - began_s >= 0.3
    assert not source.poll(0).idle
    kafka.send(topic, [(0, b"b"), (1, b"c")])
    back, before = poll_until(source, 1, lambda block: block.partition == 0)
    assert lines_of(back) == [b"b"]
    if not before:  # it did not come sooner
        poll_until(source, 1, lambda block: lines_of(block) == [b"c"])
    poll_until(source, 0, lambda block: block.idle)


def test_markers_of_transactions_behind_the_last_message_do_not_keep_a_partition_from_being_idle(kafka, open_source):
    topic = kafka.topic()
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions()
    for finish in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.send(topic, b"a").get(timeout=10)
        finish()
    producer.close(timeout=10)
    source = open_source(topic, idle=300)
    _, lines = poll_until(source, 0, lambda block: block.idle)
    assert lines == [b"a"]
    assert source.lag() == [((topic, 0), 4, 4)]


def test_a_moment_that_has_passed_ends_all_partitions_when_all_are_idle(kafka, open_source):
    topic = kafka.topic(2)
    kafka.send(topic, [(0, b"a")])
    source = open_source(topic, until=1_000, idle=300)
    ended, lines = poll_until(source, 0, lambda block: block.ended)
    assert lines == [b"a"]
    assert (ended.partition, ended.payload) == (0, b"")
    assert source.poll(1).ended
    assert source.poll(0).ended


def test_a_moment_that_is_to_come_ends_nothing(kafka, open_source):
    source = open_source(kafka.topic(), until=round(time.time() * 1000) + 60_000, idle=100)
    poll_until(source, 0, lambda block: block.idle)
    assert not any(source.poll(0).ended for _ in range(3))


def test_new_partitions_stand_behind_the_others_and_are_read_from_their_beginning(kafka, open_source, monkeypatch):
    monkeypatch.setattr(KafkaSource, "look_s", 0.2)
    topic, told = kafka.topic(), []
    kafka.send(topic, [(0, b"old")])
    source = open_source(topic, tell=told.append, start="latest")
    source.poll(0)
    kafka.admin.create_partitions({topic: 2}, timeout_ms=10_000)
    wait_for(lambda: source.poll(0) and source.partitions == 2)
    kafka.send(topic, [(1, b"new")])
    _, lines = poll_until(source, 1, lambda block: block.payload == b"new")
    assert (lines, told) == ([], [f"{topic}/1 is new, and read from 0 on"])
    assert orjson.loads(source.positions())["next"] == [[topic, 0, 1], [topic, 1, 1]]


def recreate(kafka, topic, values):
    kafka.admin.delete_topics([topic], timeout_ms=10_000)
    wait_for(lambda: topic not in kafka.admin.list_topics())
    kafka.create(topic)
    kafka.send(topic, [(0, value) for value in values])


def test_a_topic_that_was_created_anew_and_is_longer_than_before_is_known_by_its_id(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, [(0, b"a"), (0, b"b")])
    source = open_source(topic)
    poll_until(source, 0, lambda block: block.payload)
    recreate(kafka, topic, [b"c", b"d", b"e"])
    anew = f"{topic}/0 was read up to 2, and the topic was created anew"
    with pytest.raises(DataError, match=f"{anew}.*--on-gap earliest"):
        open_source(topic).seek(source.positions())
    for on_gap, expected in (("earliest", [b"c", b"d", b"e"]), ("latest", [])):
        going_on = open_source(topic, "end", on_gap)
        going_on.seek(source.positions())
        assert poll_until(going_on, 0, lambda block: block.ended)[0].payload == b"\n".join(expected)
        assert going_on.gaps == [anew]


def test_a_topic_that_is_created_anew_while_it_is_read_ends_the_reading(kafka, open_source, monkeypatch):
    monkeypatch.setattr(KafkaSource, "look_s", 0.2)
    topic = kafka.topic()
    kafka.send(topic, [(0, b"a")])
    source = open_source(topic)
    poll_until(source, 0, lambda block: block.payload)
    recreate(kafka, topic, [b"c", b"d"])
    with pytest.raises((DataError, TopicError), match=r"the topic was created anew|there is no topic"):
        poll_until(source, 0, lambda block: False)  # what stands behind the last offset may come before


def test_starting_at_a_moment_begins_with_what_was_stored_then_or_as_much_before_as_events_may_be_ahead(
    kafka, open_source
):
    topic = kafka.topic(2)
    producer = kafka.producer()
    for partition, time_ms in ((0, 1000), (0, 2000), (0, 3000), (1, 1000)):
        producer.send(topic, b"%d" % time_ms, partition=partition, timestamp_ms=time_ms).get(timeout=10)
    producer.close(timeout=10)
    source = open_source(topic, "end", ahead=500)
    source.start_at(2000)
    assert orjson.loads(source.positions())["next"] == [[topic, 0, 1], [topic, 1, 1]]
    last, before = poll_until(source, 0, lambda block: block.ended)
    assert before + lines_of(last) == [b"2000", b"3000"]
    assert source.poll(1).ended
    source.start_at(FIRST_MS)  # also when it has read
    assert lines_of(poll_until(source, 1, lambda block: block.payload)[0]) == [b"1000"]


def test_lag_is_what_the_brokers_said_last_and_what_was_given_out(kafka, open_source):
    topic = kafka.topic(2)
    kafka.send(topic, [(0, b"a"), (0, b"b"), (1, b"c")])
    source = open_source(topic, idle=400)
    assert source.lag() == [((topic, 0), 0, 2), ((topic, 1), 0, 1)]
    assert lines_of(poll_until(source, 0, lambda block: block.payload)[0]) == [b"a", b"b"]
    kafka.send(topic, [(1, b"d")])
    wait_for(lambda: source.lag() == [((topic, 0), 2, 2), ((topic, 1), 0, 2)])


def test_a_block_knows_how_late_its_events_may_be_and_the_whole_record_of_each_line(kafka, open_source):
    topic = kafka.topic()
    producer = kafka.producer()
    producer.send(topic, b"a", key=b"k", headers=[("h", b"v")], timestamp_ms=5000)
    producer.send(topic, None, key=b"gone", timestamp_ms=7000).get(timeout=10)  # at a time: they come in one block
    producer.close(timeout=10)
    source = open_source(topic, ahead=100)
    block, _ = poll_until(source, 0, lambda block: block.payload)
    assert block.latest_ms.tolist() == [5100, 7100]
    assert block.latest_ms.dtype == np.int64
    assert block.original(0) == Original(b"a", b"k", (("h", b"v"),), 5000)
    assert block.original(1) == Original(None, b"gone", (), 7000)
    assert poll_until(open_source(topic, ahead=None), 0, lambda block: block.payload)[0].latest_ms is None


def test_what_ends_the_reading_comes_out_of_the_next_poll_and_closing_is_still_allowed(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, [(0, b"a")] * 3)
    source = open_source(topic)
    kafka.admin.delete_records({TopicPartition(topic, 0): 2}, timeout_ms=10_000)
    for _ in range(2):
        with pytest.raises(DataError, match="2 messages are gone"):
            poll_until(source, 0, lambda block: block.payload)


def backlog(kafka, sizes):
    """A topic with so many messages of 1,000 bytes in its partitions."""
    topic = kafka.topic(len(sizes))
    kafka.send(topic, [(place, b"%0999d\n" % n) for place, size in enumerate(sizes) for n in range(size)])
    return topic


def peak_bytes(source, sizes):
    """Bytes that wait at most while the partition that is furthest behind in its share of events is asked for."""
    left, peak = dict(enumerate(sizes)), 0
    while left:
        block = source.poll(max(left, key=lambda place: left[place] / sizes[place]))
        left[block.partition] -= len(lines_of(block))
        peak = max(peak, source.waiting_bytes)
        if block.ended:
            assert left.pop(block.partition) == 0
    return peak


def test_a_partition_with_ten_times_the_backlog_makes_no_more_wait_than_the_same_events_spread_evenly(
    kafka, open_source
):
    even, skewed = [650] * 4, [2000, 200, 200, 200]
    settings = {"buffer_bytes": 1 << 20, "max_poll_records": 100, "fetch_bytes": 1 << 16}
    peaks = []
    for sizes in (even, skewed):
        peaks.append(peak_bytes(open_source(backlog(kafka, sizes), "end", **settings), sizes))
    assert peaks[0] > 1 << 19
    assert peaks[1] <= 1.2 * peaks[0]


def test_what_waits_while_nobody_asks_stays_about_the_buffer(kafka, open_source):
    topic = backlog(kafka, [1000, 1000])
    source = open_source(topic, "end", buffer_bytes=200_000, max_poll_records=50)
    source.poll(0)
    wait_for(lambda: source.waiting_bytes > 150_000)  # one is left out with half of its share, after a block was taken
    time.sleep(0.5)
    assert source.waiting_bytes <= 200_000 + 2 * 262 * 1256  # and what a producer sent at a time, of each partition
