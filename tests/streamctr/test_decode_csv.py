"""What a good CSV record is: the same as in the standard library's reader, and stricter about quotes."""

import csv
import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamctr.decode.cells import Parsed
from streamctr.decode.csv import parse_csv
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock
from streamctr.schema import CsvConfig

HEADER = ("id", "imp.ad", "price")


def parse(
    payload: str | bytes,
    header: tuple[str, ...] = HEADER,
    delimiter: str = ",",
    fields: tuple[str, ...] | None = None,
    missing: tuple[str, ...] = (),
) -> Parsed:
    data = payload.encode() if isinstance(payload, str) else payload
    block = RawBlock(0, 0, "view.csv", 2, data, True, True, "csv", header, delimiter)
    return parse_csv(block, header if fields is None else fields, CsvConfig(missing=missing))


def records(parsed: Parsed) -> list[tuple[str | None, ...]]:
    for cells in parsed.cells.values():
        cells.arrays[0].validate(full=True)
    columns = [cells.arrays[0].to_pylist() for cells in parsed.cells.values()]
    return list(zip(*columns, strict=True))


def reason(line: str | bytes, header: tuple[str, ...] = HEADER) -> str:
    """Why a line is refused that stands between two good ones."""
    good = ",".join("x" for _ in header).encode()
    raw = line.encode() if isinstance(line, str) else line
    parsed = parse(b"\n".join([good, raw, good]), header)
    assert parsed.places.tolist() == [0, 2]
    assert list(parsed.refused) == [1]
    return parsed.refused[1]


def test_fields_stand_by_the_header_and_only_the_wanted_ones_are_given() -> None:
    parsed = parse("1,red,2.5\n2,blue,\n", fields=("price", "id"))
    assert {name: cells.arrays[0].to_pylist() for name, cells in parsed.cells.items()} == {
        "price": ["2.5", None],
        "id": ["1", "2"],
    }


def test_a_dotted_name_is_a_column_of_that_name() -> None:
    assert parse("1,red,2\n", fields=("imp.ad",)).cells["imp.ad"].arrays[0].to_pylist() == ["red"]


def test_a_field_that_the_header_lacks_is_missing_everywhere() -> None:
    parsed = parse("1,a,2\n2,b,3\n", fields=("id", "user"))
    assert parsed.cells["user"].arrays[0].to_pylist() == [None, None]
    assert parsed.refused == {}


def test_quotes_may_hold_the_delimiter_and_doubled_quotes() -> None:
    assert records(parse('"a,b","say ""hi""",""""\n"","x",""\n')) == [("a,b", 'say "hi"', '"'), (None, "x", None)]


def test_an_empty_field_and_the_declared_texts_are_missing_quoted_or_not() -> None:
    assert records(parse('NA,"NA",\n"",NAN,-\n', missing=("NA", "-"))) == [(None, None, None), (None, "NAN", None)]


def test_lines_end_with_or_without_a_carriage_return_and_the_last_needs_no_end() -> None:
    assert records(parse('1,a,x\r\n2,b,"y"\r\n3,c,\r\n4,d,z')) == [
        ("1", "a", "x"),
        ("2", "b", "y"),
        ("3", "c", None),
        ("4", "d", "z"),
    ]


def test_blank_lines_are_no_messages_and_count_as_places() -> None:
    parsed = parse("\n1,a,x\n\r\n\n2,b,y\n1,2\n\n")
    assert parsed.places.tolist() == [1, 4]
    assert list(parsed.refused) == [5]
    assert parsed.messages == 3


def test_no_lines_are_no_messages() -> None:
    assert records(parse("")) == []
    assert parse("").messages == 0


def test_a_tab_can_part_the_fields_and_then_a_comma_does_not() -> None:
    assert records(parse("1\ta,b\t\n", delimiter="\t")) == [("1", "a,b", None)]


def test_of_two_columns_with_one_name_the_last_counts() -> None:
    assert parse("1,2\n", header=("a", "a")).cells["a"].arrays[0].to_pylist() == ["2"]


def test_texts_beyond_ascii_keep_their_bytes() -> None:
    line = "ü,日本,😀"
    assert records(parse(line)) == [("ü", "日本", "😀")]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("a,b", "the number of fields is 2, not 3 as in the header"),
        ("a,b,c,", "the number of fields is 4, not 3 as in the header"),
        ('a,"b,c', "a quote is not closed in its line (a line break within quotes is not supported)"),
        ('a,b,"', "a quote is not closed in its line (a line break within quotes is not supported)"),
        ('a,b,"""', "a quote is not closed in its line (a line break within quotes is not supported)"),
        ('a,"b"c,d', 'text behind a closing quote (a quote within quotes is written "")'),
        ('a,"b" ,d', 'text behind a closing quote (a quote within quotes is written "")'),
        ('a,b,"c"d', 'text behind a closing quote (a quote within quotes is written "")'),
        ('a,b"c,d', "a quote in a field without quotes around it (a line break within quotes is not supported)"),
        ("a,b\0,c", "a NUL byte"),
        (b"a,\xff,c", "not UTF-8"),
        (b"a,b,\xc3", "not UTF-8"),
    ],
)
def test_a_line_that_is_no_record_is_refused_and_its_neighbours_are_not(line: str | bytes, wanted: str) -> None:
    assert reason(line) == wanted


def test_both_halves_of_a_record_with_a_line_break_are_refused() -> None:
    parsed = parse('1,a,x\n"2\n2",b,y\n3,c,z\n')
    assert parsed.places.tolist() == [0, 3]
    assert all("line break within quotes" in why for why in parsed.refused.values())
    assert sorted(parsed.refused) == [1, 2]


def test_a_line_beyond_the_limit_is_refused_and_one_at_the_limit_is_good() -> None:
    longest = b"a," + b"x" * (LINE_LIMIT_BYTES - 2)
    parsed = parse(longest + b"\n" + longest + b"x\n1,2\n", header=("a", "b"))
    assert parsed.refused == {1: "longer than 16777216 bytes"}
    assert parsed.places.tolist() == [0, 2]


def test_a_letter_has_the_bytes_of_its_line() -> None:
    parsed = parse("1,a,x\r\n1,2\n3,é,z")
    assert parsed.text(0, 100) == b"1,a,x\r"
    assert parsed.text(1, 100) == b"1,2"
    assert parsed.text(2, 3) == b"3,\xc3"


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0"), max_size=12)


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), max_size=6)),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([['"'], ["x" * 40], [",,"]], ",", csv.QUOTE_MINIMAL, "\n")
def test_what_the_standard_writer_writes_is_read_as_it_was(
    rows: list[list[str]], delimiter: str, quoting: int, end: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)
    header = tuple(f"c{column}" for column in range(len(rows[0]) if rows else 1))
    parsed = parse(text.getvalue(), header, delimiter)
    assert parsed.refused == {}
    assert records(parsed) == [tuple(value or None for value in row) for row in rows]


FIELD = r'(?:"(?:[^"]|"")*"|[^",]*)'
RECORD = re.compile(rf"{FIELD}(?:,{FIELD}){{2}}")
"""Three fields by RFC 4180."""


@settings(max_examples=400)
@given(st.lists(st.text(st.sampled_from('aé",, \r'), max_size=9), max_size=8))
@example(['"a","",""""', '"",",","', ',,"a""', '",",,', ',"""",', 'a"",,'])
def test_a_line_is_good_by_the_grammar_alone_and_then_reads_as_in_the_standard_library(lines: list[str]) -> None:
    parsed = parse("\n".join(lines))
    texts = {place: line.removesuffix("\r") for place, line in enumerate(lines)}
    good = [place for place, text in texts.items() if text and RECORD.fullmatch(text)]
    assert parsed.places.tolist() == good
    assert sorted(parsed.refused) == [place for place, text in texts.items() if text and place not in good]
    # The standard reader takes a carriage return for the end of a record.
    values = [next(csv.reader([texts[place].replace("\r", "R")], strict=True)) for place in good]
    assert records(parsed) == [tuple(value.replace("R", "\r") or None for value in row) for row in values]


@given(st.binary(max_size=60))
@example(b"a,b,\xed\xa0\x80")
@example(b"a,b,\xf4\x90\x80\x80")
@example(b"a,b,\xe0\x80\xaf")
@example(b"a,\xe2\x82,c\nd,\xe2\x82\xac,f")
def test_any_bytes_give_texts_or_reasons(payload: bytes) -> None:
    parsed = parse(payload)
    assert len(records(parsed)) == len(parsed.places)
    assert sorted([*parsed.places.tolist(), *parsed.refused]) == [
        place for place, line in enumerate(payload.split(b"\n")) if line.removesuffix(b"\r")
    ]
    for place, line in enumerate(payload.split(b"\n")):
        try:
            line.decode()
        except UnicodeDecodeError:
            assert parsed.refused[place] in ("not UTF-8", "a NUL byte")
        else:
            assert parsed.refused.get(place) != "not UTF-8"
