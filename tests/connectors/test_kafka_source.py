"""Kafka topics as a source, against a real broker: every message once, positions that hold, what is gone is said."""

import time
from contextlib import closing

import orjson
import pytest
from kafka import TopicPartition

from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaSource
from streamctr.errors import DataError
from streamctr.schema import Funnel, StageConfig

FUNNEL = Funnel.from_mapping({"view": None, "click": StageConfig(observe=1000)})
WAIT_S = 30


@pytest.fixture(params=["kafka-python", "confluent"])
def client(request):
    return request.param


@pytest.fixture
def open_source(kafka, client):
    opened = []

    def opening(topic, until="end", on_gap="stop", **settings):
        config = KafkaConfig(servers=kafka.servers, topic=topic, client=client, **settings)
        opened.append(KafkaSource(config, FUNNEL, True, until, on_gap))
        return opened[-1]

    yield opening
    for source in opened:
        source.close()


def numbered(block):
    """Path, offset and text of each message."""
    lines = block.payload.split(b"\n") if block.payload else []
    offsets = range(block.first_line, block.first_line + len(lines)) if block.numbers is None else block.numbers
    return [(block.path, int(offset), line) for offset, line in zip(offsets, lines, strict=True)]


def blocks_of(source):
    """All blocks until every partition has ended, asking for the first that has not."""
    blocks, ended = [], set()
    while len(ended) < source.partitions:
        blocks.append(source.poll(min(set(range(source.partitions)) - ended)))
        ended |= {blocks[-1].partition} if blocks[-1].ended else set()
    return blocks


def read(source):
    return [message for block in blocks_of(source) for message in numbered(block)]


def next_messages(source, n):
    """The next few of partition 0, when they come."""
    found, deadline = [], time.monotonic() + WAIT_S
    while len(found) < n and time.monotonic() < deadline:
        found += numbered(source.poll(0))
    return found


def nexts(source):
    """Topic, number and next offset of each partition, as its positions say."""
    return orjson.loads(source.positions())["next"]


def numbers(n, partitions=1):
    return [(value % partitions, b"%d" % value) for value in range(n)]


@pytest.mark.parametrize("max_poll_records", [1, 7, 5000])
def test_every_message_comes_once_and_in_order_in_its_partition(kafka, open_source, max_poll_records):
    topic = kafka.topic(3)
    kafka.send(topic, numbers(50, 3))
    source = open_source(topic, max_poll_records=max_poll_records)
    assert source.partitions == 3
    blocks = blocks_of(source)
    assert max(block.payload.count(b"\n") + 1 for block in blocks) <= max_poll_records
    for partition in range(3):
        assert [m for block in blocks if block.partition == partition for m in numbered(block)] == [
            (f"{topic}/{partition}", offset, b"%d" % value) for offset, value in enumerate(range(partition, 50, 3))
        ]
    assert sorted(block.partition for block in blocks if block.ended) == [0, 1, 2]


def test_a_source_that_was_stopped_after_any_block_goes_on_with_the_next_message(kafka, open_source):
    topic = kafka.topic(2)
    kafka.send(topic, numbers(24, 2))
    source = open_source(topic, max_poll_records=5)
    whole, before = sorted(read(open_source(topic))), []
    assert len(whole) == 24
    for _ in range(4):
        other = open_source(topic, max_poll_records=3)
        other.seek(source.positions())
        assert other.positions() == source.positions()
        assert sorted(before + read(other)) == whole
        before += numbered(source.poll(1))


def test_what_came_with_another_partition_waits_and_is_not_counted_as_read(kafka, open_source):
    topic = kafka.topic(2)
    kafka.send(topic, numbers(10, 2))
    source = open_source(topic)
    for asked, expected in ((1, [[topic, 0, 0], [topic, 1, 5]]), (0, [[topic, 0, 5], [topic, 1, 5]])):
        block = source.poll(asked)
        assert (block.partition, len(numbered(block))) == (asked, 5)
        assert nexts(source) == expected


def test_seeking_back_on_the_same_source_reads_again(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, numbers(3))
    source = open_source(topic)
    start = source.positions()
    first = read(source)
    assert source.poll(0).ended
    source.seek(start)
    assert read(source) == first


def test_the_end_is_what_the_topic_held_at_the_start(kafka, open_source):
    topic = kafka.topic(2)
    kafka.send(topic, numbers(4))
    source = open_source(topic)
    kafka.send(topic, numbers(6))
    assert [offset for _, offset, _ in read(source)] == [0, 1, 2, 3]
    assert nexts(source) == [[topic, 0, 4], [topic, 1, 0]]


def test_a_log_that_goes_on_gives_empty_blocks_until_more_comes(kafka, open_source):
    topic = kafka.topic()
    source = open_source(topic, until=None)
    empty = source.poll(0)
    assert (empty.payload, empty.ended, empty.partition) == (b"", False, 0)
    kafka.send(topic, numbers(2))
    assert [text for _, _, text in next_messages(source, 2)] == [b"0", b"1"]
    assert not source.poll(0).ended


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_codecs_are_unpacked(kafka, open_source, codec):
    topic = kafka.topic()
    kafka.send(topic, numbers(20), compression_type=codec)
    assert [text for _, _, text in read(open_source(topic))] == [b"%d" % value for value in range(20)]


def test_transactions_leave_offsets_without_a_message_also_at_the_end(kafka, open_source):
    topic = kafka.topic()
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions()
    for values, finish in (
        ((b"0", b"1"), producer.commit_transaction),
        ((b"x",), producer.abort_transaction),
        ((b"2",), producer.commit_transaction),
    ):
        producer.begin_transaction()
        for value in values:
            producer.send(topic, value).get(timeout=10)
        finish()
    producer.begin_transaction()
    producer.send(topic, b"of a transaction that is still open").get(timeout=10)
    source = open_source(topic)
    # two messages and a marker, an aborted one and its marker, one message and its marker
    assert [(offset, text) for _, offset, text in read(source)] == [(0, b"0"), (1, b"1"), (5, b"2")]
    assert nexts(source) == [[topic, 0, 7]]
    producer.abort_transaction()
    producer.close(timeout=10)
    other = open_source(topic)
    other.seek(source.positions())
    assert read(other) == []


def test_compaction_leaves_offsets_without_a_message(kafka, open_source):
    topic = kafka.topic(
        cleanup_policy="compact", segment_ms=50, min_cleanable_dirty_ratio=0.01, max_compaction_lag_ms=100
    )
    producer = kafka.producer()
    for value in range(5):  # of each key the last one stays
        producer.send(topic, b"%d" % value, key=b"even" if value % 2 == 0 else b"odd").get(timeout=10)
        time.sleep(0.1)
    found, deadline = [], time.monotonic() + WAIT_S
    while [offset for _, offset, _ in found[:2]] != [3, 4] and time.monotonic() < deadline:
        time.sleep(0.2)
        producer.send(topic, b"more", key=b"more").get(timeout=10)  # which closes the segment before it
        with closing(open_source(topic)) as source:
            found = read(source)
            end = source.positions()
    producer.close(timeout=10)
    assert [(offset, text) for _, offset, text in found[:2]] == [(3, b"3"), (4, b"4")]
    other = open_source(topic)
    other.seek(end)
    assert read(other) == []


def test_latest_begins_with_what_comes_next(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, numbers(3))
    source = open_source(topic, until=None, start="latest")
    kafka.send(topic, [(0, b"new")])
    assert next_messages(source, 1) == [(f"{topic}/0", 3, b"new")]


def test_a_moment_begins_with_the_first_message_of_that_time_or_later(kafka, open_source):
    topic = kafka.topic(3)
    producer = kafka.producer()
    for partition, time_ms in ((0, 1000), (0, 2000), (0, 3000), (1, 1000), (1, 2001)):
        producer.send(topic, b"%d" % time_ms, partition=partition, timestamp_ms=time_ms).get(timeout=10)
    producer.close(timeout=10)
    source = open_source(topic, start="1970-01-01T00:00:02Z")
    assert sorted(read(source)) == [
        (f"{topic}/0", 1, b"2000"),
        (f"{topic}/0", 2, b"3000"),
        (f"{topic}/1", 1, b"2001"),
    ]
    with closing(open_source(topic, start=3001)) as none:
        assert none.positions() == source.positions()
        assert read(none) == []


def gone(kafka, topic, offset):
    kafka.admin.delete_records({TopicPartition(topic, 0): offset}, timeout_ms=10_000)


def test_messages_that_are_gone_stop_a_resume_with_their_number_and_the_choices(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, numbers(9))
    positions = f'[["{topic}",0,2]]'
    gone(kafka, topic, 6)
    wanted = rf"{topic}/0 was read up to 2 and now begins at 6: 4 messages are gone.*--on-gap earliest.*--fresh"
    with pytest.raises(DataError, match=wanted):
        open_source(topic).seek(positions)
    oldest = open_source(topic, on_gap="earliest")
    oldest.seek(positions)
    assert [offset for _, offset, _ in read(oldest)] == [6, 7, 8]
    assert oldest.gaps == [f"{topic}/0 was read up to 2 and now begins at 6: 4 messages are gone"]
    newest = open_source(topic, on_gap="latest")
    newest.seek(positions)
    assert (read(newest), nexts(newest)) == ([], [[topic, 0, 9]])


def test_messages_that_go_while_they_are_waited_for_are_missed_in_the_same_way(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, numbers(9))
    stopped, going_on = open_source(topic), open_source(topic, on_gap="earliest")
    gone(kafka, topic, 6)
    with pytest.raises(DataError, match="6 messages are gone"):
        blocks_of(stopped)
    assert [offset for _, offset, _ in read(going_on)] == [6, 7, 8]
    assert len(going_on.gaps) == 1


def test_a_topic_that_was_created_anew_is_not_taken_for_the_old_one(kafka, open_source):
    topic = kafka.topic()
    kafka.send(topic, numbers(5))
    source = open_source(topic)
    read(source)
    kafka.admin.delete_topics([topic], timeout_ms=10_000)
    deadline = time.monotonic() + WAIT_S
    while topic in kafka.admin.list_topics() and time.monotonic() < deadline:
        time.sleep(0.1)
    kafka.create(topic)
    kafka.send(topic, numbers(2))
    with pytest.raises(DataError, match=f"{topic}/0 was read up to 5 and now ends at 2: the topic was created anew"):
        open_source(topic).seek(source.positions())


def test_partitions_that_came_later_stand_behind_those_of_the_positions(kafka, client):
    views, clicks = kafka.topic(1, "a-views"), kafka.topic(1, "b-clicks")
    config = KafkaConfig(servers=kafka.servers, topics={"view": views, "click": clicks}, client=client)
    kafka.send(views, numbers(2))
    kafka.send(clicks, numbers(3))
    with closing(KafkaSource(config, FUNNEL, False, "end")) as source:
        assert [block.stage for block in blocks_of(source) if block.payload] in [[0, 1], [1, 0]]
        positions = source.positions()
    kafka.admin.create_partitions({views: 2}, timeout_ms=10_000)
    deadline = time.monotonic() + WAIT_S
    while len(kafka.admin.describe_topics([views])[0]["partitions"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    kafka.send(views, [(1, b"new")])
    with closing(KafkaSource(config, FUNNEL, False, "end")) as source:
        source.seek(positions)
        assert nexts(source) == [[views, 0, 2], [clicks, 0, 3], [views, 1, 0]]
        assert read(source) == [(f"{views}/1", 0, b"new")]


def test_a_partition_that_is_not_there_any_more_is_missed(kafka, open_source):
    topic = kafka.topic()
    with pytest.raises(DataError, match="kafka: old/3 was read and is not there now"):
        open_source(topic).seek('[["old",3,7]]')
