"""The decoder on twenty thousand mutated messages; `make fuzz` tries a million."""

from dataclasses import replace

import pytest
from test_decode_property import outcome, outcome_by_rule

from tests.bench.fuzz import Fast, Fuzz, Strict, check_counts, decoder_of, fuzz
from tests.bench.mutants import Trials, logs

LOGS = logs(7)


def test_mutated_messages_crash_nothing_and_mean_the_same_to_the_fast_and_the_slow_way():
    done = fuzz(20_000, seed=20)
    assert sum(one.mutated for one in done) >= 20_000
    assert [one.log.name for one in done if one.straight] == ["flat", "nested", "texts"]
    for one in done:
        assert 0.1 < one.good / one.messages < 0.9  # neither all good nor all malformed


@pytest.mark.parametrize("log", LOGS[:4], ids=lambda log: log.name)
def test_mutated_messages_mean_what_the_rule_says_of_each(log):
    trials, (decoder, _), messages = Trials(log, 11), decoder_of(log, Fast), 0
    while messages < 3000:
        trial = trials.draw()
        meant = trial.meant.split(b"\n")
        messages += len(meant)
        by_rule = outcome_by_rule(meant, log.stage, log.config, log.funnel, log.features)
        assert outcome(decoder.decode(trial.block)) == by_rule


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_the_fuzz_notices_where_the_two_ways_differ(log):
    def go_on():
        for _ in range(30):
            one.step()

    one = Fuzz(log, 7)
    one._slow, _ = decoder_of(replace(log, config=log.config.model_copy(update={"weight": None})), Strict)
    with pytest.raises(AssertionError, match="the slow way gives something else"):
        go_on()


@pytest.mark.parametrize("column", ["read", "rejected", "skipped"])
def test_the_fuzz_notices_a_message_that_is_counted_twice(column):
    decoder, _ = decoder_of(LOGS[1], Fast)
    found = decoder.decode(Trials(LOGS[1], 7).draw().block)
    with pytest.raises(AssertionError, match="read is no sum of outcomes"):
        check_counts(LOGS[1], replace(found, **{column: getattr(found, column) + 1}), 1)


def test_the_fuzz_notices_a_message_that_is_lost():
    decoder, _ = decoder_of(LOGS[1], Fast)
    block = replace(Trials(LOGS[1], 7).draw().block, payload=b"{}")
    found = decoder.decode(block)
    check_counts(LOGS[1], found, 1)
    with pytest.raises(AssertionError, match="messages are lost"):
        check_counts(LOGS[1], found, 2)


@pytest.mark.parametrize("depth", [499, 600, 1000])
def test_a_list_may_be_as_deep_as_a_message(depth):
    decoder, _ = decoder_of(LOGS[0], Fast)
    line = b'{"id":"a","ts":1650812741,"ad":' + b"[" * depth + b"]" * depth + b"}"
    found = decoder.decode(replace(Trials(LOGS[0], 7).draw().block, payload=line))
    assert [letter["reason"] for letter in found.letters] == ['id "ad" is a list of lists or objects']
