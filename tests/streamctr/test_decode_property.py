"""The decoder against the plain one, on lines that are drawn: flat ones of one stage, nested ones of all."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_decoder import BLANK, SKIPPED, PlainDecoder

from streamctr.decode import Decoder
from streamctr.decode.jsonlines import JsonLines
from streamctr.names import Names
from streamctr.ports import RawBlock
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig, StageConfig

FLAT = MessagesConfig(key="id", time="t", user="user")
FLAT_FUNNEL = Funnel.from_mapping({"impression": None, "click": StageConfig(observe="10s")})
FLAT_FEATURES = FeaturesConfig(id=("ad", "user"), number={"price": {}})

INTEGERS = ["123", "0", "-0", "-7", "9223372036854775807", "9223372036854775808", "18446744073709551616", "9" * 400]
FLOATS = [
    "1.0",
    "1e2",
    "1E400",
    "-0.0",
    "1.5e-400",
    "1e99",
    "0." + "3" * 300,
    "2.5",
    "NaN",
    "-Infinity",
    "01",
    "1.",
    "+1",
]
TEXTS = ['"123"', '"007"', '""', '"\\u0000"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00x"', '"2022-04-25"', '"é\x7f"']
TEXTS += ['"}{"', '"\\\\"', '"\\""', '"a\tb"', '"NaN"', '"\\x"', '"\\u12"']
OTHERS = ["true", "false", "null", "[1]", '{"id":"z"}', "[", "}", "tru", "", "[" * 400 + "]" * 400]
TIMES = [
    "1650812741436",
    "1650812741",
    "1650812741.4365",
    '"2022-04-26T00:00Z"',
    '"2022-04-26 01:02:03.25+02:00"',
    "null",
]
VALUES = {
    "id": [["1", "2", "3", "-0"], ['"a"', '"b"'], INTEGERS + FLOATS + TEXTS + OTHERS],
    "t": [TIMES[:1], TIMES[1:2], TIMES[2:3], TIMES[3:5], TIMES + FLOATS + TEXTS + OTHERS],
    "ad": [["1", "20", "null"], ['"x"', '"y"', "null"], ["true", "false"], INTEGERS + FLOATS + TEXTS + OTHERS],
    "user": [["1", "20"], ['"x"', '"1"'], INTEGERS + TEXTS],
    "price": [["1", "2.5", "-0", "null", "1e3"], INTEGERS + FLOATS, INTEGERS + FLOATS + TEXTS + OTHERS],
    "other": [["1", '"x"', "[{}]"], INTEGERS + FLOATS + TEXTS + OTHERS],
}
ODD_LINES = [b"", b" \r", b'{"id":', b'"x"}', b"{}", b"[1]", b"null", b"\xef\xbb\xbf{}", b"\x00", b"{}{}", b"NaN", b"}"]
ODD_LINES += [b'{"id":"\xff","t":1650812741436}', b'{"id":"\xed\xa0\x80","t":1650812741436}']
ODD_LINES += [
    b'{"id":"a","t":1650812741436} x',
    b'{"id":"a","t":1650812741436,}',
    b"{'id':1}",
    b'{"id":\r"a","t":1650812741436}',
]
ODD_LINES += [
    b'{"\\u0069d":"a","t":1650812741436}',
    b'{"id":"a","t":1650812741436}\x0b',
    b'{"id":"a"\x0c,"t":1650812741436}',
]


@st.composite
def payloads(draw):
    """Lines whose fields mostly keep to one type, so that both ways of reading are taken."""
    usual = {name: draw(st.sampled_from(kinds)) for name, kinds in VALUES.items()}
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        odd = draw(st.integers(0, 9))
        if odd == 9:
            lines.append(draw(st.sampled_from(ODD_LINES)))
            continue
        names = draw(st.permutations(list(VALUES))) if odd == 8 else list(VALUES)
        names = [*names, draw(st.sampled_from(names))] if odd == 7 else names
        names = names[1:] if odd == 6 else names
        pairs = (f'"{name}":{draw(st.sampled_from(usual[name]))}' for name in names)
        lines.append(("{" + ", ".join(pairs) + "}" + draw(st.sampled_from(["", "\r", " "]))).encode())
    return lines


def block(lines, stage, first_line=1):
    return RawBlock(0, stage, "events.jsonl", first_line, b"\n".join(lines), False, False)


def rows(events):
    columns = (events.time_ms, events.stage, events.root, events.user, events.ids_NF, events.numbers_NM)
    columns += (events.value, events.weight)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def outcome(decoded):
    counts = [counts.tolist() for counts in (decoded.read, decoded.rejected, decoded.skipped)]
    told = list(zip(decoded.line_of.tolist(), rows(decoded.derived), strict=True))
    return str(rows(decoded.events)), str(told), counts  # as text, because NaN is not NaN


def outcome_by_rule(lines, stage, config, funnel, features):
    """The same of the plain decoder."""
    plain = PlainDecoder(config, funnel, features)
    n = len(funnel.stages) + 1
    events, told, counts = [], [], [[0] * n for _ in range(3)]
    for found in (plain.line(line, stage) for line in lines):
        if found == BLANK:
            continue
        if not isinstance(found, tuple):
            place = n - 1 if found == SKIPPED else found
            counts[0][place] += 1
            counts[2 if found == SKIPPED else 1][place] += 1
            continue
        event, late, early = found
        told += [(len(events), derived) for derived in late]
        events.append(event)
        for place in (event[1], *early, *(derived[1] for derived in late)):
            counts[0][place] += 1
        for place in early:
            counts[1][place] += 1
    return str(events), str(told), counts


def check_agrees(lines, stage, config, funnel, features):
    """Whole block, line by line, and the plain decoder."""
    whole = Decoder(config, funnel, features, Names(())).decode(block(lines, stage))
    assert outcome(whole) == outcome_by_rule(lines, stage, config, funnel, features)
    decoder = Decoder(config, funnel, features, Names(()))
    parts = [decoder.decode(block([line], stage, number)) for number, line in enumerate(lines, start=1)]
    assert whole.letters == [letter for part in parts for letter in part.letters]
    assert whole.events.content.tolist() == [c for part in parts for c in part.events.content.tolist()]
    assert whole.derived.content.tolist() == [c for part in parts for c in part.derived.content.tolist()]
    counted = [len(whole.events) + len(whole.derived), whole.rejected.sum(), whole.skipped.sum()]
    assert whole.read.sum() == sum(counted)


@given(payloads(), st.sampled_from(["ms", "s", "us"]))
@settings(max_examples=2500)
@example([b'{"id":"a","t":1650812741436,"ad":null,"ad":1}', b'{"id":"a","t":1650812741436,"ad":1,"ad":null}'], "ms")
@example([b'{"id":"a","t":1650812741436,"price":9007199254740993}'], "ms")
def test_a_flat_block_gives_what_the_rule_says_of_each_line(lines, unit):
    config = FLAT.model_copy(update={"time": FLAT.time.model_copy(update={"unit": unit})})
    check_agrees(lines, 0, config, FLAT_FUNNEL, FLAT_FEATURES)


MIXED_FUNNEL = Funnel.from_mapping(
    {
        "imp": StageConfig(value="imp.bid"),
        "seen": StageConfig(
            after="imp", observe="1m", when={"imp.seen": (), "imp.share": (">= 0.5", "all")}, delay="1s"
        ),
        "click": StageConfig(after="imp", observe="1m", key="of", called="tap"),
        "install": StageConfig(observe="1m", at="install_ts", value="fee", told_by="click"),
        "big": StageConfig(after="click", observe="1m", when={"kind": ("1", "x", "true")}, told_by="click"),
        "order": StageConfig(after="click", observe="1m", key=("user.id", "n"), value="fee", time="paid_ts"),
    }
)
MIXED_FEATURES = FeaturesConfig(
    id=("imp.ad", "imp.size", "kind"), bag={"geo": {"most": 2}, "tags": {}}, number={"imp.bid": {}}, vector={"emb": 2}
)
MIXED = MessagesConfig(
    key="imp.id",
    time="ts",
    user=("user.id", "user.kind"),
    stage="type",
    ignore="beat",
    weight="w",
    types={"imp.size": "integer", "n": "integer", "tags": "integer"},
)
TS = ["1650812741436", '"2022-04-24T15:05:41.436Z"', '"1650812741436"', "1650812741.4365", '"1650812741.4365"', "null"]
TS += ["1650812741436999", '"1650812741436999"']
LATER = ["1650812741437", '"2022-04-24T15:05:42Z"', '"1650812741400"', '""', "null", "1650812742", "[]", '"soon"']
IDS = [
    ["1", "7"],
    ['"1"', '"a"'],
    ["true"],
    ['"007"', "7", '"-7"', '""', "1.0", "[1]", "{}", "null", "9223372036854775808"],
]
NUMBERS = [["1", "2.5"], ['"3.5"', '"1e-3"', '"nan"', '" 1"', "true", "-1", "[1]", "null", '"' + "9" * 60 + '"']]
LISTS = [
    ['["a","b"]', "[]", "[null]"],
    ["[1,2,3]", "[]"],
    ['"a, b,,"', '""'],
    ['[1,"2",true]', "[1.5]", "[[1]]", "7", "{}"],
]
VECTORS = [
    ["[1,2.5]", "[0,1]"],
    ['"[0.1, 0.2]"', '"1 2"', '"1,2,3"'],
    ['["1","2"]', '[1.5,"2"]', "[1,null]", "[true,false]"],
]
FLAGS = [["true", "false"], ["0", "1"], ['"0"', '"true"', '"yes"', "2", "1.0", "null", "[]"]]
SHARES = [["0.7", "0.2"], ['"0.7"', '"all"', '"some"', "true", "1", "null", "[1]"]]
OTHERS_OF = {"imp": ["null", "7", "{}", '{"id":1,"id":2}'], "user": ["null", '"u"', "[]"]}
FIELDS = {
    "type": [
        ['"imp"'],
        ['"imp"', '"click"', '"order"'],
        ['"tap"', '"beat"', '"seen"', '"pageviw"', "1", "null", "[1]", "1.5"],
    ],
    "ts": [TS[:1], TS[1:2], TS],
    "imp.id": IDS,
    "imp.ad": IDS,
    "imp.size": IDS,
    "imp.bid": NUMBERS,
    "imp.seen": FLAGS,
    "imp.share": SHARES,
    "user.id": IDS,
    "user.kind": IDS,
    "of": IDS,
    "n": IDS,
    "kind": IDS,
    "geo": LISTS,
    "tags": LISTS,
    "emb": [*VECTORS, *LISTS],
    "w": NUMBERS,
    "fee": NUMBERS,
    "install_ts": [LATER[:1], LATER],
    "paid_ts": [TS[:1], TS],
}


@st.composite
def mixed_payloads(draw):
    """Nested lines of all stages, most fields of which mostly keep to one type; some are left out."""
    usual = {name: draw(st.sampled_from(kinds)) for name, kinds in FIELDS.items()}
    strange = draw(st.sets(st.sampled_from(list(FIELDS)), max_size=3))
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.integers(0, 11)) == 0:
            lines.append(draw(st.sampled_from(ODD_LINES)))
            continue
        absent = draw(st.sets(st.sampled_from(list(FIELDS)), max_size=2))
        members: dict[str, list[str]] = {"": [], "imp": [], "user": []}
        for name, kinds in FIELDS.items():
            if name not in absent:
                values = [value for kind in kinds for value in kind] if name in strange else usual[name]
                parent, _, member = name.rpartition(".")
                members[parent].append(f'"{member}":{draw(st.sampled_from(values))}')
        for parent in ("imp", "user"):
            whole = "{" + ",".join(members[parent]) + "}"
            odd = draw(st.integers(0, 11)) == 0
            members[""].append(f'"{parent}":{draw(st.sampled_from(OTHERS_OF[parent])) if odd else whole}')
        lines.append(("{" + ",".join(members[""]) + "}").encode())
    return lines


@given(mixed_payloads(), st.sampled_from(["ms", "s", "us"]))
@settings(max_examples=2500)
def test_a_mixed_nested_block_gives_what_the_rule_says_of_each_line(lines, unit):
    config = MIXED.model_copy(update={"time": MIXED.time.model_copy(update={"unit": unit})})
    check_agrees(lines, -1, config, MIXED_FUNNEL, MIXED_FEATURES)


@given(mixed_payloads())
@settings(max_examples=1000)
def test_the_fast_way_and_the_slow_way_give_the_same(lines):
    decoder = Decoder(MIXED, MIXED_FUNNEL, MIXED_FEATURES, Names(()))
    fast = decoder.decode(block(lines, -1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonLines, "_at_once", lambda *arguments: None)
        slow = decoder.decode(block(lines, -1))
    assert outcome(fast) == outcome(slow)
    assert fast.letters == slow.letters
    assert fast.events.content.tolist() == slow.events.content.tolist()
