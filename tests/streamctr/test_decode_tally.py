"""When malformed messages stop a run."""

import base64

import pytest

from streamctr.decode import Decoder
from streamctr.decode.tally import Tally
from streamctr.errors import DataError
from streamctr.names import Names
from streamctr.ports import RawBlock
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig, RejectsConfig, StageConfig


def tally(share=0.5, of_last=4):
    return Tally(RejectsConfig(share=share, of_last=of_last), 'the key in "id" and the time in "t"')


def count(counting, good, first=0, partition=0, file_ended=False, reason="no"):
    """Messages from the texts of `good`: + is good, others are malformed for `reason` and that letter."""
    block = RawBlock(partition, 0, "view.jsonl", 1, b"", file_ended, False)
    letters = [
        (number, {"reason": f"{reason} {mark}", "path": "view.jsonl", "line": first + number + 1, "bytes": "eA=="})
        for number, mark in enumerate(good)
        if mark != "+"
    ]
    counting.count(block, len(good), letters)


@pytest.mark.parametrize("cuts", [[8], [1] * 8, [3, 5], [4, 4], [5, 3]])
def test_a_piece_with_more_than_its_share_malformed_stops_the_run_however_it_is_cut(cuts):
    def counted():
        counting, first = tally(), 0
        for cut in cuts:
            count(counting, "+aa+aab+"[first : first + cut], first)
            first += cut

    with pytest.raises(DataError) as error:
        counted()
    assert str(error.value) == (
        "view.jsonl: 3 of 4 messages in a row are malformed, more than the share of 0.5 that rejects.share allows, "
        '2 of them because: no a. Line 5 is x. Wanted is one JSON object a line, with the key in "id" and the '
        'time in "t": mend the file or the run file, or raise rejects.share'
    )


def test_exactly_the_share_is_allowed_and_pieces_do_not_overlap():
    counting = tally()
    count(counting, "++aaaa++" * 3)


def test_a_piece_that_is_not_full_stops_nothing():
    count(tally(), "+++" + "+" + "aaa")


def test_with_a_share_of_1_only_a_whole_file_stops_the_run():
    counting = tally(share=1)
    count(counting, "a" * 20)
    with pytest.raises(DataError, match="every one of its 21 messages is malformed"):
        count(counting, "a", file_ended=True)


def test_partitions_are_counted_each_for_itself():
    counting = tally()
    for partition in (0, 1):
        count(counting, "+aa", partition=partition)
    with pytest.raises(DataError, match="3 of 4"):
        count(counting, "a", partition=1)


def test_a_restored_tally_goes_on_in_the_middle_of_a_piece():
    before, after = tally(), tally()
    count(before, "+++++aa")
    after.restore(before.state())
    assert after.state()["tallies"].tobytes() == before.state()["tallies"].tobytes()
    with pytest.raises(DataError, match="3 of 4"):
        count(after, "a")


def test_a_reason_counts_as_one_whatever_the_value_in_it():
    letters = [("a", 'number "x" is "p", not a number'), ("b", "other"), ("c", 'number "x" is "q", not a number')]
    listed = [
        (number, {"reason": reason, "path": "view.jsonl", "line": number, "bytes": base64.b64encode(text.encode())})
        for number, (text, reason) in enumerate(letters, start=1)
    ]
    listed = [(number, letter | {"bytes": letter["bytes"].decode()}) for number, letter in listed]
    with pytest.raises(DataError, match=r'2 of them because: number "x" is "p", not a number. Line 1 is'):
        tally().count(RawBlock(0, 0, "view.jsonl", 1, b"", False, False), 4, listed)


def test_an_example_is_shown_as_text_in_which_nothing_moves_the_cursor():
    shown = []
    for line in ('{"é": 1}'.encode(), b"caf\xe9", b"a\tb\x1b[2J\r"):
        letter = {"reason": "no", "path": "view.jsonl", "line": 1, "bytes": base64.b64encode(line).decode()}
        with pytest.raises(DataError) as error:
            tally().count(RawBlock(0, 0, "view.jsonl", 1, b"", True, False), 1, [(0, letter)])
        shown.append(str(error.value).split("Line 1 is ")[1].split(". Wanted is")[0])
    assert shown == ['{"é": 1}', "caf\\xe9", "a\\tb\\x1b[2J\\r"]


MIXED = MessagesConfig(key="id", time="t", stage="type", ignore="beat", rejects=RejectsConfig(share=0.5, of_last=4))
FUNNEL = Funnel.from_mapping({"view": None, "click": StageConfig(observe="10s")})


def decode(*lines, file_ended=False):
    decoder = Decoder(MIXED, FUNNEL, FeaturesConfig(), Names(()))
    return decoder.decode(RawBlock(0, -1, "log.jsonl", 1, b"\n".join(lines), file_ended, False))


def test_skipped_messages_count_as_messages_but_not_as_malformed():
    beat, bad = b'{"type": "beat"}', b'{"type": "bad"}'
    decode(beat, bad, bad, beat, bad, beat, file_ended=True)
    with pytest.raises(DataError, match=r'3 of 4 .* because: stage "type" is "bad", none of view, click nor of ignore'):
        decode(bad, bad, beat, bad)


def test_blank_lines_are_no_messages():
    decode(b"", b'{"type": "bad"}', b"", b'{"type": "bad"}', b"no")
    with pytest.raises(DataError, match=r"4 of 4 messages .* 3 of them because: .* Line 2 is"):
        decode(b"", b'{"type": "bad"}', b"", b'{"type": "x"}', b"no", b"", b'{"type": "y"}')


def test_what_is_appended_to_a_file_counts_with_what_it_had():
    counting = tally(of_last=100)
    block = RawBlock(0, 0, "view.jsonl", 1, b"", True, True)
    counting.count(block, 1, [])
    counting.count(block, 1, [(0, {"reason": "no", "path": "view.jsonl", "line": 2, "bytes": "eA=="})])


def test_events_that_happened_before_their_messages_make_no_message_malformed():
    funnel = Funnel.from_mapping({"view": None, "click": StageConfig(observe="10s", at="then")})
    config = MessagesConfig(key="id", time="t", rejects=RejectsConfig(share=0.5, of_last=2))
    decoder = Decoder(config, funnel, FeaturesConfig(), Names(()))
    payload = b'{"id": 1, "t": 1650812741436, "then": 1650812741435}\n' * 4
    decoded = decoder.decode(RawBlock(0, 0, "log.jsonl", 1, payload, True, True))
    assert (decoded.read.tolist(), decoded.rejected.tolist()) == ([4, 4, 0], [0, 4, 0])
