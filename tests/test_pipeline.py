"""The pipeline as a whole: what is done in which order, what its end does, and what comes again."""

import numpy as np
import pytest
from wire import RUN, START_MS, line, partitions_of, wire

from connectors.memory import Partition
from streamctr.errors import NonFiniteError
from streamctr.testing import frozen


def test_a_block_is_scored_before_its_numbers_enter_the_moments_and_before_its_rows_are_learned():

    wired = wire(partitions_of([]))
    trainer, calls = wired.pipeline.parts.back.trainer, []
    learner = trainer.learner

    def spied(act, name):
        return lambda *arguments, **keywords: (calls.append(name), act(*arguments, **keywords))[1]

    for owner, name in ((learner, "score"), (learner, "learn"), (learner.moments, "update")):
        setattr(owner, name, spied(getattr(owner, name), name))
    trainer.feed(wire(partitions_of([(s, 0, s) for s in range(5)])).run().emission_log())
    trainer.finish(START_MS + 60_000)
    firsts = [calls.index(name) for name in ("score", "update", "learn")]
    assert firsts == sorted(firsts)
    assert "learn" not in calls[: calls.index("update")]


def test_bad_steps_in_a_row_are_counted_across_a_restore():

    one, two = (wire(partitions_of([])).pipeline.parts.back.trainer for _ in range(2))
    rows = wire(partitions_of([(s, 0, s) for s in range(60)])).run().emission_log()
    one.learner.learn = two.learner.learn = lambda rows: False
    for _ in range(9):
        one._learn(rows)
    two.restore(frozen(one.state()))
    with pytest.raises(NonFiniteError):
        two._learn(rows)


def test_at_the_end_timers_fire_only_up_to_the_newest_event():

    wired = wire(partitions_of([(0, 0, 0), (3, 1, 0), (20, 0, 1)])).run()
    assert wired.emission_log().emit_ms.max() == START_MS + 20_000
    assert wired.pipeline.roots() == {"final": 1, "open": 1}


def test_a_timer_that_is_due_at_the_newest_event_fires_at_the_end_and_one_a_millisecond_later_does_not():
    for newest_s, observed in ((3.999, []), (4, [START_MS + 4000])):
        log = wire(partitions_of([(0, 0, 0), (newest_s, 0, 1)])).run().emission_log()
        assert log.emit_ms[log.says.any(axis=1)].tolist() == observed


def test_a_replay_that_brings_nothing_new_says_nothing_new():

    partitions = partitions_of([(s, 0, s) for s in range(30)])
    first, second = wire(partitions).run(), wire(partitions)
    second.metrics.records += first.metrics.records
    second.samples.batches += first.samples.batches
    second.pipeline.restore(frozen(first.pipeline.state()))
    second.run()
    assert second.metrics.records == first.metrics.records


def test_hour_is_that_of_the_zone():

    from streamctr.hashing import hash_text

    run = RUN.replace("time: t\n", "time: {field: t, zone: Asia/Shanghai}\n")
    log = wire(partitions_of([(0, 0, 0)]), run=run).run().emission_log()  # START_MS is 05:20 UTC
    assert log.ids_NF[0, -1] == hash_text("13")


def test_an_id_that_comes_again_after_it_was_forgotten_is_judged_by_its_own_score():
    run = (
        RUN.replace("remember: 20s", "remember: 0s")
        .replace("tick: 10s", "tick: 1h")
        .replace("bucket: 10s", "bucket: 1h")
    )
    views = [line(0, "x", user="u", item=1, price=1.0), line(100, "x", user="v", item=2, price=50.0)]
    views.append(line(300, "y", user="v", item=2, price=50.0))
    wired = wire([Partition(0, tuple(views)), Partition(1, ()), Partition(2, ())], run=run).run()
    scores = [logits[0] for _, _, logits in wired.pipeline.parts.back.judge.scores[:2]]
    assert scores[0] != scores[1]
    last = wired.metrics.records[-1]
    assert (last["unscored"], last["judged"]["click"]["rows"]) == (0, 2)
    assert last["judged"]["click"]["nll"] == pytest.approx(np.log1p(np.exp(scores)).mean())  # neither was clicked


def test_a_value_that_reads_missing_is_told_from_a_missing_one():
    views = [line(0, "x", user="u", item="missing"), line(1, "y", user="u"), line(30, "z", user="u", item=2)]
    wired = wire([Partition(0, tuple(views)), Partition(1, ()), Partition(2, ())]).run()
    rows = {
        value: heads["click"]["rows"]
        for value, heads in wired.pipeline.parts.back.judge.summary()["slices"]["item"].items()
    }
    assert sorted(rows.values()) == [1, 1]
    assert "missing" in rows


def test_freezing_at_a_seam_is_freezing_in_one_go():
    run = RUN.replace("batch: 8", "batch: 1")
    partitions = partitions_of([(s, 0, s) for s in range(30)] + [(s + 2, 1, s) for s in range(0, 30, 3)])
    at_ms = START_MS + 12_000  # a click of s = 10 is due just then, four seconds after its root
    whole = wire(partitions, run=run, frozen_ms=at_ms).run()
    first = wire(partitions, run=run, until_ms=at_ms).run()
    second = wire(partitions, run=run, frozen_ms=at_ms)
    second.metrics.records += first.metrics.records
    second.samples.batches += first.samples.batches
    second.pipeline.restore(frozen(first.pipeline.state()))
    second.run()
    assert 0 < whole.pipeline.parts.back.trainer.steps == second.pipeline.parts.back.trainer.steps
    assert second.pipeline.parts.back.trainer.weights_sha256() == whole.pipeline.parts.back.trainer.weights_sha256()


@pytest.mark.parametrize("model", ["lr", "{name: esmm, towers: [4]}"])
def test_numbers_alone_are_features_enough(model):
    features = RUN[RUN.index("features:") : RUN.index("model:")]
    run = RUN.replace(features, "features:\n  number: {price: log1p}\n").replace(", slices: [item]", "")
    run = run.replace("{name: esmm, towers: [4]}", model)
    assert wire(partitions_of([(s, 0, s) for s in range(40)]), run=run).run().pipeline.parts.back.trainer.steps > 0
