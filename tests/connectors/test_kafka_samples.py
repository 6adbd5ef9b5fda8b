"""The emission log as a topic: every row once and in order, whoever is killed; what is not this log is refused."""

import time
import uuid
from contextlib import closing, contextmanager

import numpy as np
import pytest
from kafka import TopicPartition
from test_logs import same, samples

from connectors.kafka.config import KafkaConfig
from connectors.kafka.fence import Fence, Record
from connectors.kafka.rounds import Silence
from connectors.kafka.samplereader import SampleReader
from connectors.kafka.samples import Cuts, Said, SampleTopic
from streamctr.errors import DataError, FencedError
from streamctr.samples import SampleBatch

RUN = "7b1f"
THREE = Cuts(partitions=3)


def config_of(kafka, topic="", **settings):
    topic = topic or f"samples-{uuid.uuid4().hex[:12]}"
    return KafkaConfig(servers=(kafka.servers,), topic="events", samples=topic, **settings)


@contextmanager
def writer(config, extent="", run=RUN, cuts=THREE, name="", **clock):
    """A writer behind `extent` that owns the run, and what it says of each round."""
    name = name or f"samples-{uuid.uuid4().hex[:12]}"
    with closing(Fence(config, name, name)) as fence, closing(SampleTopic(fence, run, cuts, **clock)) as sink:
        sink.truncate(extent)
        sink.describe = lambda: Said(1000, {"rows": sink._seen})
        yield sink


def read(reader, rows):
    """The next so many rows."""
    found, at = [], reader.next
    for _ in range(100):
        if reader.next >= at + rows:
            break
        came = reader.poll()
        if came is not None and came.rows is not None:
            found.append(came.rows)
    assert reader.next == at + rows
    return SampleBatch.concat(found)


def at_end(reader):
    """Whether it soon finds nothing behind: a client passes the mark of a transaction a moment later."""
    for _ in range(20):
        if reader.at_end():
            return True
        assert reader.poll() is None
    return False


def end_is(sink, wanted):
    """Whether partition 0 soon ends there: a transaction that is committed is seen a moment later."""
    for _ in range(100):
        if (end := sink._client.ends()[sink.topic.name, 0]) >= wanted:
            break
        time.sleep(0.05)
    return end == wanted


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_rows_come_back_in_their_order_with_what_was_known_of_them(kafka, client):
    config, rows = config_of(kafka, client=client), samples(700)
    with writer(config, cuts=Cuts(partitions=3, rows=300)) as sink:
        assert (sink.topic.partitions, sink.topic.created, sink.topic.settings["retention.ms"]) == (3, True, "-1")
        sink.write(rows.take(slice(0, 301)))
        sink.pulse()
        sink.write(rows.take(slice(301, 700)))
        sink.flush()
        sink.flush()  # says nothing new, so nothing is sent
        # 301 rows are a round of 300 and one of 1, 399 are 300 and 99; each transaction ends with a mark of its own
        assert end_is(sink, 6)
    with closing(SampleReader(config, RUN)) as reader:
        same(read(reader, 700), rows)
        assert reader.facts == {"rows": 700}
        assert reader.poll() is None
        assert at_end(reader)
        assert list(reader.offsets().values()) == [5, 5, 5]


def test_a_round_waits_for_a_second_or_for_its_rows(kafka):
    config, now_s = config_of(kafka), [100.0]
    with writer(config, cuts=Cuts(2, rows=50), now_s=lambda: now_s[0]) as sink:
        sink.write(samples(10))
        sink.pulse()
        assert end_is(sink, 0)
        now_s[0] += 1.0
        sink.pulse()
        assert end_is(sink, 2)
        sink.write(samples(49, first=10))
        sink.pulse()
        assert end_is(sink, 2)
        sink.write(samples(1, first=59))
        sink.pulse()
        assert end_is(sink, 4)


def test_what_a_killed_writer_said_stays_said_and_is_not_said_again(kafka):
    config, rows = config_of(kafka), samples(300)
    with writer(config, name=config.samples) as killed:
        killed.write(rows.take(slice(0, 100)))
        extent = killed.flush()
        killed.note(Silence("clicks", 2, 17, 900))
        killed.note(Silence("clicks", 2, 17, 950))
        killed.write(rows.take(slice(100, 150)))
        killed.flush()
        killed.write(rows.take(slice(150, 200)))  # never sent
    for begin in (extent, ""):
        with writer(config, begin, name=config.samples) as sink:
            assert (sink.last.end, sink.facts, sink.last.watermark_ms) == (150, {"rows": 150}, 1000)
            assert sink.silences == [Silence("clicks", 2, 17, 950)]
    with writer(config, extent, name=config.samples) as sink:
        sink.write(rows.take(slice(100, 120)))
        sink.flush()  # is behind what was said: of that more is known already
        sink.write(rows.take(slice(120, 300)))
        behind = sink.flush()
    with writer(config, behind, name=config.samples) as sink:
        assert sink.last is None or sink.last.first == 150  # where the brokers told of its end too early
    with closing(SampleReader(config, RUN)) as reader:
        same(read(reader, 300), rows)
        assert reader.facts == {"rows": 300}


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_reader_goes_on_at_every_position_as_if_it_had_not_stopped(kafka, client):
    config, rows = config_of(kafka, client=client), samples(300)
    with writer(config) as sink:
        for begin in range(0, 300, 100):
            sink.write(rows.take(slice(begin, begin + 100)))
            sink.flush()
    positions = []
    with closing(SampleReader(config, RUN)) as reader:
        positions.append((0, reader.positions(), reader.facts))
        while reader.next < 300:
            reader.poll()
            positions.append((reader.next, reader.positions(), reader.facts))
    assert {at for at, _, _ in positions} == {0, 100, 200, 300}
    for at, position, facts in positions:
        with closing(SampleReader(config, RUN)) as reader:
            reader.seek(position)
            assert (reader.next, reader.facts, reader.positions()) == (at, facts, position)
            if at < 300:
                same(read(reader, 300 - at), rows.take(slice(at, 300)))


def test_partitions_that_are_ahead_are_left_out_until_the_others_come(kafka):
    config, rows = config_of(kafka, buffer_bytes=1 << 10, fetch_bytes=1, max_poll_records=3), samples(400)
    with writer(config, cuts=Cuts(partitions=3, rows=10)) as sink:
        sink.write(rows)
        sink.flush()
    with closing(SampleReader(config, RUN)) as reader:
        same(read(reader, 400), rows)


def test_a_round_that_is_too_big_for_the_topic_is_cut_smaller(kafka):
    config = config_of(kafka)
    kafka.create(config.samples, 2, max_message_bytes=40_000)
    rows = samples(2000)
    noise = np.random.default_rng(0).integers(0, 1 << 63, rows.ids_NF.shape, np.uint64)
    rows = SampleBatch.from_arrays(rows.to_arrays() | {"ids_NF": noise})
    with writer(config) as sink:
        sink.write(rows)
        sink.flush()
        assert not end_is(sink, 2)
    with closing(SampleReader(config, RUN)) as reader:
        same(read(reader, 2000), rows)


def test_a_row_that_is_too_big_for_the_topic_is_said(kafka):
    config = config_of(kafka)
    kafka.create(config.samples, 2, max_message_bytes=34_000)
    noise = np.random.default_rng(0).integers(0, 1 << 63, (1, 8000), np.uint64)
    row = SampleBatch.from_arrays(samples(1).to_arrays() | {"ids_NF": noise})
    with writer(config) as sink:
        sink.write(row)
        with pytest.raises(DataError, match=r"takes no row of \d+ bytes; raise its max\.message\.bytes"):
            sink.flush()


def test_of_two_owners_the_older_says_nothing_more(kafka):
    config, rows = config_of(kafka), samples(30)
    with writer(config, name=config.samples) as old:
        old.write(rows.take(slice(0, 10)))
        extent = old.flush()
        with writer(config, extent, name=config.samples) as new:
            old.write(rows.take(slice(10, 20)))
            with pytest.raises(FencedError):
                old.flush()
            new.write(rows.take(slice(10, 30)))
            new.flush()
    with closing(SampleReader(config, RUN)) as reader:
        same(read(reader, 30), rows)
        assert at_end(reader)


def test_the_log_of_another_run_is_refused_by_both(kafka):
    config = config_of(kafka)
    with writer(config) as sink:
        sink.write(samples(10))
        sink.flush()
    words = "holds the emission log of another run \\(7b1f, this is 8c2a\\); name a topic of its own"
    with closing(SampleReader(config, "8c2a")) as reader, pytest.raises(DataError, match=words):
        read(reader, 10)
    with pytest.raises(DataError, match=words), writer(config, run="8c2a"):
        pass


def test_a_log_that_was_written_anew_is_refused(kafka):
    config = config_of(kafka)
    with writer(config) as sink:
        sink.write(samples(10))
        extent = sink.flush()
    with closing(SampleReader(config, RUN)) as reader:
        read(reader, 10)
        position = reader.positions()
    kafka.admin.delete_topics([config.samples])
    config = config_of(kafka)
    with writer(config) as sink:
        for first in (0, 10):
            sink.write(samples(10, first))
            sink.flush()
    with closing(SampleReader(config, RUN)) as reader:
        reader.seek(position)
        with pytest.raises(DataError, match="was written anew since; start anew with --fresh"):
            read(reader, 10)
    with pytest.raises(DataError, match="was written anew since"), writer(config, extent):
        pass


def test_another_number_of_partitions_is_refused_by_both(kafka):
    config = config_of(kafka)
    with writer(config) as sink:
        sink.write(samples(10))
        extent = sink.flush()
    with closing(SampleReader(config, RUN)) as reader:
        read(reader, 10)
        position = reader.positions()
    kafka.admin.create_partitions({config.samples: 4})
    words = "had 3 partitions when it was written and has 4"
    for begin in ("", extent):
        with pytest.raises(DataError, match=words), writer(config, begin):
            pass
    with closing(SampleReader(config, RUN)) as reader, pytest.raises(DataError, match="had 3 partitions and has 4"):
        reader.seek(position)


def test_other_messages_are_refused(kafka):
    config = config_of(kafka)
    kafka.create(config.samples, 1)
    kafka.send(config.samples, [(0, b"{}")])
    words = f"{config.samples}/0 at 0 is no part of an emission log; name another topic as kafka.samples"
    with closing(SampleReader(config, RUN)) as reader, pytest.raises(DataError, match=words):
        read(reader, 1)


def test_rows_that_the_brokers_deleted_are_said_to_be_gone(kafka):
    config = config_of(kafka)
    with writer(config) as sink:
        extents = []
        for first in (0, 10, 20):
            sink.write(samples(10, first))
            extents.append(sink.flush())
    with closing(SampleReader(config, RUN)) as reader:
        read(reader, 10)
        position = reader.positions()
    kafka.admin.delete_records({TopicPartition(config.samples, p): 3 for p in range(3)})
    with closing(SampleReader(config, RUN)) as reader, pytest.raises(DataError, match="lacks rows between 0 and 30"):
        read(reader, 10)
    with closing(SampleReader(config, RUN)) as reader, pytest.raises(DataError, match="messages are gone; join into"):
        reader.seek(position)
    with pytest.raises(DataError, match="messages are gone; join into"), writer(config, extents[0]):
        pass


def test_a_message_by_hand_is_a_part_of_the_log(kafka):
    """What stands in a message, written out."""
    config = config_of(kafka)
    with writer(config, cuts=Cuts(partitions=1)) as sink:
        sink.write(samples(1))
        sink.flush()
        log = sink._log
        round_ = (
            '{"run":"7b1f","log":"' + log + '","partitions":1,"first":1,"end":1,"watermark_ms":5,'
            '"silent":[{"topic":"a","partition":0,"number":3,"watermark_ms":4}]}'
        )
        headers = (("streamctr-round", round_.encode()), ("streamctr-facts", b'{"ended":true}'))
        sink._fence.send([Record(config.samples, None, b"", headers, None, 0)])
    with writer(config) as sink:
        assert sink.silences == [Silence("a", 0, 3, 4)]
    with closing(SampleReader(config, RUN)) as reader:
        read(reader, 1)
        for _ in range(20):
            if reader.facts == {"ended": True}:
                break
            reader.poll()
        assert (reader.facts, reader.next, reader.at_end()) == ({"ended": True}, 1, True)
