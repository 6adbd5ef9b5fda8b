"""Stages that a field of the message says or tells of, and keys, values and weights that stand elsewhere."""

import base64
import json

import numpy as np
import pyarrow as pa
import pytest

from streamctr.decode import Decoder
from streamctr.errors import ConfigError
from streamctr.hashing import MISSING_ID, hash_text, mix
from streamctr.names import Names
from streamctr.ports import RawBlock
from streamctr.schema import CsvConfig, FeaturesConfig, Funnel, MessagesConfig, StageConfig

NOW_MS = 1_650_812_741_436


def decoder(funnel, features=None, names=(), **messages):
    config = MessagesConfig(**{"key": "id", "time": "t", **messages})
    stages = {
        name: StageConfig(**({"observe": "1m"} if place else {}) | stage) for place, (name, stage) in enumerate(funnel)
    }
    return Decoder(config, Funnel.from_mapping(stages), features or FeaturesConfig(), Names(names))


def decode(decoding, *messages, stage=-1):
    payload = b"\n".join(json.dumps({"t": NOW_MS} | message).encode() for message in messages)
    return decoding.decode(RawBlock(0, stage, "log.jsonl", 1, payload, False, False))


def reasons(decoded):
    return [letter["reason"] for letter in decoded.letters]


def hashes(*texts):
    return [hash_text(text) for text in texts]


MIXED = [
    ("imp", {}),
    ("click", {"key": "of", "called": ("tap", "2")}),
    ("order", {"key": ("user", "n"), "time": "paid"}),
]


def mixed(**messages):
    return decoder(MIXED, stage="type", ignore=("beat", "view"), **messages)


def test_a_message_is_of_the_stage_that_its_field_names_or_that_is_called_so():
    imp, order = {"type": "imp", "id": "a"}, {"type": "order", "user": "u", "n": 1, "paid": NOW_MS + 5}
    clicks = [{"type": kind, "of": of} for kind, of in (("tap", "b"), ("click", "c"), (2, "d"))]
    decoded = decode(mixed(), clicks[0], order, imp, *clicks[1:])
    assert decoded.events.stage.tolist() == [1, 2, 0, 1, 1]
    assert decoded.events.root.tolist() == hashes("b", "u:1", "a", "c", "d")
    assert decoded.events.time_ms.tolist() == [NOW_MS, NOW_MS + 5, NOW_MS, NOW_MS, NOW_MS]
    assert decoded.read.tolist() == [1, 3, 1, 0]


def test_what_is_ignored_is_skipped_and_what_is_unlisted_is_rejected_at_the_last_place():
    decoded = decode(mixed(), {"type": "beat"}, {"type": "pageviw"}, {}, {"type": 1.5}, {"type": "view", "t": 1})
    assert decoded.skipped.tolist() == [0, 0, 0, 2]
    assert decoded.rejected.tolist() == [0, 0, 0, 3]
    assert decoded.read.tolist() == [0, 0, 0, 5]
    assert reasons(decoded)[:2] == [
        'stage "type" is "pageviw", none of tap, 2, imp, click, order nor of ignore',
        'stage "type" is missing',
    ]
    assert [(letter["stage"], letter["line"]) for letter in decoded.letters] == [
        ("(other)", line) for line in (2, 3, 4)
    ]
    assert len(decoded.events) == 0


def test_a_malformed_message_of_a_known_stage_counts_there_and_a_line_that_is_no_message_at_the_last_place():
    payload = b'{"type": "click"}\nno\n{"type": "imp", "id": "a", "t": 1650812741436}'
    decoded = mixed().decode(RawBlock(0, -1, "log.jsonl", 1, payload, False, False))
    assert decoded.rejected.tolist() == [0, 1, 0, 1]
    assert decoded.read.tolist() == [1, 1, 0, 1]
    assert [letter["stage"] for letter in decoded.letters] == ["click", "(other)"]


def test_every_part_of_a_composite_key_must_be_there():
    keyed = decoder([("imp", {})], key=("a", "b.c"))
    decoded = decode(
        keyed,
        *({"a": a, "b": {"c": c}} for a, c in ((1, "x"), ("1", None), ("", 2), (True, 2), (1.5, 2))),
        {"a": 1, "b": 7},
        stage=0,
    )
    assert decoded.events.root.tolist() == hashes("1:x")
    assert reasons(decoded)[:3] == ['key "b.c" is missing', 'key "a" is empty', 'key "a" is a boolean']
    assert reasons(decoded)[3].startswith('key "a" is a number with a fraction')
    assert reasons(decoded)[4] == 'key "b.c" is inside "b", which is a number, not an object'


def test_an_integer_key_is_hashed_as_a_number_alone_and_joins_as_its_decimal_text():
    alone = decode(decoder([("imp", {})], types={"id": "integer"}), {"id": "007"}, {"id": 7}, stage=0)
    assert alone.events.root.tolist() == mix(np.array([7, 7], np.uint64)).tolist()
    joined = decode(decoder([("imp", {})], key=("id", "n"), types={"id": "integer"}), {"id": "007", "n": "01"}, stage=0)
    assert joined.events.root.tolist() == hashes("7:01")


def test_a_user_of_several_fields_is_missing_where_one_of_them_is():
    decoded = decode(decoder([("imp", {})], user=("u", "v")), {"id": 1, "u": 1, "v": 2}, {"id": 1, "u": 1}, stage=0)
    assert decoded.events.user.tolist() == [hash_text("1:2"), MISSING_ID]
    nobody = decode(decoder([("imp", {})]), {"id": 1}, stage=0)
    assert nobody.events.user.tolist() == [MISSING_ID]


def test_columns_stand_as_the_features_lay_them_out():
    features = FeaturesConfig(
        id=("ad",),
        cross=(("ad", "slot"),),
        bag={"geo": {"most": 2}},
        number={"bid": {}},
        bucket={"age_group": {"of": "age", "at": (18,)}},
        vector={"emb": 2},
    )
    message = {"id": 1, "ad": "red", "slot": 3, "geo": ["de"], "bid": "2.5", "age": 30, "emb": [1, 0.5]}
    events = decode(decoder([("imp", {})], features), message, {"id": 2}, stage=0).events
    assert events.ids_NF.tolist() == [[*hashes("red", "3", "de"), 0], [0, 0, 0, 0]]
    assert events.numbers_NM[0].tolist() == [2.5, 30.0, 1.0, 0.5]
    assert np.isnan(events.numbers_NM[1]).all()


def test_nested_fields_are_missing_below_null_and_malformed_below_what_is_no_object():
    features = FeaturesConfig(id=("imp.ad.id",))
    imps = [{"ad": {"id": 7}}, {"ad": {}}, {"ad": None}, {}, None, {"ad": "x"}, [], {"ad": {"id": {}}}]
    decoded = decode(decoder([("imp", {})], features), *({"id": 1, "imp": imp} for imp in imps), {"id": 1}, stage=0)
    assert decoded.events.ids_NF[:, 0].tolist() == [hash_text("7"), 0, 0, 0, 0, 0]
    assert reasons(decoded) == [
        'id "imp.ad.id" is inside "imp.ad", which is a text, not an object',
        'id "imp.ad.id" is inside "imp", which is a list, not an object',
        'id "imp.ad.id" is an object',
    ]


def test_a_field_may_be_read_whole_and_by_its_members():
    features = FeaturesConfig(id=("geo", "geo.city"))
    decoded = decode(decoder([("imp", {})], features), {"id": 1, "geo": None}, {"id": 2, "geo": "x"}, stage=0)
    assert decoded.events.ids_NF.tolist() == [[0, 0]]
    assert reasons(decoded) == ['id "geo.city" is inside "geo", which is a text, not an object']


def test_a_weight_is_1_where_missing_and_malformed_below_0_or_where_a_sample_cannot_hold_it():
    weighed = decoder([("imp", {})], weight="w")
    weights = [{}, {"w": 0}, {"w": "2.5"}, {"w": -0.5}, {"w": 1e39}]
    decoded = decode(weighed, *({"id": 1} | weight for weight in weights), stage=0)
    assert decoded.events.weight.tolist() == [1.0, 0.0, 2.5]
    assert reasons(decoded) == [
        'weight "w" is -0.5, not 0 or more and within 32 bits',
        'weight "w" is 1e+39, not 0 or more and within 32 bits',
    ]
    assert len(set(decoded.events.content.tolist())) == 3


def test_a_value_is_carried_with_its_stage_and_tells_events_apart():
    valued = decoder([("imp", {}), ("order", {"value": "total"})], weight="w")
    decoded = decode(valued, {"id": 1, "total": 3.5}, {"id": 1, "w": "x"}, {"id": 1, "total": True}, stage=1)
    assert np.nan_to_num(decoded.events.value, nan=-1).tolist() == [3.5, -1.0, 1.0]
    assert decoded.events.weight.tolist() == [1.0, 1.0, 1.0]
    assert len(set(decoded.events.content.tolist())) == 3


def test_roots_that_differ_by_their_value_alone_are_told_apart():
    valued = decoder([("imp", {"value": "bid"}), ("click", {})])
    decoded = decode(valued, {"id": 1, "bid": 1}, {"id": 1, "bid": 2}, {"id": 1}, stage=0)
    assert len(set(decoded.events.content.tolist())) == 3  # so that the first of them is the same in any order


def test_a_stage_happens_where_all_its_flags_are_set_after_its_delay():
    told = decoder([("imp", {}), ("click", {"when": ["clicked", "long"], "delay": "7s"})])
    flags = [(1, True), (1, 0), ("true", "1"), (None, 1)]
    decoded = decode(told, *({"id": n, "clicked": c, "long": v} for n, (c, v) in enumerate(flags)), stage=0)
    assert decoded.derived.root.tolist() == hashes("0", "2")
    assert decoded.derived.time_ms.tolist() == [NOW_MS + 7000] * 2
    assert decoded.derived.stage.tolist() == [1, 1]
    assert decoded.line_of.tolist() == [0, 2]
    assert decoded.read.tolist() == [4, 2, 0]


def test_a_flag_that_is_none_makes_the_message_malformed_and_nothing_happens():
    told = decoder([("imp", {}), ("click", {"when": "clicked"})])
    decoded = decode(told, {"id": 1, "clicked": "yes"}, {"id": 2, "clicked": "1"}, stage=0)
    assert reasons(decoded) == ['flag "clicked" is "yes", not 0, 1, true or false']
    assert (decoded.events.root.tolist(), decoded.derived.root.tolist()) == (hashes("2"), hashes("2"))
    assert decoded.line_of.tolist() == [0]


@pytest.mark.parametrize(
    ("wanted", "value", "happened"),
    [
        (["won", "7"], "won", True),
        (["won", "7"], 7, True),
        (["won", "7"], "lost", False),
        (["true"], True, True),
        ([">= 4"], 4, True),
        (["> 4"], 4, False),
        (["<4.5"], "4.0", True),
        (["<= -1"], -1.5, True),
        ([">= 4"], None, False),
        ([">= 4", "ok"], "ok", True),
        ([">= 4", "ok"], "bad", False),
        ([">= 4", "ok"], 4.5, True),
    ],
)
def test_a_condition_may_be_one_of_some_texts_or_compare_a_number(wanted, value, happened):
    told = decoder([("imp", {}), ("click", {"when": {"state": wanted}})])
    decoded = decode(told, {"id": 1, "state": value}, stage=0)
    assert (len(decoded.derived), reasons(decoded)) == (int(happened), [])


def test_texts_of_an_integer_field_are_compared_as_integers():
    told = decoder([("imp", {}), ("click", {"when": {"state": ["7"]}})], types={"state": "integer"})
    assert len(decode(told, {"id": 1, "state": "007"}, stage=0).derived) == 1


def test_a_comparison_without_a_number_is_refused():
    with pytest.raises(
        ConfigError, match=r'click.when.state: ">= four" compares with no number; write one as in ">= 4"'
    ):
        decoder([("imp", {}), ("click", {"when": {"state": [">= four"]}})])


def test_a_stage_happens_at_the_time_that_a_field_says_if_it_says_one():
    told = decoder([("imp", {}), ("install", {"at": "when", "delay": "1s", "value": "fee"})])
    times = [NOW_MS, None, "", "2022-04-24T15:05:42Z"]
    decoded = decode(told, *({"id": n, "when": at, "fee": n} for n, at in enumerate(times)), stage=0)
    assert decoded.derived.time_ms.tolist() == [NOW_MS + 1000, 1_650_812_743_000]
    assert decoded.derived.value.tolist() == [0.0, 3.0]
    assert decoded.line_of.tolist() == [0, 3]
    assert reasons(decode(told, {"id": 1, "when": "soon"}, stage=0)) == [
        'time "when" is "soon", not ISO-8601 such as 2022-04-26T00:00:00Z nor a number of ms'
    ]


def test_a_stage_of_flags_and_a_time_happens_where_both_say_so():
    told = decoder([("imp", {}), ("install", {"when": "won", "at": "when"})])
    messages = [(1, NOW_MS + 1), (0, NOW_MS + 2), (1, None)]
    decoded = decode(told, *({"id": n, "won": won, "when": at} for n, (won, at) in enumerate(messages)), stage=0)
    assert (decoded.derived.root.tolist(), decoded.derived.time_ms.tolist()) == (hashes("0"), [NOW_MS + 1])


def test_a_time_before_its_message_is_nothing_where_the_flag_says_that_it_did_not_happen():
    told = decoder([("imp", {}), ("install", {"when": "won", "at": "when"})])
    decoded = decode(told, {"id": 1, "won": 0, "when": NOW_MS - 1}, stage=0)
    assert (len(decoded.derived), reasons(decoded), decoded.read.tolist()) == (0, [], [1, 0, 0])


def test_what_happened_before_its_message_is_rejected_alone():
    told = decoder([("imp", {}), ("install", {"at": "when"})], names=())
    decoded = decode(told, {"id": 1, "when": NOW_MS - 1}, {"id": 2, "when": NOW_MS}, stage=0)
    assert decoded.events.root.tolist() == hashes("1", "2")
    assert decoded.derived.root.tolist() == hashes("2")
    assert decoded.read.tolist() == [2, 2, 0]
    assert decoded.rejected.tolist() == [0, 1, 0]
    letter = decoded.letters[0]
    assert (letter["stage"], letter["line"]) == ("install", 1)
    assert letter["reason"] == 'time "when" is before "t", the time of the message that tells of it'
    assert json.loads(base64.b64decode(letter["bytes"]))["id"] == 1


def test_a_stage_is_told_of_by_the_messages_of_the_stage_that_it_says():
    funnel = [("imp", {}), ("click", {}), ("install", {"at": "when", "told_by": "click"}), ("big", {"when": "big"})]
    told = decoder(funnel, stage="type")
    messages = [{"type": kind, "id": "a", "when": NOW_MS + 1, "big": 1} for kind in ("imp", "click")]
    decoded = decode(told, *messages)
    assert decoded.events.stage.tolist() == [0, 1]
    assert decoded.derived.stage.tolist() == [2, 3]
    assert decoded.line_of.tolist() == [1, 1]


def test_a_derived_event_has_its_message_key_and_else_the_columns_of_a_child():
    told = decoder([("imp", {}), ("click", {"when": "c"})], FeaturesConfig(id=("ad",), number={"x": {}}), user="u")
    own = decode(told, {"id": 1, "c": 1, "ad": 2, "x": 3, "u": 4}, stage=0).derived
    child = decode(
        decoder([("imp", {}), ("click", {})], FeaturesConfig(id=("ad",), number={"x": {}})), {"id": 1}, stage=1
    )
    for column in ("root", "user", "ids_NF", "content", "weight", "stage", "time_ms"):
        assert getattr(own, column).tolist() == getattr(child.events, column).tolist()


def test_a_csv_record_is_read_by_the_same_rule_and_its_letter_keeps_the_header():
    features = FeaturesConfig(id=("ad",), bag={"geo": {"split": "|", "most": 2}}, number={"bid": {}}, vector={"emb": 2})
    reader = decoder([("imp", {}), ("click", {"when": "clicked"})], features, csv=CsvConfig(delimiter=";"))
    header = ("id", "t", "ad", "geo", "bid", "emb", "clicked")
    payload = f"1;{NOW_MS};red;de|at;2.5;[1 2];1\n2;{NOW_MS};;;;;\n3;{NOW_MS};;;x;;0\n".encode()
    block = RawBlock(0, 0, "imp.csv", 2, payload, True, True, "csv", header, ";")
    decoded = reader.decode(block)
    assert decoded.events.root.tolist() == hashes("1", "2")
    assert decoded.events.ids_NF.tolist() == [hashes("red", "de", "at"), [0, 0, 0]]
    assert decoded.events.numbers_NM[0].tolist() == [2.5, 1.0, 2.0]
    assert decoded.derived.root.tolist() == hashes("1")
    letter = decoded.letters[0]
    assert (letter["reason"], letter["line"]) == ('number "bid" is "x", not a number', 4)
    assert (letter["kind"], letter["header"], letter["delimiter"]) == ("csv", list(header), ";")


def test_rows_of_columns_are_read_by_the_same_rule():
    rows = pa.RecordBatch.from_pylist(
        [
            {"id": "1", "t": NOW_MS, "imp": {"ad": 7}, "geo": ["de"], "kind": "imp"},
            {"id": "2", "t": NOW_MS, "imp": None, "geo": None, "kind": "nothing"},
        ]
    )
    features = FeaturesConfig(id=("imp.ad",), bag={"geo": {"most": 1}})
    block = RawBlock(0, -1, "log.parquet", 1, b"", True, True, "arrow", rows=rows)
    decoded = decoder([("imp", {})], features, stage="kind").decode(block)
    assert decoded.events.ids_NF.tolist() == [hashes("7", "de")]
    assert reasons(decoded) == ['stage "kind" is "nothing", none of imp']
    assert (decoded.letters[0]["kind"], decoded.letters[0]["line"]) == ("arrow", 2)
    assert "header" not in decoded.letters[0]


def test_an_id_stays_an_id_where_the_same_field_is_a_number_too():
    of_root = decoder([("imp", {}), ("click", {})], FeaturesConfig(id=("n",), number={"n": {}}))
    decoded = decode(of_root, {"id": 1, "n": 7}, {"id": 2, "n": 8}, stage=0)
    assert (decoded.events.ids_NF[:, 0].tolist(), decoded.events.numbers_NM[:, 0].tolist()) == (
        hashes("7", "8"),
        [7, 8],
    )
    of_click = decoder([("imp", {}), ("click", {"value": "n"})], FeaturesConfig(id=("n",)), stage="type")
    decoded = decode(of_click, {"type": "imp", "id": 1, "n": 7}, {"type": "click", "id": 1, "n": 8})
    assert (decoded.events.ids_NF[0].tolist(), decoded.events.value[1]) == (hashes("7"), 8.0)


@pytest.mark.parametrize("ids", [(2, 1.5), (1.5, 2), (2, 3, 1.0)])
def test_a_number_with_a_fraction_beside_an_integer_id_changes_nothing_for_it(ids):
    decoded = decode(decoder([("imp", {}), ("click", {})]), *({"id": one} for one in ids), stage=0)
    assert decoded.events.root.tolist() == hashes(*(str(one) for one in ids if isinstance(one, int)))
    assert decoded.rejected.tolist() == [1, 0, 0]


def test_texts_of_wanted_ids_of_mixed_messages_are_offered():
    names = Names(("ad",))
    config = MessagesConfig(key="id", time="t", stage="type")
    funnel = Funnel.from_mapping({"imp": None, "click": StageConfig(observe="1m")})
    reading = Decoder(config, funnel, FeaturesConfig(id=("ad",)), names)
    events = decode(reading, {"type": "click", "id": 1}, {"type": "imp", "id": 1, "ad": 12}).events
    names.claim("ad", events.ids_NF[1])
    assert names.text("ad", hash_text("12")) == "12"
