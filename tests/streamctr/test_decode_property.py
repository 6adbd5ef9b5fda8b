"""The decoder against the plain one, on lines that are drawn: flat ones of one stage, nested ones of all."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_decoder import BLANK, SKIPPED, PlainDecoder

from streamctr.decode import Decoder, jsonlines
from streamctr.decode.scan import BLANK as BLANK_LINE
from streamctr.decode.scan import SUSPECT, scan
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
    ended = np.concatenate([whole.events.stage, whole.derived.stage])
    ended = np.bincount(ended, minlength=len(whole.read)) + whole.rejected + whole.skipped
    assert whole.read.tolist() == ended.tolist()


@given(payloads(), st.sampled_from(["ms", "s", "us"]))
@settings(max_examples=400)
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
# of each field: kinds that are good, one of which a block mostly keeps to, and last what else may stand there
BAD_IDS = ['"007"', "7", '"-7"', '""', '"a"', "true", "1.0", "[1]", "{}", "null", "9223372036854775808"]
IDS = [["1", "7"], ['"1"', '"a"'], ["true", "null"], BAD_IDS]
KEYS = [["1", "7"], ['"1"', '"7"'], BAD_IDS]
NUMBERS = [["1", "2.5"], ['"3.5"', '"1e-3"', "null"], ['"nan"', '" 1"', "true", "-1", "[1]", '"' + "9" * 60 + '"']]
LISTS = [
    ['["a","b"]', "[]", "[null]"],
    ["[1,2,3]", "[]"],
    ['"a, b,,"', '""'],
    ['[1,"2",true]', "[1.5]", "[[1]]", "7", "{}"],
]
INTEGERS_LISTS = [["[1,2,3]", "[]"], ['"7, 007"'], ['["1","2"]', '["a"]', '[1,"2"]', "[true]", "[1.5]", "7"]]
VECTORS = [
    ["[1,2.5]", "[0,1]"],
    ['"[0.1, 0.2]"', '"1 2"'],
    ['"1,2,3"', '["1","2"]', '[1.5,"2"]', "[1,null]", "[]", "7"],
]
VECTORS[-1] += ["[true,false]", "[[1]]", '[1,"2",true]', '"a b"']
FLAGS = [["true", "false"], ["0", "1"], ['"0"', '"true"', '"yes"', "2", "1.0", "null", "[]"]]
SHARES = [["0.7", "0.2"], ['"0.7"', '"all"'], ['"some"', "true", "1", "null", "[1]"]]
TYPES = [
    ['"imp"'],
    ['"imp"', '"click"', '"tap"', '"order"', '"beat"'],
    ['"seen"', '"pageviw"', "1", "null", "[1]", "1.5"],
]
TIMES_IN = {
    "ms": [["1650812741436"], ['"2022-04-24T15:05:41.436Z"', '"1650812741436"'], ["1650812741", '"1650812741436.0"']],
    "s": [["1650812741.4365", "1650812741"], ['"1650812741.4365"'], ["1650812741436", "1e300", '"2022-04-24 15:05"']],
    "us": [["1650812741436999"], ['"1650812741436999"'], ["1650812741436999.5", "1650812741436"]],
}
BAD_TIMES = ["null", "[]", '"soon"', '""', "true", '"2022-04-24T15:05:41.435Z"']
OTHERS_OF = {"imp": ["null", "7", "{}", '{"id":1,"id":2}'], "user": ["null", '"u"', "[]"]}
FIELDS = {
    "type": TYPES,
    "ts": [],
    "imp.id": KEYS,
    "imp.ad": IDS,
    "imp.size": KEYS,
    "imp.bid": NUMBERS,
    "imp.seen": FLAGS,
    "imp.share": SHARES,
    "user.id": KEYS,
    "user.kind": IDS,
    "of": KEYS,
    "n": KEYS,
    "kind": IDS,
    "geo": LISTS,
    "tags": INTEGERS_LISTS,
    "emb": VECTORS,
    "w": NUMBERS,
    "fee": NUMBERS,
    "install_ts": [],
    "paid_ts": [],
}


@st.composite
def mixed_payloads(draw, unit):
    """Nested lines of all stages, most fields of which keep to one type; some are left out."""
    times = [*TIMES_IN[unit][:2], TIMES_IN[unit][2] + BAD_TIMES]
    fields = {name: kinds or times for name, kinds in FIELDS.items()}
    usual = {name: draw(st.sampled_from(kinds[:-1])) for name, kinds in fields.items()}
    calm = draw(st.booleans())
    strange = set() if calm else draw(st.sets(st.sampled_from(list(fields)), max_size=2))
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        odd = draw(st.integers(0, 60 if calm else 11))
        if odd == 0:
            lines.append(draw(st.sampled_from(ODD_LINES)))
            continue
        absent = draw(st.sampled_from(list(fields)))
        members: dict[str, list[str]] = {"": [], "imp": [], "user": []}
        for name, kinds in fields.items():
            if name != absent:
                values = [value for kind in kinds for value in kind] if name in strange else usual[name]
                parent, _, member = name.rpartition(".")
                members[parent].append(f'"{member}":{draw(st.sampled_from(values))}')
        for number, parent in enumerate(("imp", "user"), start=1):
            whole = "{" + ",".join(members[parent]) + "}"
            members[""].append(f'"{parent}":{draw(st.sampled_from(OTHERS_OF[parent])) if odd == number else whole}')
        lines.append(("{" + ",".join(members[""]) + "}").encode())
    return lines


def mixed_in(unit):
    return MIXED.model_copy(update={"time": MIXED.time.model_copy(update={"unit": unit})})


@given(st.data(), st.sampled_from(["ms", "s", "us"]))
@settings(max_examples=300)
def test_a_mixed_nested_block_gives_what_the_rule_says_of_each_line(data, unit):
    check_agrees(data.draw(mixed_payloads(unit)), -1, mixed_in(unit), MIXED_FUNNEL, MIXED_FEATURES)


def all_suspect(*arguments):
    """Of the scan only where lines begin, and which are blank."""
    found = scan(*arguments)
    found.states_L[found.states_L != BLANK_LINE] = SUSPECT
    return found


@given(mixed_payloads("ms"))
@settings(max_examples=150)
def test_the_fast_way_and_the_slow_way_give_the_same(lines):
    decoder = Decoder(MIXED, MIXED_FUNNEL, MIXED_FEATURES, Names(()))
    fast = decoder.decode(block(lines, -1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonlines, "scan", all_suspect)
        slow = decoder.decode(block(lines, -1))
    assert outcome(fast) == outcome(slow)
    assert fast.letters == slow.letters
    assert fast.events.content.tolist() == slow.events.content.tolist()
