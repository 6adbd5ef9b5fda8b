"""Brokers that die under a source: nobody is idle, it is said, all goes on when they are back, and closing is quick."""

import gc
import os
import time

import pytest
from kafka_broker import PROVIDE, find_libs, new_broker

from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaSource
from streamctr.schema import Funnel, StageConfig

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")

FUNNEL = Funnel.from_mapping({"view": None, "click": StageConfig(observe=1000)})
SILENT = "no contact with the brokers for 1 s; waiting for them, a signal stops the run"
AGAIN = "contact with the brokers again"
WAIT_S = 60


@pytest.fixture(autouse=True)
def _forgotten_sockets(caplog):
    yield
    caplog.get_records("call").clear()  # what was logged of them holds them too
    for _ in range(3):  # coroutines that are finalised in the first round let go of sockets in the next
        gc.collect()


@pytest.fixture
def mortal(tmp_path):
    libs = find_libs()
    if libs is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Kafka broker: {PROVIDE}")
    broker = new_broker(tmp_path, libs)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


class Reading:
    """A source, what it gave out and what it said."""

    def __init__(self, broker, topic, client):
        self.told, self.blocks = [], []
        config = KafkaConfig(servers=broker.servers, topic=topic, client=client, idle=1500, silence=1000)
        self.source = KafkaSource(config, FUNNEL, True, None, "stop", self.told.append)

    @property
    def payloads(self):
        return [block.payload for block in self.blocks if block.payload]


def poll_until(readings, found):
    deadline = time.monotonic() + WAIT_S
    while not all(map(found, readings)):
        assert time.monotonic() < deadline, "waited in vain"
        for reading in readings:
            reading.blocks.append(reading.source.poll(0))


def test_silent_brokers_make_nobody_idle_and_are_waited_for_and_do_not_hold_up_closing(mortal):
    topic = mortal.topic(2)
    mortal.send(topic, [(0, b"a")])
    mortal.admin.close()  # it would go on knocking at a broker that is dead
    readings = [Reading(mortal, topic, client) for client in ("kafka-python", "confluent")]
    poll_until(readings, lambda reading: reading.payloads == [b"a"])
    mortal.kill()
    killed_s = time.monotonic()
    poll_until(readings, lambda reading: reading.told == [SILENT] and time.monotonic() > killed_s + 3)
    assert not any(block.idle or block.ended for reading in readings for block in reading.blocks)
    mortal.start()
    poll_until(readings, lambda reading: len(reading.told) == 2)
    assert all(reading.told[1].startswith(AGAIN) for reading in readings)
    mortal.send(topic, [(0, b"b")])
    poll_until(readings, lambda reading: reading.payloads == [b"a", b"b"])
    mortal.kill()
    poll_until(readings, lambda reading: reading.told[2:] == [SILENT])
    for reading in readings:
        began_s = time.monotonic()
        reading.source.close()
        assert time.monotonic() - began_s < 3
