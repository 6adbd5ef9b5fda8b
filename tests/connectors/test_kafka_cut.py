"""Brokers that are cut off, or die and come back: either client gives nothing meanwhile, then all that is left."""

import gc
import os
import signal
import time

import pytest
from kafka_broker import PROVIDE, find_libs, new_broker

from connectors.kafka.client import open_client
from connectors.kafka.config import KafkaConfig

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")

WAIT_S = 30
CUT_S = 2


@pytest.fixture(autouse=True)
def _forgotten_sockets():
    yield
    for _ in range(3):  # coroutines that are finalised in the first round let go of sockets in the next
        gc.collect()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """One of its own, for both clients."""
    libs = find_libs()
    if libs is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Kafka broker: {PROVIDE}")
    started = new_broker(tmp_path_factory.mktemp("cut-off"), libs)
    try:
        started.start()
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def topics(broker):
    """One for each test and client, created while all is well."""
    created = [broker.topic(2, "cut") for _ in range(4)]
    for topic in created:
        broker.send(topic, [(n % 2, b"%d" % n) for n in range(20)])
    broker.admin.close()  # it would go on knocking at a broker that is dead
    return iter(created)


@pytest.fixture(params=["kafka-python", "confluent"])
def client(broker, topics, request):
    if broker.process is None:
        broker.start()
    topic = next(topics)
    config = KafkaConfig(servers=broker.servers, topic=topic, client=request.param, max_poll_records=4)
    opened = open_client(config, [topic])
    opened.go_to(opened.beginnings())
    yield opened
    opened.close()


def values(client, n, found=()):
    found, deadline = list(found), time.monotonic() + WAIT_S
    while len(found) < n and time.monotonic() < deadline:
        found += [int(value) for records in client.poll(300) for value in records.values]
    return sorted(found)


def emptied(client, found):
    """With what was fetched already, until nothing came for a while."""
    found, quiet = list(found), 0
    while quiet < 4:
        came = [int(value) for records in client.poll(200) for value in records.values]
        found, quiet = found + came, 0 if came else quiet + 1
    return found


def test_a_cut_is_noticed_within_about_a_second_and_nothing_is_lost_by_it(broker, client):
    topic = client.places[0][0]
    found = values(client, 4)
    assert client.answers()
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        cut_s = time.monotonic()
        found = emptied(client, found)
        asked_s = time.monotonic()
        assert not client.answers()
        assert time.monotonic() - asked_s < 2
        while time.monotonic() < cut_s + CUT_S:
            assert client.poll(200) == []
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    broker.send(topic, [(n % 2, b"%d" % n) for n in range(20, 30)])
    assert values(client, 30, found) == list(range(30))
    assert client.answers()


def test_a_broker_that_dies_and_comes_back_is_read_on(broker, client):
    topic = client.places[0][0]
    found = values(client, 4)
    broker.kill()
    found = emptied(client, found)
    assert not client.answers()
    assert client.look_for_places() == client.places
    broker.start()
    assert client.ends() == {(topic, 0): 10, (topic, 1): 10}
    broker.send(topic, [(n % 2, b"%d" % n) for n in range(20, 30)])
    assert values(client, 30, found) == list(range(30))
    assert client.look_for_places() == client.places
    broker.kill()
    begun_s = time.monotonic()
    client.close()  # nobody holds who leaves
    assert time.monotonic() - begun_s < 5
