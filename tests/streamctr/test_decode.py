"""What a good message is, and that the fast way and the slow way agree on it."""

import base64
import json
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamctr.decode import Decoded, Decoder
from streamctr.errors import DataError
from streamctr.events import EventBatch
from streamctr.hashing import MISSING_ID, hash_text
from streamctr.names import Names
from streamctr.ports import LINE_LIMIT_BYTES, Original, RawBlock
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig, NumberConfig, StageConfig, TimeConfig

FUNNEL = Funnel.from_mapping({"impression": None, "click": StageConfig(observe="10s")})
FEATURES = FeaturesConfig(id=("ad", "user"), number={"price": NumberConfig()})
NOW_MS = 1_650_812_741_436
FRACTION = "is a number with a fraction, an exponent or more than 64 bits: write it without a fraction or as text, "
FRACTION += "or list it under features.number"
OUTSIDE = "is outside 2000 to 2100 (a number counts as ms); set time.unit, or write ISO-8601"
NO_TIME = "not ISO-8601 such as 2022-04-26T00:00:00Z nor a number of ms"


def decoder(time: str | dict[str, str] = "t", names: Names | None = None) -> Decoder:
    config = MessagesConfig(key="id", time=TimeConfig.model_validate(time), user="user")
    return Decoder(config, FUNNEL, FEATURES, names or Names(()))


def block(payload: bytes, stage: int = 0, first_line: int = 1, file_ended: bool = False) -> RawBlock:
    return RawBlock(stage, stage, "impression.jsonl", first_line, payload, file_ended, False)


def decode(*lines: str | bytes, stage: int = 0, time: str | dict[str, str] = "t") -> Decoded:
    payload = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    decoded = decoder(time).decode(block(payload, stage))
    assert decoded.read.tolist() == [0] * stage + [len(decoded.events) + len(decoded.letters)] + [0] * (2 - stage)
    assert decoded.rejected.sum() == len(decoded.letters)
    return decoded


def message(**fields: object) -> str:
    return json.dumps({"id": "a", "t": NOW_MS, **fields})


def reasons(*lines: str | bytes, time: str | dict[str, str] = "t") -> list[str]:
    return [letter["reason"] for letter in decode(*lines, time=time).letters]


def rows(events: EventBatch) -> list[tuple[object, ...]]:
    columns = (events.time_ms, events.stage, events.root, events.user, events.ids_NF, events.numbers_NM, events.content)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def same_rows(left: EventBatch, right: EventBatch) -> None:
    assert str(rows(left)) == str(rows(right))  # as text, because NaN is not NaN


def test_a_root_carries_key_time_user_ids_and_numbers() -> None:
    events = decode(message(user=7, ad="red", price=2.5)).events
    assert events.time_ms.tolist() == [NOW_MS]
    assert events.stage.tolist() == [0]
    assert events.root.tolist() == [hash_text("a")]
    assert events.user.tolist() == [hash_text("7")]
    assert events.ids_NF.tolist() == [[hash_text("red"), hash_text("7")]]
    assert events.numbers_NM.tolist() == [[2.5]]


def test_a_child_carries_key_and_time_only_and_zeros_and_nan_elsewhere() -> None:
    events = decode(message(user=[1], ad=1.5, price="x"), stage=1).events
    assert events.root.tolist() == [hash_text("a")]
    assert events.stage.tolist() == [1]
    assert events.user.tolist() == [MISSING_ID]
    assert events.ids_NF.tolist() == [[MISSING_ID, MISSING_ID]]
    assert np.isnan(events.numbers_NM).tolist() == [[True]]


def test_null_and_absent_are_missing() -> None:
    events = decode(message(user=None, ad=None, price=None), message()).events
    assert events.user.tolist() == [MISSING_ID] * 2
    assert events.ids_NF.tolist() == [[MISSING_ID] * 2] * 2
    assert np.isnan(events.numbers_NM).all()


@pytest.mark.parametrize("values", [(123, "123"), (True, "true"), (False, "false"), (-0, "0"), ("\u00e9", "é")])
def test_an_id_is_its_canonical_text(values: tuple[object, object]) -> None:
    first, second = decode(message(ad=values[0]), message(ad=values[1])).events.ids_NF[:, 0].tolist()
    assert first == second == hash_text(str(values[1]))
    assert decode(message(ad=values[0])).events.ids_NF[0, 0] == first


def test_the_texts_007_and_7_are_two_ids_and_the_empty_text_is_one() -> None:
    ids = decode(message(ad="007"), message(ad="7"), message(ad=""), message(ad="2022-04-25")).events.ids_NF[:, 0]
    assert ids.tolist() == [hash_text(text) for text in ("007", "7", "", "2022-04-25")]


def test_of_two_values_under_one_name_the_last_counts() -> None:
    events = decode('{"id": "x", "t": 1, "ad": 1, "id": "a", "t": 1650812741436, "ad": "red"}').events
    same_rows(events, decode(message(ad="red")).events)


def test_the_content_hash_tells_any_two_events_apart() -> None:
    lines = [message(), message(ad="x"), message(user="x"), message(price=1), message(price=2), message(t=NOW_MS + 1)]
    events = decode(*lines, message(id="b")).events
    child = decode(message(), stage=1).events
    assert len({*events.content.tolist(), *child.content.tolist()}) == 8
    assert decode(message(price=-0.0)).events.content == decode(message(price=0)).events.content


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (message(id=None), 'key "id" is missing'),
        (message(id=""), 'key "id" is empty'),
        (message(id=1.0), f'key "id" {FRACTION}'),
        (message(id=True), 'key "id" is a boolean'),
        (message(id=1 << 63), f'key "id" {FRACTION}'),
        (message(t=None), 'time "t" is missing'),
        (message(t=float(NOW_MS)), 'time "t" is a number with a fraction, an exponent or more than 64 bits'),
        (message(t=f"{NOW_MS}.0"), f'time "t" is "{NOW_MS}.0", {NO_TIME}'),
        (message(t=NOW_MS // 1000), f'time "t" {OUTSIDE}'),
        (message(t=-(1 << 63)), f'time "t" {OUTSIDE}'),
        (message(user=[1]), 'id "user" is a list'),
        (message(ad={"a": 1}), 'id "ad" is an object'),
        (message(ad=10**30), f'id "ad" {FRACTION}'),
        (message(price="1,5"), 'number "price" is "1,5", not a number'),
        (message(price="x" * 50), f'number "price" is "{"x" * 40}...", not a number'),
        (message(price=[1]), 'number "price" is a list'),
        (message(price=float("nan")), "not JSON: unexpected character, expected a JSON value"),
        (message(other=float("inf")), "not JSON: unexpected character, expected a JSON value"),
        ('{"id": "a", "t": 1650812741436, "other": 1e400}', "not JSON: number is infinity when parsed as double"),
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        (message() + message(), "not JSON: unexpected content after document"),
        (message() + " x", "not JSON: unexpected content after document"),
        ("\ufeff" + message(), "not JSON: UTF-8 byte order mark (BOM) is not supported"),
        (message(ad="\ud800"), "not JSON: no low surrogate in string"),
        (message().encode() + b"\x00", "not JSON: unexpected content after document"),
    ],
)
def test_what_is_malformed_becomes_a_letter_with_its_reason(line: str | bytes, reason: str) -> None:
    decoded = decode(message(), line, message(id="b"))
    assert [letter["reason"] for letter in decoded.letters] == [reason]
    assert decoded.events.root.tolist() == [hash_text("a"), hash_text("b")]


def test_a_letter_says_where_and_keeps_the_bytes() -> None:
    decoded = decoder().decode(block(b"\n".join([message().encode(), b"\xff\r", b" \t\r", b'{"id":']), first_line=11))
    places = [(letter["stage"], letter["path"], letter["line"]) for letter in decoded.letters]
    assert places == [("impression", "impression.jsonl", 12), ("impression", "impression.jsonl", 14)]
    assert [base64.b64decode(letter["bytes"]) for letter in decoded.letters] == [b"\xff\r", b'{"id":']
    assert [letter["kind"] for letter in decoded.letters] == ["json", "json"]
    assert (decoded.read.tolist(), decoded.rejected.tolist()) == ([3, 0, 0], [2, 0, 0])


def test_half_a_message_on_each_of_two_lines_is_two_malformed_lines() -> None:
    assert len(reasons('{"id":"a","t":', f"{NOW_MS}" + "}")) == 2


def test_blank_lines_and_carriage_returns_are_no_messages() -> None:
    decoded = decode("", message() + "\r", " \t\r", message(id="b") + "\r", "")
    assert (decoded.read.tolist(), len(decoded.letters), len(decoded.events)) == ([2, 0, 0], 0, 2)
    assert decode("").read.tolist() == [0, 0, 0]


def test_a_line_beyond_the_limit_is_rejected_with_its_first_bytes() -> None:
    long = b'{"id": "a", "t": 1650812741436, "x": "' + b"y" * LINE_LIMIT_BYTES + b'"}'
    letters = decode(message(), long[: LINE_LIMIT_BYTES + 1]).letters
    assert letters[0]["reason"] == "longer than 16777216 bytes"
    assert base64.b64decode(letters[0]["bytes"]) == long[: 1 << 16]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-04-26T00:00:01.5Z", "2022-04-26T00:00:01.500+00:00"),
        ("2022-04-26 08:00:01.123999+08:00", "2022-04-26T00:00:01.123+00:00"),
        ("2022-04-25T20:00-0400", "2022-04-26T00:00:00+00:00"),
        ("2024-02-29t12:00z", "2024-02-29T12:00:00+00:00"),
        ("2022-04-26T05:30+0530", "2022-04-26T00:00:00+00:00"),
        ("2022-01-01T00:00", "2021-12-31T16:00:00+00:00"),
        ("2022-12-31T23:59:59,999", "2022-12-31T15:59:59.999+00:00"),
    ],
)
def test_iso_times_are_read_with_their_offset_or_in_the_zone(text: str, moment: str) -> None:
    decoded = decode(message(t=text), time={"field": "t", "zone": "Asia/Shanghai"})
    assert decoded.events.time_ms.tolist() == [round(datetime.fromisoformat(moment).timestamp() * 1000)]


@pytest.mark.parametrize(
    "text",
    [
        "2022-04-26",
        "2022-02-29T00:00Z",
        "2022-13-01T00:00Z",
        "2022-00-01T00:00Z",
        "2022-01-01T24:00Z",
        "2022-01-01T00:60Z",
        "2022-01-01T00:00:60Z",
        "2022-01-01T00:00:00.Z",
        "2022-01-01T00:00Z ",
        "2022-01-01T00:00+8",
        "2022-01-01T00:00+08:0",
        "2022/01/01T00:00Z",
        "2022-01-01X00:00Z",
        "2022-01-01T00.00Z",
        "",
    ],
)
def test_what_is_no_iso_moment_is_rejected(text: str) -> None:
    assert reasons(message(t=text)) == [f'time "t" is "{text}", {NO_TIME}']


@given(
    st.datetimes(datetime(2000, 1, 3), datetime(2099, 12, 30)),
    st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
@settings(max_examples=200)
def test_iso_times_agree_with_the_standard_library(moment: datetime, zone: str) -> None:
    text = moment.isoformat(timespec="milliseconds")
    expected = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000
    decoded = decode(message(t=text), time={"field": "t", "zone": zone})
    assert decoded.events.time_ms.tolist() == [round(expected)]


def test_seconds_may_have_a_fraction_and_are_rounded_to_milliseconds() -> None:
    time = {"field": "t", "unit": "s"}
    assert decode(message(t=1650812741), message(t=1650812741.4356), time=time).events.time_ms.tolist() == [
        1_650_812_741_000,
        1_650_812_741_436,
    ]
    assert decode(message(t=1650812741), time=time).events.time_ms.tolist() == [1_650_812_741_000]
    outside = f'time "t" {OUTSIDE}'.replace("as ms", "as s")
    assert reasons(message(t=NOW_MS), message(t=1e300), message(t=-1e300), time=time) == [outside] * 3


def test_times_are_bounded_by_2000_and_2100() -> None:
    lines = [message(t=t) for t in (946_684_799_999, 946_684_800_000, 4_102_444_799_999, 4_102_444_800_000)]
    assert decode(*lines).events.time_ms.tolist() == [946_684_800_000, 4_102_444_799_999]


def test_a_field_whose_first_value_stands_deep_in_a_block_is_read_all_the_same() -> None:
    decoded = decode(*[message()] * 20, message(ad=7), *[message()] * 20)
    assert decoded.letters == []
    assert decoded.events.ids_NF[:, 0].tolist() == [MISSING_ID] * 20 + [hash_text("7")] + [MISSING_ID] * 20


def test_one_field_may_be_key_time_id_and_number_at_once() -> None:
    config = MessagesConfig(key="t", time=TimeConfig(field="t"), user="t")
    features = FeaturesConfig(id=("t",), number={"t": NumberConfig()})
    events = Decoder(config, FUNNEL, features, Names(())).decode(block(b'{"t": %d}' % NOW_MS)).events
    assert events.root[0] == events.user[0] == events.ids_NF[0, 0] == hash_text(str(NOW_MS))
    assert events.numbers_NM[0, 0] == events.time_ms[0] == NOW_MS


def test_texts_of_wanted_ids_are_offered() -> None:
    names = Names(("ad",))
    events = decoder(names=names).decode(block("\n".join([message(ad=12), message(ad=None)]).encode())).events
    names.claim("ad", events.ids_NF[:, 0])
    assert names.text("ad", hash_text("12")) == "12"
    assert names.text("ad", MISSING_ID) == "missing"


def test_a_file_whose_every_message_is_malformed_stops_the_run_with_the_commonest_reason() -> None:
    decode_block = decoder().decode
    decode_block(block(b'{"id": "a"}\nno\n'))
    with pytest.raises(DataError, match=r"impression.jsonl: every one of its 4 messages is malformed, 3 of them") as e:
        decode_block(block(b'{"id": "b"}\n{"id": "c"}', first_line=3, file_ended=True))
    assert 'time "t" is missing' in str(e.value)
    assert 'Line 1 is {"id": "a"}. Wanted' in str(e.value)


def test_one_good_message_or_none_at_all_is_no_such_file() -> None:
    decode_block = decoder().decode
    decode_block(block(message().encode() + b"\n"))
    decode_block(block(b"no", file_ended=True))
    decode_block(block(b"\n \n", file_ended=True))


def test_a_restored_decoder_remembers_the_file_that_it_was_at() -> None:
    for first, stops in ((b"no\n", True), (message().encode() + b"\n", False)):
        before, after = decoder(), decoder()
        before.decode(block(first))
        after.restore(before.state())
        assert after.state()["tallies"].tobytes() == before.state()["tallies"].tobytes()
        if stops:
            with pytest.raises(DataError, match="every one of its 2 messages"):
                after.decode(block(b"no", first_line=2, file_ended=True))
        else:
            after.decode(block(b"no", first_line=2, file_ended=True))


def test_an_event_further_ahead_of_its_record_than_allowed_is_rejected():
    lines = "\n".join(message(id=name, t=NOW_MS + ahead) for name, ahead in (("a", 5), ("b", 6), ("c", 7)))
    late_block = replace(block(lines.encode()), latest_ms=np.array([NOW_MS + 5, NOW_MS + 5, NOW_MS + 10]))
    decoded = decoder().decode(late_block)
    assert decoded.events.time_ms.tolist() == [NOW_MS + 5, NOW_MS + 7]
    assert [letter["reason"] for letter in decoded.letters] == [
        'time "t" is 2022-04-24T15:05:41.442Z, not within what its record\'s own timestamp allows'
    ]


def test_a_letter_of_a_topic_holds_the_whole_message_with_its_key_and_headers():
    whole = b'{"id":\n"' + b"x" * 100_000
    known = {0: Original(whole, b"k", (("trace", b"1"), ("none", None)), NOW_MS), 1: Original(None, b"k", (), -1)}
    from_topic = replace(block(b'{"id":\rx\nnull'), original=known.__getitem__)
    first, second = decoder().decode(from_topic).letters
    assert base64.b64decode(first["bytes"]) == whole
    assert (base64.b64decode(first["key"]), first["headers"]) == (b"k", [["trace", "MQ=="], ["none", None]])
    assert (first["time_ms"], second["time_ms"], second["bytes"], second["headers"]) == (NOW_MS, -1, None, [])


def test_what_happened_before_the_start_is_skipped_also_what_cannot_be_read():
    known = [Original(b"", None, (), time_ms) for time_ms in (NOW_MS, NOW_MS - 1, NOW_MS, -1, NOW_MS)]
    lines = [message(t=NOW_MS - 1), "no", "no", "no", message(t=NOW_MS)]
    whole = replace(block("\n".join(lines).encode()), original=known.__getitem__)
    decoded = decoder().decode(whole).since(NOW_MS, ("impression", "click"))
    assert (decoded.events.time_ms.tolist(), decoded.lines.tolist()) == ([NOW_MS], [5])
    assert [letter["line"] for letter in decoded.letters] == [3, 4]
    assert (decoded.read.tolist(), decoded.rejected.tolist(), decoded.skipped.tolist()) == (
        [5, 0, 0],
        [2, 0, 0],
        [2, 0, 0],
    )
