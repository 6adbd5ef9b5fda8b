"""Epochs as a trainer lives them: what is held out teaches nothing, and is judged as by hand."""

import numpy as np
import pytest
from wire import RUN, START_MS, partitions_of, wire

from jobs.runfile import RunFile
from streamctr.errors import ConfigError
from streamctr.metrics import Judge
from streamctr.names import Names
from streamctr.samples import FINAL, SampleBatch
from streamctr.testing import check_stateful
from streamctr.training import Epochs, HeldOut, Recipe, Trainer, last_final_bucket

CONFIG = RunFile.parse(RUN.replace("rows: 64", "rows: 2^20"), "run.yaml").config
RECIPE = Recipe(CONFIG.model, CONFIG.tables, CONFIG.training, CONFIG.features, CONFIG.tree)
HELD_OUT = HeldOut(START_MS + 20_000, START_MS + 30_000)
END_MS = START_MS + 62_000


def new_judge():
    return Judge(CONFIG.metrics, CONFIG.tree, CONFIG.features, Names(CONFIG.metrics.slices))


def new_trainer(held_out=HELD_OUT, frozen_ms=None):
    return Trainer(RECIPE, new_judge(), frozen_ms, held_out)


@pytest.fixture(scope="module")
def log():
    """A root a second for a minute, every third clicked after two seconds, every sixth converted after another one."""
    rows = [(s, 0, s) for s in range(60)] + [(s + 2, 1, s) for s in range(0, 60, 3)]
    return wire(partitions_of([*rows, *((s + 3, 2, s) for s in range(0, 60, 6))])).run().emission_log()


def pieces(log, size=17):
    return [log.take(slice(begin, begin + size)) for begin in range(0, len(log), size)]


def first_epoch(trainer, log):
    trainer.feed(log)
    trainer.finish(END_MS)
    return trainer


def test_held_out_roots_teach_nothing_in_any_epoch(log):
    ids = np.arange(1, 1 + len(log), dtype=np.uint64) << np.uint64(20)
    alone = SampleBatch.from_arrays(log.to_arrays() | {"ids_NF": np.repeat(ids[:, None], log.ids_NF.shape[1], axis=1)})
    trainer = new_trainer()
    epochs = Epochs(trainer, HELD_OUT, 3, new_judge)
    first_epoch(trainer, alone)
    epochs.end([alone])
    for piece in pieces(alone):
        epochs.learn(piece)
    trainer.learn_rest()
    held = alone.take(HELD_OUT.has(alone))
    assert len(held) > 20
    table = trainer.learner.table
    columns = table.columns(range(alone.ids_NF.shape[1]))
    learned = trainer.learner.state()["table.rows"]
    assert not np.isin(table.rows(held.ids_NF, columns), learned).any()
    others = alone.take(trainer.schedule._trains(alone))
    assert np.isin(table.rows(others.ids_NF, columns), learned).all()
    assert trainer.learner.state()["moments.count"].tolist() == [50]  # of 60 roots, ten are held out
    assert trainer.scored_rows == 60


def test_a_root_is_held_out_from_the_first_moment_of_the_span_to_before_its_last(log):
    held = log.take(HELD_OUT.has(log) & log.arrived)
    assert (held.at_ms[:, 0] - START_MS).tolist() == list(range(20_000, 30_000, 1_000))


def test_later_epochs_learn_the_same_rows_in_full_batches_and_score_and_judge_nothing(log):
    trainer = first_epoch(new_trainer(), log)
    steps, figures, moments = trainer.steps, trainer._judge.summary(), trainer.learner.state()["moments.mean"].copy()
    learned, learn = [], trainer.learner.learn
    trainer.learner.learn = lambda rows: (learned.append(rows), learn(rows))[1]
    for piece in pieces(log):
        trainer.learn_again(piece)
    trainer.learn_rest()
    wanted = log.take(trainer.schedule._trains(log)).ordinal
    assert np.concatenate([rows.ordinal for rows in learned]).tolist() == wanted.tolist()
    assert {len(rows) for rows in learned[:-1]} == {8}
    assert trainer.steps == steps + len(learned)
    assert (trainer._judge.summary(), trainer.scored_rows) == (figures, 60)
    assert trainer.learner.state()["moments.mean"].tolist() == moments.tolist()


def test_what_was_said_behind_freezing_is_learned_in_no_epoch(log):
    trainer = first_epoch(new_trainer(frozen_ms=START_MS + 10_000), log)
    learned, learn = [], trainer.learner.learn
    trainer.learner.learn = lambda rows: (learned.append(rows), learn(rows))[1]
    trainer.learn_again(log)
    trainer.learn_rest()
    assert START_MS + 9_000 <= max(rows.emit_ms.max() for rows in learned) <= START_MS + 10_000


def test_the_held_out_roots_are_judged_by_their_final_labels_with_the_weights_of_that_moment(log):
    trainer = first_epoch(new_trainer(), log)
    epochs = Epochs(trainer, HELD_OUT, 2, new_judge)
    epochs.end(pieces(log))

    arrived = log.take(log.arrived & HELD_OUT.has(log))
    p = 1 / (1 + np.exp(-trainer.score(arrived).astype(np.float64)))
    p_of = {root: (a, b, a * b) for root, (a, b) in zip(arrived.root.tolist(), p.tolist(), strict=True)}
    costs = ([], [], [])
    for row in np.flatnonzero(HELD_OUT.has(log)):
        click, conversion = log.says[row, 1], log.says[row, 2]
        said = (click & FINAL, conversion & FINAL, conversion)  # ... | absent: 0 for the entire space
        labels = (log.label[row, 1], log.label[row, 2], log.label[row, 2])
        if conversion and not conversion & FINAL and conversion != 8:
            said = (*said[:2], 0)
        for head in range(3):
            if said[head]:
                q = p_of[int(log.root[row])][head]
                costs[head].append(-np.log(q if labels[head] else 1 - q))
    assert [len(cost) for cost in costs] == [10, 3, 10]  # roots 21, 24 and 27 are clicked
    assert epochs.nll == [pytest.approx(sum(np.mean(cost) for cost in costs), rel=1e-5)]


def test_the_best_learner_is_back_when_an_epoch_is_no_better(log):
    trainer = first_epoch(new_trainer(), log)
    epochs = Epochs(trainer, HELD_OUT, 9, new_judge)
    costs = iter([0.5, 0.4, 0.4])
    epochs._judged = lambda log: next(costs)
    digests = []
    for _ in range(3):
        assert not epochs.over
        digests.append(trainer.weights_sha256())
        epochs.end([log])
        if not epochs.over:
            epochs.learn(log)
            trainer.learn_rest()
    assert (epochs.over, epochs.best, epochs.nll) == (True, 2, [0.5, 0.4, 0.4])
    assert digests[2] != digests[1] == trainer.weights_sha256()


def test_an_epoch_ends_with_what_waits_for_a_full_batch(log):
    trainer = first_epoch(new_trainer(), log)
    epochs, learned, learn = Epochs(trainer, HELD_OUT, 2, new_judge), [], trainer.learner.learn
    trainer.learner.learn = lambda rows: (learned.append(len(rows)), learn(rows))[1]
    epochs.learn(log)
    epochs.end([log])
    assert sum(learned) == int(trainer.schedule._trains(log).sum())
    assert 0 < learned[-1] < 8


def test_an_epoch_that_went_astray_is_never_the_best(log):
    epochs = Epochs(first_epoch(new_trainer(), log), HELD_OUT, 9, new_judge)
    costs = iter([0.5, float("nan")])
    epochs._judged = lambda log: next(costs)
    epochs.end([log])
    epochs.end([log])
    assert (epochs.over, epochs.best) == (True, 1)


class Both:
    """A trainer with its epochs, as one part that remembers."""

    def __init__(self):
        self.trainer = new_trainer()
        self.epochs = Epochs(self.trainer, HELD_OUT, 3, new_judge)

    def state(self):
        arrays = {f"trainer/{name}": array for name, array in self.trainer.state().items()}
        return arrays | {f"epochs/{name}": array for name, array in self.epochs.state().items()}

    def restore(self, arrays):
        for name, part in (("trainer", self.trainer), ("epochs", self.epochs)):
            part.restore({n.removeprefix(f"{name}/"): a for n, a in arrays.items() if n.startswith(f"{name}/")})


def test_epochs_can_stop_anywhere_and_go_on_elsewhere(log):
    again = [lambda both, piece=piece: both.epochs.learn(piece) for piece in pieces(log, 60)]
    end = lambda both: (both.epochs.end([log]), both.epochs.says(), both.trainer.weights_sha256())  # noqa: E731
    steps = [lambda both: both.trainer.feed(log), lambda both: both.trainer.finish(END_MS), end, *again, end]
    check_stateful(Both, steps)


@pytest.mark.parametrize(
    ("bucket_ms", "span_ms", "now_s", "from_s"),
    [(10_000, 18_000, 58, 30), (10_000, 18_000, 57, 20), (10_000, 0, 60, 50), (20_000, 18_000, 62, 20)],
)
def test_the_last_bucket_is_the_newest_whose_labels_are_all_final(log, bucket_ms, span_ms, now_s, from_s):
    start_ms = START_MS // bucket_ms * bucket_ms
    assert start_ms == START_MS
    found = last_final_bucket(pieces(log), bucket_ms, span_ms, START_MS + 1000 * now_s)
    assert found == HeldOut(START_MS + 1000 * from_s, START_MS + 1000 * from_s + bucket_ms)


@pytest.mark.parametrize(("bucket_ms", "now_s"), [(100_000, 500), (30_000, 59), (10_000, 10)])
def test_without_two_buckets_nothing_is_held_out(log, bucket_ms, now_s):
    with pytest.raises(ConfigError, match=r"Make metrics\.bucket smaller, or take one epoch"):
        last_final_bucket([log], bucket_ms, 18_000, START_MS + 1000 * now_s)
