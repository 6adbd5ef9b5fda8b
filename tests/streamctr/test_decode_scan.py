"""The compiled scan finds what the strict parser finds: any names, nested anyhow, in any order, cut anywhere."""

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamctr.decode.cells import cells_of, find
from streamctr.decode.jsonlines import JsonLines
from streamctr.decode.scan import BLANK, PLAIN, SUSPECT, scan
from streamctr.decode.tokens import bytes_of
from streamctr.decode.tree import tree_of

NAMES = [
    "a",
    "b",
    "ab",
    "é",
    "user_id",
    "user_ip",
    "12345678",
    "123456789",
    "feature_number_0001",
    "feature_number_0002",
]
NAMES += ["", "a" * 40]
PATHS = [*NAMES, *(f"{outer}.{inner}" for outer in NAMES[:6] for inner in NAMES), "a.b.ab", "a.b.user_id", "b.a.b.a"]
TEXTS = ['""', '"x"', '"1.5"', '"\\u00e9\\n"', '"\\ud83d\\ude00 \\"q\\""', '"é"', '"' + "long" * 70 + '"', '"\\ud800"']
NUMBERS = ["0", "-0", "7", "-12", "1.5", "-0.0", "1e3", "2E-7", "9007199254740993", "0.1234567890123456789", "1e400"]
NUMBERS += [
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "12345678901234567",
]
SCALARS = st.sampled_from([*TEXTS, *NUMBERS, "true", "false", "null", "nul", "01", "-", "[", "}"])
SPACE = st.sampled_from(["", "", "", " ", "\t "])


def objects(values):
    names = st.sampled_from([*NAMES, "other", "\\u0061", "another_unwanted_name"])
    member = st.tuples(SPACE, names, SPACE, values, SPACE).map(lambda m: f'{m[0]}"{m[1]}"{m[2]}:{m[3]}{m[4]}')
    return st.lists(member, max_size=6).map(lambda members: "{" + ",".join(members) + "}")


def lists(values):
    return st.lists(values, max_size=4).map(lambda items: "[" + ", ".join(items) + "]")


VALUES = st.recursive(SCALARS, lambda inner: objects(inner) | lists(inner), max_leaves=8)
LINES = st.lists(
    objects(VALUES).map(str.encode) | st.sampled_from([b"", b" ", b"[]", b"{}x", b'{"a":"\xff"}']), max_size=6
)


def values_of(cells, n):
    """The values of a field's arrays, each with its type; strange ones in words."""
    values = [None] * n
    for array in cells.arrays:
        for row, value in enumerate(array.to_pylist()):
            values[row] = values[row] if value is None else (str(array.type), repr(value))
    for row, what in cells.strange.items():
        values[row] = what
    return values


def parsed_by_rule(line):
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None


@given(LINES, st.sets(st.sampled_from(PATHS), min_size=1, max_size=12), st.data())
@settings(max_examples=500)
@example(
    [b'{"a":{"b":1},"a":{}}', b'{"a":{"b":1},"a":null}', b'{"a":{},"a":{"b":[1]}}', b'{"a":1}'], {"a.b", "a"}, None
)
@example([b'{"a":"\\n","b":{"a":"\\u0041"}}'], {"a", "b", "b.a"}, None)
def test_every_field_of_every_line_is_what_the_strict_parser_says(lines, paths, data):
    if data is not None and lines and data.draw(st.booleans()):
        row = data.draw(st.integers(0, len(lines) - 1))
        lines = [*lines[:row], lines[row][: data.draw(st.integers(0, len(lines[row])))], *lines[row + 1 :]]
    meant = {row: parsed_by_rule(line) for row, line in enumerate(lines) if line.strip(b" \t\r")}
    good = [row for row, message in meant.items() if message is not None]
    reader = JsonLines(paths)
    for _ in range(2):  # the second time with what it remembers of names
        found = reader.parse(b"\n".join(lines))
        assert found.places.tolist() == good
        assert sorted(found.refused) == [row for row, message in meant.items() if message is None]
        for path in paths:
            by_rule = cells_of([find(meant[row], tuple(path.split("."))) for row in good])
            assert values_of(found.cells[path], len(good)) == values_of(by_rule, len(good))


def test_names_are_told_apart_by_all_their_bytes():
    names = [f"{'x' * 8}{middle}{'y' * 8}" for middle in ("", "a", "b", "cc")] + ["x" * 16, "y" * 17, "z" * 7, "z" * 8]
    line = orjson.dumps({name: place for place, name in enumerate(names)})
    for wanted in names:
        found = JsonLines([wanted]).parse(b"\n".join([line] * 3)).cells[wanted]
        assert [array.to_pylist() for array in found.arrays] == [[names.index(wanted)] * 3]


def test_so_many_fields_each_have_their_own_place():
    names = [f"field_{number}" for number in range(2000)]
    line = orjson.dumps({name: place for place, name in enumerate(names)})
    parsed = JsonLines(names).parse(b"\n".join([line, b"{}", line]))
    assert all(parsed.cells[name].arrays[0].to_pylist() == [place, None, place] for place, name in enumerate(names))


def test_a_letter_shows_a_line_as_it_was_and_not_as_it_is_read():
    parsed = JsonLines(["a"]).parse(b'{"a":"\\u0041"}\n{"a":"\\n"}\r\n')
    assert parsed.cells["a"].arrays[0].to_pylist() == ["A", "\n"]
    assert [parsed.text(0, 99), parsed.text(1, 4)] == [b'{"a":"\\u0041"}', b'{"a"']


def states(*lines):
    text = bytes_of(b"".join(line + b"\n" for line in lines))
    return scan(text, len(lines), 1, tree_of(["a.b"])).states_L.tolist()


PLAIN_LINES = [b'{"c":[1,{"b":"}{\\"\\\\"}],"d":-1.5e10}', b' \t{"NaN":true}\r', b'{"c":"\\u00e9\xc3\xa9"}', b"{}"]
PLAIN_LINES += [
    b'{"c":"\\uD83D\\ude00"}',
    b'{"a":null}',
    b'{"a":{"b":1},"a":{}}',
    b'{"a.b":[[],{}, [{} ]]}',
    b'{"":"\x7f"}',
]
PLAIN_LINES += [b'{"c":%s%s}' % (b"[" * 62, b"]" * 62), b'{"c":[0,-0,0.0,1E+99,1e-99]}', b'{"c":%s}' % (b"9" * 200)]
SUSPECT_LINES = [
    b'{"c":1e400}',
    b'{"c":NaN}',
    b'{"c":"\\ud83d"}',
    b'{"c":"\\ude00\\ud83d"}',
    b"[1]",
    b'{"c":1}{}',
    b'{"c":1',
]
SUSPECT_LINES += [
    b'{"c":"}',
    b"{}]",
    b"x",
    b'{"c":%s}' % (b"9" * 310),
    b'{"c":%s}' % (b"[" * 64 + b"]" * 64),
    b'{"c":"\t"}',
]
SUSPECT_LINES += [
    b'{"c":01}',
    b'{"c":1.}',
    b'{"c":.5}',
    b'{"c":-}',
    b'{"c":1e}',
    b'{"c":1e+}',
    b'{"c":+1}',
    b'{"c":1_0}',
]
SUSPECT_LINES += [
    b'{"c":tru}',
    b'{"c":truex}',
    b'{"c":nul',
    b'{"c" 1}',
    b'{"c":1,}',
    b'{,"c":1}',
    b'{"c":[1,]}',
    b'{"c":[1}}',
]
SUSPECT_LINES += [
    b'{"c":{]}',
    b'{"c":[1 2]}',
    b'{"c":1 "d":2}',
    b"{'c':1}",
    b"{c:1}",
    b'{"c":"\\x"}',
    b'{"c":"\\u12g4"}',
    b'{"c":}',
]
SUSPECT_LINES += [
    b'{"\\u0061":{}}',
    b'{"a":1}',
    b'{"a":[]}',
    b'{"a":"x"}',
    b'{"a":{"\\u0062":1}}',
    b"\xef\xbb\xbf{}",
    b'{"c":\x0c1}',
]


def test_lines_are_plain_where_nothing_is_left_to_judge():
    assert states(*PLAIN_LINES) == [PLAIN] * len(PLAIN_LINES)
    assert [line for line in SUSPECT_LINES if states(line) != [SUSPECT]] == []
    assert states(b" \t\r", b"", b"\r") == [BLANK] * 3


def test_a_suspect_line_hides_nothing_of_the_lines_beside_it():
    for line in SUSPECT_LINES:
        assert states(b"{}", line, b"", b"{}") == [PLAIN, SUSPECT, BLANK, PLAIN]
