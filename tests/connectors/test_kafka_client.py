"""Either client against a real broker: columns, offsets, what is read on and what is left out."""

import random
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from kafka import TopicPartition
from kafka.codec import has_snappy

from connectors.kafka.client import OutOfRangeError, open_client
from connectors.kafka.config import KafkaConfig
from streamctr.errors import ConfigError, DataError
from streamctr.ports import Original

CLIENTS = ("kafka-python", "confluent")
WAIT_S = 30


@pytest.fixture(params=CLIENTS)
def name(request):
    return request.param


@pytest.fixture
def opened(kafka, name):
    clients = []

    def opening(*topics, **settings):
        config = KafkaConfig(servers=kafka.servers, topic=topics[0], **({"client": name} | settings))
        clients.append(open_client(config, topics))
        return clients[-1]

    yield opening
    for client in clients:
        client.close()


def read(client, until):
    """Offsets and values of each partition, until all are read up to these offsets."""
    found, deadline = {place: [] for place in until}, time.monotonic() + WAIT_S
    while any(client.position(place) < end for place, end in until.items()) and time.monotonic() < deadline:
        for records in client.poll(300):
            found[records.place] += zip(records.offsets.tolist(), records.values, strict=True)
    return found


def numbered(n):
    return [(offset, b"%d" % offset) for offset in range(n)]


def test_records_are_columns_with_what_a_dead_letter_needs(kafka, opened):
    topic = kafka.topic()
    with closing(kafka.producer()) as producer:
        producer.send(topic, b"ab", key=b"k", headers=[("h", b"1"), ("h", b"2")], timestamp_ms=1000).get(timeout=10)
        producer.send(topic, None, key=b"gone", timestamp_ms=2000).get(timeout=10)
        producer.send(topic, b"cde", timestamp_ms=1500).get(timeout=10)
    client = opened(topic)
    client.go_to({(topic, 0): 0})
    parts = []
    while client.position((topic, 0)) < 3:
        parts += client.poll(300)
    assert [value for part in parts for value in part.values] == [b"ab", None, b"cde"]
    assert np.concatenate([part.offsets for part in parts]).tolist() == [0, 1, 2]
    assert np.concatenate([part.times_ms for part in parts]).tolist() == [1000, 2000, 1500]
    assert {(part.place, part.offsets.dtype, part.times_ms.dtype) for part in parts} == {
        ((topic, 0), np.dtype(np.int64), np.dtype(np.int64))
    }
    assert sum(part.size_bytes for part in parts) == 5
    originals = [part.original(at) for part in parts for at in range(len(part.values))]
    assert originals[0] == Original(b"ab", b"k", (("h", b"1"), ("h", b"2")), 1000)
    assert originals[1:] == [Original(None, b"gone", (), 2000), Original(b"cde", None, (), 1500)]


def test_some_of_the_records_are_records_with_their_own_originals(kafka, opened):
    topic = kafka.topic()
    kafka.send(topic, [(0, b"x" * n) for n in range(1, 6)])
    client = opened(topic)
    client.go_to({(topic, 0): 0})
    records = next(records for _ in range(100) for records in client.poll(300))
    some = records.take(1, 4).take(1, 3)
    assert (some.values, some.offsets.tolist(), some.size_bytes) == ([b"xxx", b"xxxx"], [2, 3], 7)
    assert [some.original(at).value for at in range(2)] == some.values
    assert (some.place, len(some.times_ms)) == ((topic, 0), 2)


def test_offsets_of_the_beginning_the_end_and_a_moment(kafka, opened):
    topics = kafka.topic(2), kafka.topic()
    with closing(kafka.producer()) as producer:
        for time_ms in (1000, 2000, 3000):
            producer.send(topics[0], b"x", partition=1, timestamp_ms=time_ms).get(timeout=10)
    kafka.admin.delete_records({TopicPartition(topics[0], 1): 1}, timeout_ms=10_000)
    client = opened(*topics)
    first, second, third = client.places
    assert client.places == sorted([(topics[0], 0), (topics[0], 1), (topics[1], 0)])
    full = (topics[0], 1)
    others = {place: 0 for place in (first, second, third) if place != full}
    assert client.beginnings() == others | {full: 1}
    assert client.ends() == others | {full: 3}
    assert client.since(2500) == others | {full: 2}
    assert client.since(3001) == others | {full: 3}


def test_only_committed_messages_come_and_positions_pass_the_markers(kafka, opened):
    topic, other = kafka.topic(), kafka.topic()
    producer = kafka.producer(transactional_id=topic)
    producer.init_transactions()
    for value, finish in ((b"0", producer.commit_transaction), (b"aborted", producer.abort_transaction)):
        producer.begin_transaction()
        producer.send(topic, value).get(timeout=10)
        finish()
    producer.begin_transaction()
    producer.send(topic, b"open").get(timeout=10)
    client = opened(topic)
    assert client.ends() == {(topic, 0): 4}  # a message and its marker, twice
    client.go_to({(topic, 0): 0})
    assert read(client, {(topic, 0): 4}) == {(topic, 0): [(0, b"0")]}
    producer.send(other, b"elsewhere")
    producer.commit_transaction()
    producer.close(timeout=10)
    assert read(client, {(topic, 0): 6}) == {(topic, 0): [(4, b"open")]}


def test_partitions_that_are_left_out_give_nothing_and_go_on_where_they_are_put(kafka, opened):
    topic = kafka.topic(3)
    kafka.send(topic, [(n % 3, b"%d" % (n // 3)) for n in range(60)])
    a, b, c = ((topic, number) for number in range(3))
    client = opened(topic, max_poll_records=7)
    client.go_to({a: 0, b: 0, c: 0})
    client.read_only({a: 5, c: 0})
    assert read(client, {a: 20, c: 20}) == {a: numbered(20)[5:], c: numbered(20)}
    client.read_only({b: 3})
    assert read(client, {b: 20}) == {b: numbered(20)[3:]}
    client.go_to({b: 18})
    assert read(client, {b: 20}) == {b: numbered(20)[18:]}
    client.read_only({})
    assert client.poll(300) == []
    client.read_only({a: 19, b: 20, c: 20})
    assert read(client, {a: 20, b: 20, c: 20}) == {a: numbered(20)[19:], b: [], c: []}


def test_messages_come_however_little_is_asked_for_at_a_time(kafka, opened):
    topic = kafka.topic()
    kafka.send(topic, [(0, b"x" * 5000)] * 20)
    client = opened(topic, fetch_bytes=1, buffer_bytes=1024, max_poll_records=1)
    client.read_only(client.beginnings())
    assert read(client, {(topic, 0): 20}) == {(topic, 0): [(offset, b"x" * 5000) for offset in range(20)]}


def test_random_switches_lose_and_repeat_nothing(kafka, opened):
    chance, n, topic = random.Random(5), 4000, kafka.topic(4)
    kafka.send(topic, [(place % 4, b"%d" % (place // 4) + b" " * 200) for place in range(4 * n)])
    client = opened(topic, max_poll_records=300, fetch_bytes=20_000)
    following, found = dict.fromkeys(client.places, 0), {place: [] for place in client.places}
    client.go_to(following)
    deadline, switches = time.monotonic() + WAIT_S, 0
    while min(following.values()) < n and time.monotonic() < deadline:
        if chance.random() < 0.7:
            chosen = chance.sample(client.places, chance.randint(1, 4))
            client.read_only({place: following[place] for place in chosen})
            switches += 1
        for records in client.poll(20):
            found[records.place] += records.offsets.tolist()
            following[records.place] = int(records.offsets[-1]) + 1
    assert switches >= 20
    assert found == {place: list(range(n)) for place in client.places}


@pytest.mark.parametrize("offset", [1, 7])
def test_offsets_that_are_not_there_are_said_and_the_others_are_read_first(kafka, opened, offset):
    topic = kafka.topic(2)
    kafka.send(topic, [(n % 2, b"%d" % (n // 2)) for n in range(8)])
    kafka.admin.delete_records({TopicPartition(topic, 1): 2}, timeout_ms=10_000)
    client = opened(topic)
    client.go_to({(topic, 0): 0, (topic, 1): offset})
    found = []
    with pytest.raises(OutOfRangeError) as caught:
        found.extend(records for _ in range(100) for records in client.poll(100))
    assert caught.value.wanted == {(topic, 1): offset}
    client.go_to({(topic, 1): 2})
    late = read(client, {(topic, 0): 4, (topic, 1): 4})
    early = [
        (offset, value) for records in found for offset, value in zip(records.offsets, records.values, strict=True)
    ]
    assert early + late[topic, 0] == numbered(4)
    assert late[topic, 1] == numbered(4)[2:]


def test_partitions_that_are_added_are_found_and_read(kafka, opened):
    topic = kafka.topic()
    client = opened(topic)
    assert client.look_for_places() == client.places == [(topic, 0)]
    client.go_to({(topic, 0): 0})
    kafka.admin.create_partitions({topic: 2}, timeout_ms=10_000)
    deadline = time.monotonic() + WAIT_S
    while len(client.look_for_places()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    kafka.send(topic, [(1, b"0")])
    assert client.ends() == {(topic, 0): 0, (topic, 1): 1}
    client.read_only({(topic, 0): 0, (topic, 1): 0})
    assert read(client, {(topic, 1): 1})[topic, 1] == [(0, b"0")]


def test_both_clients_tell_a_topic_from_a_later_one_of_its_name_alike(kafka):
    topic, ids = kafka.topic(), []
    for _ in range(2):
        for name in CLIENTS:
            with closing(open_client(KafkaConfig(servers=kafka.servers, topic=topic, client=name), [topic])) as client:
                ids.append(client.topic_ids()[topic])
        kafka.admin.delete_topics([topic], timeout_ms=10_000)
        deadline = time.monotonic() + WAIT_S
        while topic in kafka.admin.list_topics() and time.monotonic() < deadline:
            time.sleep(0.1)
        kafka.create(topic)
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.parametrize("codec", ["snappy", "zstd"])
def test_messages_of_another_producer_are_unpacked_or_the_codec_that_is_missing_is_named(kafka, opened, name, codec):
    producers = pytest.importorskip("confluent_kafka")
    topic, values = kafka.topic(), [b"%d" % n + b" " * 9000 for n in range(300)]  # 2.7 MB, in one batch
    settings = {"compression.type": codec, "linger.ms": 1000, "batch.size": 4_000_000, "message.max.bytes": 4_000_000}
    producer = producers.Producer({"bootstrap.servers": kafka.servers} | settings)
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(WAIT_S) == 0
    client = opened(topic)
    client.go_to({(topic, 0): 0})
    if (name, codec) == ("kafka-python", "snappy"):
        if has_snappy():
            pytest.skip("snappy is installed here")
        with pytest.raises(DataError, match=rf'packed by snappy.*pip install "kafka-python\[snappy\]".*{topic}/0 at 0'):
            client.poll(5000)
        return
    assert [value for _, value in read(client, {(topic, 0): 300})[topic, 0]] == values


def test_a_client_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.delitem(sys.modules, "connectors.kafka.confluent", raising=False)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    words = r'kafka.client: confluent is not installed; pip install "streamctr\[confluent\]", or take kafka-python'
    with pytest.raises(ConfigError, match=words):
        open_client(KafkaConfig(servers="127.0.0.1:1", topic="events", client="confluent"), ["events"])


def test_the_programs_load_no_client_before_they_need_one():
    code = "import sys, jobs.cli; print(*({'kafka', 'confluent_kafka'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
