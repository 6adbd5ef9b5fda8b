"""What a reader makes of brokers that answer some questions and not others; they are played here."""

import time
from collections import deque
from contextlib import contextmanager

import numpy as np
import pytest

from connectors.kafka.backlog import Backlog
from connectors.kafka.client import Records
from connectors.kafka.gaps import Gaps
from connectors.kafka.reader import Patience, Reader
from streamctr.errors import ContactError, LoginError
from streamctr.ports import Original

A, B = ("clicks", 0), ("clicks", 1)
WAIT_S = 10


class Brokers:
    """A client of brokers that hold two partitions, one message each, and do as they are told."""

    def __init__(self):
        self.places = [A, B]
        self.log = {A: [b"a"], B: [b"b"]}
        self.ids = {"clicks": "first"}
        self.silent = False
        self.failing = ()
        """Names of questions that are not answered, though a broker is there."""
        self.error = ContactError("nobody answers")
        self._next = {A: 0, B: 0}

    def _ask(self, question):
        if self.silent or question in self.failing:
            raise self.error

    def answers(self):
        return not self.silent

    def beginnings(self):
        self._ask("beginnings")
        return dict.fromkeys(self.places, 0)

    def ends(self):
        self._ask("ends")
        return {place: len(self.log[place]) for place in self.places}

    def look_for_places(self):
        self._ask("look")
        return self.places

    def topic_ids(self):
        return dict(self.ids)

    def read_only(self, offsets):
        self._next = dict(offsets)

    def position(self, place):
        return self._next[place]

    def poll(self, timeout_ms):
        time.sleep(0.01)
        if self.silent:
            return []
        found = []
        for place, begin in self._next.items():
            values, end = self.log[place], len(self.log[place])
            if begin < end:
                numbers = np.arange(begin, end)
                found.append(Records(place, values[begin:], numbers, numbers, whole, 1))
                self._next[place] = end
        return found


def whole(_):
    return Original(b"", None, (), 0)


@contextmanager
def reading(brokers, on_gap="stop", idle_s=60.0, silence_s=60.0, look_s=None):
    """A reader at work; its words."""
    words = deque()
    backlog = Backlog(1 << 20, idle_s)
    for place in brokers.places:
        backlog.add(place, 0, 0, 0, time.monotonic())
    patience = Patience(idle_s, silence_s, look_s)
    reader = Reader(brokers, backlog, Gaps(brokers, on_gap, words.append), words.append, patience)
    reader.start()
    try:
        yield reader, backlog, words
    finally:
        assert reader.halt(WAIT_S)


def given(reader, partition, wanted):
    """The next block that is as wanted."""
    deadline = time.monotonic() + WAIT_S
    while not wanted(block := reader.give(partition, 100, 1 << 20)):
        assert time.monotonic() < deadline, "waited in vain"
    return block


def values(block):
    return [value for records in block.records for value in records.values]


def wait_for(found):
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("question", ["ends", "look", "beginnings"])
def test_a_question_that_stays_without_an_answer_does_not_keep_messages_from_being_read(question):
    brokers = Brokers()
    with reading(brokers, idle_s=0.2, look_s=0.1) as (reader, _, _):
        given(reader, 0, values)
        given(reader, 1, values)
        brokers.failing = (question,)
        brokers.places = [A, B, ("clicks", 2)]
        brokers.log["clicks", 2] = []
        time.sleep(0.3)
        for n in range(5):
            brokers.log[A].append(b"%d" % n)
            began_s = time.monotonic()
            assert values(given(reader, 0, values)) == [b"%d" % n]
            assert time.monotonic() - began_s < 1


def test_brokers_that_seem_to_refuse_a_login_that_they_took_before_are_waited_for():
    brokers = Brokers()
    brokers.error = LoginError("the connection was ended")
    with reading(brokers, idle_s=0.2) as (reader, _, _):
        given(reader, 0, values)
        brokers.failing = ("ends",)
        time.sleep(0.3)
        brokers.failing = ()
        brokers.log[A].append(b"later")
        assert values(given(reader, 0, values)) == [b"later"]


def test_the_time_of_silent_brokers_does_not_count_towards_idleness():
    brokers = Brokers()
    with reading(brokers, idle_s=1.0, silence_s=0.3) as (reader, _, words):
        given(reader, 0, values)
        brokers.silent = True
        time.sleep(1.5)  # all that producers have waits with them
        brokers.silent = False
        back_s = time.monotonic()
        wait_for(lambda: len(words) == 2)
        assert not reader.give(0, 100, 1 << 20).idle
        given(reader, 0, lambda block: block.idle)
        assert 0.9 < time.monotonic() - back_s < 3


def test_of_a_topic_that_was_created_anew_nothing_old_is_given_out_and_positions_are_those_of_the_new_one():
    brokers = Brokers()
    brokers.log[A] = [b"old"] * 3
    with reading(brokers, on_gap="earliest", look_s=0.1) as (reader, backlog, words):
        given(reader, 1, values)
        wait_for(lambda: backlog.waiting_bytes > 0)  # of A, which nobody asked for
        brokers.log = {A: [b"new"], B: []}
        brokers.ids = {"clicks": "second"}
        wait_for(lambda: [lag.next for lag in backlog.lag()] == [0, 0])
        assert list(words) == ["clicks/1 was read up to 1 and now ends at 0: the topic was created anew"]
        assert values(given(reader, 0, values)) == [b"new"]
