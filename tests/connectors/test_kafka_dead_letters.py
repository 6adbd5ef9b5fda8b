"""What is put into a dead-letter topic comes back byte for byte and once; of a fenced owner nobody sees any."""

import base64
import gc
import logging
import uuid
from contextlib import closing

import pytest

from connectors.kafka.config import KafkaConfig
from connectors.kafka.deadletters import DeadLetterTopic, read_dead_letters
from connectors.kafka.fence import Fence
from streamctr.errors import ContactError, FencedError, TopicError

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")


@pytest.fixture(autouse=True)
def _forgotten_sockets(monkeypatch):
    monkeypatch.setattr(logging.getLogger("kafka"), "propagate", False)  # records that pytest keeps hold them too
    yield
    for _ in range(3):  # coroutines that are finalised in the first round let go of sockets in the next
        gc.collect()


def config_of(broker):
    return KafkaConfig(servers=broker.servers, topic="events", contact="5s")


def fence_of(broker, name):
    return Fence(config_of(broker), name, name)


@pytest.fixture(scope="module")
def fence(kafka):
    with closing(fence_of(kafka, f"letters-{uuid.uuid4().hex[:12]}")) as fence:
        yield fence


def text(content):
    return None if content is None else base64.b64encode(content).decode()


def letter(line, value=b"{}", key=b"k", headers=(), **fields):
    made = {
        "reason": "is malformed",
        "stage": "click",
        "path": "clicks/3",
        "line": line,
        "bytes": text(value),
        "kind": "json",
        "key": text(key),
        "headers": [[name, text(what)] for name, what in headers],
        "time_ms": 1_650_000_000_000 + line,
    }
    return made | fields


def read(broker, topic, run=None):
    return list(read_dead_letters(config_of(broker), topic, run))


def by_line(letters):
    return sorted(letters, key=lambda letter: letter["line"])


POISON = [
    letter(1, b"not JSON", reason='is not JSON: "not JSON"'),
    letter(2, b'{"id": 7, "price": "cheap"}', None),
    letter(3, b'{"id": "\xff\xfe"}', b"\x00\xff"),
    letter(4, None, b"tombstone"),
    letter(5, None, None),
    letter(6, b"", b""),
    letter(7, b"{\n}", headers=[("a", b"1"), ("a", b"2"), ("trace-\u00e9", b"\x80\x00")]),
    letter(8, b"{}", headers=[("streamctr-reason", b"a letter itself"), ("streamctr-run", b"x")], time_ms=-1),
    letter(9, b"[" * 300_000, stage="(other)", path="a.b-c/0"),
    letter(10**12, b"null", reason="\u4e0d\u597d", stage="view"),
]


def test_letters_come_back_byte_for_byte_with_key_headers_and_place(kafka, fence):
    topic = kafka.topic(2, "dead", max_message_bytes=1 << 20)
    sink = DeadLetterTopic(fence, topic, "run-1")
    sink.write(POISON)
    sink.flush()
    assert by_line(read(kafka, topic)) == [one | {"run": "run-1"} for one in by_line(POISON)]


def test_a_header_without_a_value_comes_back_with_an_empty_one(kafka, fence):
    topic = kafka.topic(1, "dead")
    sink = DeadLetterTopic(fence, topic, "run-1")
    sink.write([letter(1, headers=[("a", None)])])
    sink.flush()
    assert read(kafka, topic)[0]["headers"] == [["a", ""]]


def test_a_letter_that_stands_there_twice_is_read_once_for_each_stage_and_run(kafka, fence):
    topic = kafka.topic(3, "dead")
    first, other = DeadLetterTopic(fence, topic, "run-1"), DeadLetterTopic(fence, topic, "run-2")
    first.write([letter(1), letter(2)])
    saved = first.flush()
    first.write([letter(3)])
    first.flush()
    first.truncate(saved)  # as after a crash behind that snapshot
    first.write([letter(3), letter(4), letter(4, stage="buy"), letter(4, path="clicks/2")])
    first.flush()
    other.write([letter(1)])
    other.flush()
    found = [(one["line"], one["stage"], one["path"]) for one in read(kafka, topic, "run-1")]
    last = [(4, "buy", "clicks/3"), (4, "click", "clicks/2"), (4, "click", "clicks/3")]
    assert sorted(found) == [(line, "click", "clicks/3") for line in (1, 2, 3)] + last
    assert [one["line"] for one in read(kafka, topic, "run-2")] == [1]
    assert len(read(kafka, topic)) == 7


def test_what_was_not_flushed_is_not_sent(kafka, fence):
    topic = kafka.topic(1, "dead")
    sink = DeadLetterTopic(fence, topic, "run-1")
    sink.write([letter(1)])
    sink.truncate("")
    sink.write([letter(2)])
    sink.close()
    sink.flush()
    assert read(kafka, topic) == []


def test_what_waits_is_bounded(kafka, fence):
    topic = kafka.topic(1, "dead", max_message_bytes=1 << 22)
    sink = DeadLetterTopic(fence, topic, "run-1")
    sink.write([letter(line, b"x" * 3_000_000) for line in range(5)])
    assert read(kafka, topic) == []
    sink.write([letter(5, b"x" * 3_000_000)])  # 18 MB, more than 16 MiB
    assert [len(base64.b64decode(one["bytes"])) for one in read(kafka, topic)] == [3_000_000] * 6


def test_many_letters_wait_while_brokers_are_silent_and_a_snapshot_does_not_pass_them(kafka, fence, monkeypatch):
    topic = kafka.topic(1, "dead", max_message_bytes=1 << 23)
    sink = DeadLetterTopic(fence, topic, "run-1")
    with monkeypatch.context() as silent:
        tried = []

        def send(records):
            tried.append(len(records))
            raise ContactError("nobody answers")

        silent.setattr(fence, "send", send)
        for line in range(9):
            sink.write([letter(line, b"x" * (1 << 22))])
        assert tried == [4, 8]  # at every 16 MiB
        with pytest.raises(ContactError, match="nobody answers"):
            sink.flush()
    sink.flush()
    assert len(read(kafka, topic)) == 9


def test_of_a_message_bigger_than_the_topic_takes_the_first_part_is_kept(kafka, fence):
    topic = kafka.topic(1, "dead", max_message_bytes=100_000)
    sink = DeadLetterTopic(fence, topic, "run-1")
    value = bytes(range(256)) * 1000
    wide = [("h", b"y" * 100_000)]
    sink.write(
        [
            letter(1, value),
            letter(2, value[:99_000]),
            letter(3, value[:60_000], b"k" * 70_000),
            letter(4, b"v", headers=wide),
        ]
    )
    sink.write([letter(5, None, b"k" * 100_000), letter(6, b"whole", reason="r" * 100_000)])
    sink.flush()
    cut = {one["line"]: one for one in read(kafka, topic)}
    assert [cut[line].get("cut") for line in range(1, 7)] == [256_000, None, 60_000, 1, 0, None]
    kept = base64.b64decode(cut[1]["bytes"])
    assert 99_000 < len(kept) < 100_000
    assert value.startswith(kept)
    assert base64.b64decode(cut[1]["key"]) == b"k"
    assert (len(cut[2]["bytes"]), cut[2]["key"]) == (132_000, text(b"k"))
    assert cut[3]["bytes"] == text(value[:60_000])
    assert b"k" * 20_000 < base64.b64decode(cut[3]["key"]) < b"k" * 70_000
    assert (cut[4]["bytes"], cut[4]["headers"]) == (text(b"v"), [])
    assert cut[5]["bytes"] is None
    assert (cut[6]["bytes"], len(cut[6]["reason"])) == (text(b"whole"), 4096)


def test_letters_of_a_fenced_owner_are_seen_by_nobody(kafka):
    topic, name = kafka.topic(1, "dead"), f"letters-{uuid.uuid4().hex[:12]}"
    with closing(fence_of(kafka, name)) as older:
        sink = DeadLetterTopic(older, topic, "run-1")
        sink.write([letter(1)])
        with closing(fence_of(kafka, name)) as newer:
            with pytest.raises(FencedError):
                sink.flush()
            with pytest.raises(FencedError):
                sink.flush()
            after = DeadLetterTopic(newer, topic, "run-1")
            after.write([letter(2)])
            after.flush()
    assert [one["line"] for one in read(kafka, topic)] == [2]


def test_messages_that_are_no_letters_are_passed_over(kafka):
    topic = kafka.topic(1, "dead")
    kafka.send(topic, [(0, b"mine"), (0, None)])
    assert read(kafka, topic) == []


def test_topics_that_would_not_keep_letters_are_refused(kafka, fence):
    compact, small = kafka.topic(1, "dead", cleanup_policy="compact"), kafka.topic(1, "dead", max_message_bytes=9_000)
    with pytest.raises(TopicError, match=r"dead_letters: there is no topic none; create it \(kafka-topics.sh"):
        DeadLetterTopic(fence, "none", "run-1")
    with pytest.raises(TopicError, match="there is no topic none; create it"):
        read(kafka, "none")
    with pytest.raises(TopicError, match=f"{compact} keeps only the last letter of each key; set its cleanup.policy"):
        DeadLetterTopic(fence, compact, "run-1")
    with pytest.raises(TopicError, match=f"{small} takes no message of more than 9000 bytes; set its max.message"):
        DeadLetterTopic(fence, small, "run-1")
