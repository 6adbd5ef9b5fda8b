"""What messages of a topic become for the decoder: one line each, and letters that name offsets."""

import base64
from contextlib import closing

import numpy as np
import pytest

from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaSource
from streamctr.decode import Decoder
from streamctr.names import Names
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig, StageConfig

FUNNEL = Funnel.from_mapping({"view": None, "click": StageConfig(observe=1000)})
GOOD = b'{"id": "a", "t": 1650812741436, "what": "view"}'


def decoder():
    messages = MessagesConfig(key="id", time={"field": "t"}, stage="what", rejects={"share": 1})
    return Decoder(messages, FUNNEL, FeaturesConfig(), Names(()))


@pytest.fixture(params=["kafka-python", "confluent"])
def decoded(kafka, request):
    """What the decoder makes of a topic with these values, whichever client reads it."""

    def decoding(values, limit_bytes=LINE_LIMIT_BYTES):
        topic = kafka.topic()
        kafka.send(topic, [(0, value) for value in values], max_request_size=1 << 26)
        config = KafkaConfig(
            servers=kafka.servers, topic=topic, max_message_bytes=limit_bytes, client=request.param, ahead=None
        )
        return outcome(config, topic, len(values))

    return decoding


def outcome(config, topic, n):
    """Lines that became events; and number, reason and message, as it came, of each dead letter."""
    found, reading = [], decoder()
    with closing(KafkaSource(config, FUNNEL, True, "end")) as source:
        while not found or not found[-1][0].ended:
            block = source.poll(0)
            found.append((block, reading.decode(block)))
    events = [int(line) for _, part in found for line in part.lines]
    letters = [letter for _, part in found for letter in part.letters]
    assert {letter["path"] for letter in letters} <= {f"{topic}/0"}
    assert sum(int(part.read.sum()) for _, part in found) == n
    texts = [None if letter["bytes"] is None else base64.b64decode(letter["bytes"]) for letter in letters]
    return events, [(letter["line"], letter["reason"], text) for letter, text in zip(letters, texts, strict=True)]


def test_a_message_over_several_lines_is_one_message(decoded):
    pretty = b'{\n  "id": "a",\r\n  "t": 1650812741436,\n\n  "what": "view"\n}\n'
    assert decoded([GOOD, pretty, GOOD]) == ([0, 1, 2], [])


def test_a_line_break_inside_a_text_stays_what_json_does_not_allow(decoded):
    broken = b'{"id": "a\nb", "t": 1650812741436, "what": "view"}'
    events, letters = decoded([broken, GOOD])
    assert events == [1]
    [(line, reason, text)] = letters
    assert (line, text) == (0, broken)
    assert reason.startswith("not JSON: ")


def test_messages_without_a_value_and_blank_ones_are_counted_as_rejected(decoded):
    assert decoded([None, GOOD, b"", b" \r\n\t", GOOD]) == (
        [1, 4],
        [(0, "has no value (a tombstone)", None), (2, "is empty", b""), (3, "is empty", b" \r\n\t")],
    )


def test_a_message_beyond_the_limit_is_rejected_even_if_its_beginning_is_good(decoded):
    long = GOOD + b" " * 50
    events, letters = decoded([GOOD, long], limit_bytes=60)
    assert events == [0]
    assert letters == [(1, "longer than 60 bytes", long)]


def test_a_giant_message_does_not_stop_those_behind_it(decoded):
    giant = b'{"id": "' + b"x" * (LINE_LIMIT_BYTES + 1_000_000)
    events, letters = decoded([GOOD, giant, GOOD])
    assert events == [0, 2]
    assert [(line, reason) for line, reason, _ in letters] == [(1, f"longer than {LINE_LIMIT_BYTES} bytes")]


def test_lines_that_are_not_consecutive_are_known_by_their_numbers():
    payload = GOOD + b"\n[]\n" + GOOD
    block = RawBlock(0, -1, "events/0", 7, payload, False, False, numbers=np.array([7, 9, 40]))
    part = decoder().decode(block)
    assert part.lines.tolist() == [7, 40]
    assert [(letter["line"], letter["reason"]) for letter in part.letters] == [(9, "not a JSON object")]
