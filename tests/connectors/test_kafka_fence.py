"""Of several owners of one name only the newest finishes anything; a broker that dies is waited for, within bounds."""

import gc
import logging
import signal
import threading
import time
import uuid
from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, KafkaAdminClient, ResourcePattern, ResourceType
from kafka_broker import PASSWORD, PROVIDE, find_libs, new_broker

from connectors.kafka import fence as fences
from connectors.kafka.config import KafkaConfig
from connectors.kafka.fence import Fence, Record
from streamctr.errors import AccessError, ContactError, DataError, FencedError, LostError

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")


@pytest.fixture(autouse=True)
def _forgotten_sockets(monkeypatch):
    monkeypatch.setattr(logging.getLogger("kafka"), "propagate", False)  # records that pytest keeps hold them too
    yield
    for _ in range(3):  # coroutines that are finalised in the first round let go of sockets in the next
        gc.collect()


def drawn():
    return f"run-{uuid.uuid4().hex[:12]}"


def fence_of(broker, name, patience_s=10.0, **settings):
    config = KafkaConfig(servers=broker.servers, topic="events", contact="3s")
    return Fence(config.model_copy(update=settings), name, name, patience_s)


def offsets(broker, group):
    with closing(KafkaAdminClient(bootstrap_servers=broker.servers)) as admin:
        return {tuple(place): at.offset for place, at in admin.list_group_offsets([group])[group].items()}


def committed(broker, topic):
    """The values that a reader sees who wants only what is finished."""
    with closing(
        KafkaConsumer(bootstrap_servers=broker.servers, isolation_level="read_committed", enable_auto_commit=False)
    ) as consumer:
        places = [TopicPartition(topic, part) for part in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        values, ends = [], consumer.end_offsets(places)
        while any(consumer.position(place) < end for place, end in ends.items()):
            values += [record.value for found in consumer.poll(200).values() for record in found]
        return values


def record(topic, value, key=b"key"):
    return Record(topic, key, value)


def test_the_group_shows_what_was_committed(kafka):
    topic, name = kafka.topic(2), drawn()
    with closing(fence_of(kafka, name)) as fence:
        assert offsets(kafka, name) == {}
        fence.commit({(topic, 0): 5, (topic, 1): 7})
        fence.commit({(topic, 0): 6})
        fence.commit({})
        assert offsets(kafka, name) == {(topic, 0): 6, (topic, 1): 7}


def test_only_the_newest_owner_commits_and_older_ones_are_told_whatever_they_call(kafka):
    topic, name = kafka.topic(), drawn()
    with closing(fence_of(kafka, name)) as older:
        older.commit({(topic, 0): 1})
        with closing(fence_of(kafka, name)) as newer:
            for _ in range(2):
                with pytest.raises(FencedError, match=f"another daemon has taken over as {name}.*let that one run"):
                    older.commit({(topic, 0): 99})
            with pytest.raises(FencedError):
                older.commit({})
            with pytest.raises(FencedError):
                older.send([record(topic, b"of the older one")])
            assert offsets(kafka, name) == {(topic, 0): 1}
            newer.commit({(topic, 0): 2})
            newer.send([record(topic, b"of the newer one")])
        assert offsets(kafka, name) == {(topic, 0): 2}
        assert committed(kafka, topic) == [b"of the newer one"]


@pytest.mark.parametrize("heard", [False, True], ids=["by what was sent", "by what is sent behind it"])
def test_an_owner_that_is_fenced_in_the_middle_of_a_transaction_leaves_nothing(kafka, heard):
    topic, name, newer = kafka.topic(), drawn(), []
    with closing(fence_of(kafka, name)) as older:

        def overtaken():
            older._send(record(topic, b"before")).get()
            newer.append(fence_of(kafka, name))
            after = older._send(record(topic, b"after"))
            while heard and not older._state.has_fatal_error():
                time.sleep(0.01)
            if heard:
                older._send(record(topic, b"behind"))
            after.get()

        with pytest.raises(FencedError):
            older._transaction(overtaken, 10)
        with pytest.raises(FencedError):
            older.commit({})
        with closing(newer[0]) as owner:
            owner.send([record(topic, b"newer")])
        assert committed(kafka, topic) == [b"newer"]


def test_messages_are_sent_all_or_none(kafka):
    topic = kafka.topic(2, max_message_bytes=100_000)
    with closing(fence_of(kafka, drawn())) as fence:
        small = [record(topic, b"%d" % i, key=None) for i in range(50)]
        with pytest.raises(DataError, match=r"no message as big as one of these.*raise its max\.message\.bytes"):
            fence.send([*small, record(topic, b"x" * 100_001)])
        assert committed(kafka, topic) == []
        with pytest.raises(ContactError, match="start it again"):
            fence.send([record(topic, b"more")])
    with closing(fence_of(kafka, drawn())) as fence:
        fence.send([Record(topic, None, b"one", (("a", b"1"), ("a", b"")), 1_650_000_000_000, 1)])
        fence.send([])
        assert committed(kafka, topic) == [b"one"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A broker that may die, with users."""
    libs = find_libs()
    if libs is None:
        pytest.skip(f"no broker to kill: {PROVIDE}")
    broker = new_broker(tmp_path_factory.mktemp("fenced"), libs)
    broker.start()
    yield broker
    broker.close()
    for _ in range(3):
        gc.collect()


def allow(broker, kind, name, operation):
    """The user `stranger`, who may nothing."""
    resource = ResourcePattern(ResourceType[kind], name)
    right = ACL("User:stranger", "*", ACLOperation[operation], ACLPermissionType.ALLOW, resource)
    broker.admin.create_acls([right])


def waiting(call, tries=20):
    """Call until the brokers are back."""
    for _ in range(tries):
        try:
            return call()
        except ContactError:
            continue
    pytest.fail("the brokers are back, and it does not go on")


def test_a_user_without_the_right_to_the_name_or_to_the_group_is_told_which(own, monkeypatch):
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", PASSWORD)
    sasl = {"mechanism": "PLAIN", "username": "stranger", "password": "env:KAFKA_TEST_PASSWORD"}
    config = KafkaConfig(servers=own.secure, topic="events", contact="3s", tls={"ca": own.ca}, sasl=sasl)
    with pytest.raises(AccessError, match="no right to the transactional id run-1; grant WRITE and DESCRIBE"):
        Fence(config, "run-1", "group-1")
    allow(own, "TRANSACTIONAL_ID", "run-1", "WRITE")
    with pytest.raises(AccessError, match="no right to the group group-1; grant READ"):
        Fence(config, "run-1", "group-1")
    allow(own, "GROUP", "group-1", "READ")
    Fence(config, "run-1", "group-1").close()


def test_commits_and_messages_go_on_when_a_broker_that_died_is_back(own):
    topic, name = own.topic(), drawn()
    fence = fence_of(own, name, patience_s=1)
    fence.commit({(topic, 0): 1})
    # 1. dead before a commit begins: the client loses its call, were nothing done about it
    own.kill()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(ContactError, match=f"no broker at {own.servers} finishes a transaction in time"):
            fence.commit({(topic, 0): 2})
    assert time.monotonic() - began < 3
    own.start()
    waiting(lambda: fence.commit({(topic, 0): 3}))
    assert offsets(own, name) == {(topic, 0): 3}
    # 2. dead in the middle of a transaction
    died = threading.Event()
    with pytest.raises(ContactError):
        fence._transaction(lambda: (fence._send(record(topic, b"once")).get(), died.wait()), 0.3)
    own.kill()
    died.set()
    with pytest.raises(ContactError):
        fence.commit({})
    own.start()
    waiting(lambda: fence.send([record(topic, b"after")]))
    first, *rest = committed(own, topic)
    assert (first, set(rest)) == (b"once", {b"after"})  # what was given up may arrive all the same
    # 3. it can be left, and not be entered, while nobody answers
    own.kill()
    began = time.monotonic()
    with pytest.raises(ContactError):
        fence.commit({})
    fence.close()
    for thread in threading.enumerate():
        if thread.name == "fence":
            thread.join(1)
            assert not thread.is_alive()
    with pytest.raises(ContactError, match="no broker answers"):
        fence_of(own, name)
    assert time.monotonic() - began < 15


def test_brokers_that_stand_still_for_longer_than_a_request_lasts_end_it_for_good(own, monkeypatch):
    monkeypatch.setitem(fences._SETTINGS, "request_timeout_ms", 1500)
    if own.process is None:
        own.start()
    name = drawn()
    fence = fence_of(own, name, patience_s=1)
    fence.commit({})
    own.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(ContactError) as waited:
            fence.commit({})
        assert not isinstance(waited.value, LostError)
        time.sleep(2)
    finally:
        own.process.send_signal(signal.SIGCONT)
    for _ in range(2):
        with pytest.raises(LostError, match="start it again"):
            fence.commit({})
    fence.close()
    waiting(lambda: fence_of(own, name)).close()
