import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamctr import cores
from streamctr.errors import ConfigError, NonFiniteError
from streamctr.layers import HAS_BF16, attention, mlp
from streamctr.layers.tape import UnnotedError
from streamctr.models import EsmmConfig, LrConfig
from streamctr.models.esmm import Esmm
from streamctr.ports import Arrays
from streamctr.samples import ABSENT, FINAL, LATE, NEVER_MS, OBSERVED, History, SampleBatch
from streamctr.schema import BagConfig, FeaturesConfig, Funnel, HistoryConfig, NumberConfig, StageConfig
from streamctr.tables import TablesConfig
from streamctr.training import Learner, Recipe, Trainer, TrainingConfig, learner
from streamctr.training.moments import Moments
from streamctr.training.optimizer import DenseOptimizer, adam

NEEDS_BF16 = pytest.mark.skipif(
    not (HAS_BF16 and torch.cpu._is_avx512_bf16_supported()), reason="this CPU or torch multiplies no bf16 numbers"
)

CLICK = Funnel.from_mapping({"view": None, "click": StageConfig(observe="25ms")})
CHAIN = Funnel.from_mapping(
    {"view": None, "click": StageConfig(observe="25ms"), "buy": StageConfig(observe="45ms", window="90ms")}
)
PLAIN = FeaturesConfig(id=("video",), number={"seconds": NumberConfig(default=4.0)})
RICH = FeaturesConfig(
    id=("video", "author"),
    number={"seconds": NumberConfig(), "fans": NumberConfig(transform="log1p", default=1.0)},
    history={"seen": HistoryConfig(of="click", take=("author", "video"), last=3)},
)
WIDE = RICH.model_copy(
    update={
        "bag": {"tag": BagConfig(pool="max", most=3), "word": BagConfig(most=2)},
        "vector": {"face": 3},
        "history": {
            "seen": HistoryConfig(of="click", take=("author", "video"), last=3, pool="attention"),
            "bought": HistoryConfig(of="buy", take=("video",), last=2, pool="sum"),
        },
    }
)


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    """Many small steps are quicker so where others work too; the parts stay."""
    there, cores._cores.there = cores._cores.there, 1
    yield
    cores._cores.there = there


class Tally:
    """A judge that remembers what it was told, and insists on a score before a label."""

    def __init__(self, tick_ms: int = 1000) -> None:
        self.tick_ms = tick_ms
        self._roots = np.empty(0, np.uint64)
        self._told = hashlib.sha256().digest()
        self._counts = np.zeros(2, np.int64)
        self.blocks: list[int] = []
        self.logits: list[list[float]] = []

    def scored(self, rows: SampleBatch, logits_NS: np.ndarray) -> None:
        self._roots = np.concatenate([self._roots, rows.root])
        self._tell(rows.ordinal, logits_NS)
        self._counts[0] += len(rows)
        self.blocks.append(len(rows))
        self.logits += logits_NS.tolist()

    def judge(self, rows: SampleBatch) -> None:
        assert np.isin(rows.root, self._roots).all()
        assert not rows.histories
        self._tell(rows.ordinal, rows.label)
        self._counts[1] += len(rows)

    def tick(self, now_ms: int, steps: int, skipped: int) -> dict[str, Any]:
        scored, judged = self._counts.tolist()
        return {"now_ms": now_ms, "steps": steps, "skipped": skipped, "scored": scored, "judged": judged}

    def _tell(self, *columns: np.ndarray) -> None:
        self._told = hashlib.sha256(self._told + b"".join(column.tobytes() for column in columns)).digest()

    def state(self) -> Arrays:
        return {"roots": self._roots, "told": np.frombuffer(self._told, np.uint8), "counts": self._counts}

    def restore(self, arrays: Arrays) -> None:
        self._roots, self._counts = arrays["roots"].copy(), arrays["counts"].copy()
        self._told = arrays["told"].tobytes()


def click_rows(*rows: tuple[int, int, int, int, float], stages: int = 1) -> SampleBatch:
    """Rows of (emit_ms, says, label, video, seconds) for stage 1 of a funnel."""
    n = len(rows)
    emit_ms, says, label, video, seconds = (np.array(column) for column in zip(*rows, strict=True))
    says_NK, label_NK = np.zeros((n, stages + 1), np.uint8), np.zeros((n, stages + 1), np.uint8)
    says_NK[:, 1], label_NK[:, 1] = says, label
    return SampleBatch(
        np.arange(n),
        emit_ms.astype(np.int64),
        video.astype(np.uint64),
        says_NK,
        label_NK,
        np.full((n, stages + 1), NEVER_MS),
        video.astype(np.uint64)[:, None],
        seconds.astype(np.float32)[:, None],
        np.zeros((n, 0)),
        np.ones(n, np.float32),
        (),
    )


def described(features: FeaturesConfig, roots: int, rng: np.random.Generator) -> tuple[Any, Any, list[History]]:
    """Ids, numbers and histories of roots, with gaps in all of them."""
    numbers = rng.normal(size=(roots, features.number_columns)).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    ids = [rng.integers(0, 9, (roots, len(features.ids))).astype(np.uint64)]
    for bag in features.bag.values():
        used = np.arange(bag.most) < rng.integers(0, bag.most + 1, (roots, 1))
        ids.append(rng.integers(1, 9, (roots, bag.most)).astype(np.uint64) * used)
    histories = []
    for h in features.history.values():
        ids_NTC = rng.integers(0, 6, (roots, h.last, len(h.take))).astype(np.uint64)
        histories.append(History.of_padded(ids_NTC, rng.integers(0, h.last + 1, roots).astype(np.int32)))
    return np.concatenate(ids, axis=1), numbers, histories


def stream(roots: int, seed: int, features: FeaturesConfig = RICH) -> SampleBatch:
    """The log of a chain: a root every 10 ms, clicked or not, bought late or not, with ties and gaps in numbers."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, list[int], list[int]]] = []
    for root in range(roots):
        at, click, buy = root * 10, rng.random() < 0.5, rng.random() < 0.5
        rows.append((at, root, [0, 0], [0, 0]))
        rows.append((at + 25, root, [OBSERVED | FINAL, 0 if click else ABSENT], [click, 0]))
        if click:
            rows.append((at + 65, root, [0, OBSERVED], [1, 0]))
            rows += [(at + 80, root, [0, LATE], [1, 1])] * buy
            rows.append((at + 110, root, [0, FINAL], [1, buy]))
    rows.sort(key=lambda row: row[0])
    emit_ms, root, says, label = (np.array(column) for column in zip(*rows, strict=True))
    ids_NF, numbers_NM, histories = described(features, roots, rng)
    pad = ((0, 0), (1, 0))
    return SampleBatch(
        np.arange(len(rows)),
        emit_ms,
        root.astype(np.uint64),
        np.pad(says, pad).astype(np.uint8),
        np.pad(label, pad).astype(np.uint8),
        np.full((len(rows), 3), NEVER_MS),
        ids_NF[root],
        numbers_NM[root],
        np.zeros((len(rows), 0)),
        np.ones(len(rows), np.float32),
        tuple(history.take(root) for history in histories),
    )


def linear(batch: int = 1, frozen_ms: int | None = None, tick_ms: int = 1000, **training: Any) -> Trainer:
    """Logistic regression by Adagrad that never forgets: the first step of a weight is its whole rate."""
    config = TrainingConfig(**{"batch": batch, "optimizer": "adagrad", "decay": 1.0, "lr": 0.5, **training})
    tables = TablesConfig(rows=1000, lr=0.25, decay=1.0)
    return Trainer(Recipe(LrConfig(), tables, config, PLAIN, CLICK), Tally(tick_ms), frozen_ms)


def rich(model: Any = None, features: FeaturesConfig = RICH, **training: Any) -> Recipe:
    config = TrainingConfig(**{"batch": 8, "lr": 0.01, **training})
    return Recipe(model or EsmmConfig(towers=(8, 4)), TablesConfig(rows=50, width=4), config, features, CHAIN)


def deep(
    block: int | None = None,
    model: Any = None,
    seed: int = 0,
    frozen_ms: int | None = None,
    features: FeaturesConfig = RICH,
) -> Trainer:
    trainer = Trainer(rich(model, features, seed=seed), Tally(tick_ms=70), frozen_ms)
    trainer.learner.block = trainer.schedule.block = block or trainer.learner.block
    return trainer


def digest(trainer: Trainer) -> str:
    """SHA-256 of every array that the trainer and its judge hold."""
    total = hashlib.sha256()
    for name, array in sorted(trainer.state().items()):
        total.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return total.hexdigest()


SEEN = (0, 0, 0, 7, 2.0)
CLICKED = (1, OBSERVED | FINAL, 1, 7, 2.0)
TAUGHT = (1, OBSERVED, 1, 7, 2.0)


def test_one_step_of_logistic_regression_by_hand() -> None:
    trainer = linear()
    trainer.feed(click_rows(TAUGHT))
    # p = .5: the gradient is -.5 for bias and id, -1 for the number, which is 2 with mean 0 and variance 1 so far;
    # Adagrad's first step is its rate: .5 + .25 + 2 * .5.
    assert trainer.score(click_rows(CLICKED)).tolist() == [[1.75]]
    assert (trainer.steps, trainer.skipped) == (1, 0)


def test_the_loss_is_divided_by_the_nominal_batch() -> None:
    trainer = linear(batch=4, tick_ms=10)
    trainer.feed(click_rows(TAUGHT, (30, 0, 0, 8, 0.0)))
    state = trainer.state()
    assert trainer.steps == 1
    assert state["learner/optimizer.second.bias"].tolist() == [(0.5 / 4) ** 2]
    assert state["learner/table.accumulator"].tolist() == [(0.5 / 4) ** 2]


def test_a_root_is_scored_before_its_label_is_learned_and_enters_the_moments_then() -> None:
    trainer = linear()
    trainer.feed(click_rows(SEEN, CLICKED))
    assert trainer._judge.logits == [[0.0]]
    assert trainer.state()["learner/moments.mean"].tolist() == [2.0]
    # The number is at its mean now, so it is 0 and moves nothing.
    assert trainer.score(click_rows(SEEN)).tolist() == [[0.75]]


def test_a_missing_number_counts_as_its_default_and_is_flagged() -> None:
    trainer = linear()
    missing = (1, OBSERVED, 1, 7, np.nan)
    trainer.feed(click_rows(missing))
    # Bias .5, id .25, default 4 (mean 0, variance 1) times .5, flag .5.
    assert trainer.score(click_rows(missing)).tolist() == [[3.25]]
    assert trainer.state()["learner/moments.count"].tolist() == [0.0]


def test_moments_are_those_of_all_known_values_and_one_prior_one() -> None:
    values = np.random.default_rng(0).normal(50.0, 3.0, (100, 1)).astype(np.float32)
    moments = Moments(np.array([7.0]))
    for block in np.split(values, [10, 11, 60]):
        moments.update(np.concatenate([block, [[np.nan], [np.inf]]]).astype(np.float32))
    deviation = np.sqrt((values.astype(np.float64).var() * 100 + 1) / 101)
    found, missing = moments.standardise(np.array([[56.0], [np.nan]], np.float32))
    expected = (np.array([56.0, 7.0]) - values.astype(np.float64).mean()) / deviation
    assert found[:, 0] == pytest.approx(expected, rel=1e-6)
    assert missing.tolist() == [[0.0], [1.0]]


def test_blocks_are_full_or_cut_by_a_step_or_a_tick() -> None:
    trainer = linear(batch=2, tick_ms=100)
    roots = [(t, 0, 0, t, 0.0) for t in (0, 1, 2, 3, 4)]
    labels = [(t, OBSERVED | FINAL, 0, t - 10, 0.0) for t in (13, 14)]
    lines = trainer.feed(click_rows(*roots, *labels, (20, 0, 0, 20, 0.0), (350, 0, 0, 21, 0.0)))
    assert trainer._judge.blocks == [2, 2, 1, 1]
    assert lines == [{"now_ms": 300, "steps": 1, "skipped": 0, "scored": 6, "judged": 2}]


def test_finishing_scores_learns_and_judges_what_waits() -> None:
    trainer = linear(batch=8)
    assert trainer.feed(click_rows(SEEN, CLICKED)) == []
    assert trainer.finish(2) == [{"now_ms": 2, "steps": 1, "skipped": 0, "scored": 1, "judged": 1}]


def test_nothing_is_learned_from_the_frozen_moment_on() -> None:
    late = [(t, OBSERVED | FINAL, 0, 7, 9.0) for t in (6, 7)] + [(8, 0, 0, 9, 9.0), (1200, 0, 0, 10, 9.0)]
    trainer, stopped = linear(batch=4, frozen_ms=5), linear(batch=4)
    assert trainer.feed(click_rows(SEEN, CLICKED, *late))[0]["judged"] == 3
    stopped.feed(click_rows(SEEN, CLICKED))
    stopped.finish(5)
    assert trainer.steps == stopped.steps == 1
    assert trainer.scored_rows == 2
    assert trainer.weights_sha256() == stopped.weights_sha256()


def test_scoring_changes_nothing() -> None:
    trainer, log = deep(), stream(20, 0)
    trainer.feed(log)
    before = digest(trainer)
    assert trainer.score(stream(40, 1)).shape == (len(stream(40, 1)), 2)
    assert digest(trainer) == before


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=NEEDS_BF16)])
@pytest.mark.parametrize("features", [RICH, WIDE], ids=["rich", "wide"])
@pytest.mark.parametrize(("batch", "threads"), [(8, 2), (12, 2), (15, 2), (256, 2), (256, 1), (256, 3), (8, 16)])
def test_a_score_does_not_depend_on_its_neighbours(
    features: FeaturesConfig, batch: int, threads: int, precision: str
) -> None:
    learner = Learner(rich(features=features, batch=batch, threads=threads, precision=precision))
    log = stream(batch, 0, features)
    for start in range(0, len(log), batch):
        assert learner.learn(log.take(slice(start, start + batch)))
    together = learner.score(log.take(slice(0, 2 * batch)))
    alone = [learner.score(log.take(slice(row, row + 1))) for row in range(0, 2 * batch, batch // 8)]
    assert np.concatenate(alone).tobytes() == together[:: batch // 8].tobytes()
    assert len(np.unique(together)) > batch


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 200), max_size=12),
    block=st.sampled_from([None, 3]),
    frozen_ms=st.sampled_from([None, 333]),
    model=st.sampled_from([(LrConfig(), RICH), (EsmmConfig(towers=(8, 4)), RICH), (EsmmConfig(towers=(8, 4)), WIDE)]),
)
def test_any_chunking_gives_the_same_weights_scores_and_figures(
    cuts: list[int], block: int | None, frozen_ms: int | None, model: tuple[Any, FeaturesConfig]
) -> None:
    log = stream(60, 3, model[1])
    whole, parts = (deep(block, model[0], frozen_ms=frozen_ms, features=model[1]) for _ in range(2))
    lines, places = whole.feed(log), [0, *sorted(cuts), len(log)]
    found = [line for a, b in pairwise(places) for line in parts.feed(log.take(slice(a, b)))]
    assert found == lines
    assert len(lines) > 5
    assert digest(parts) == digest(whole)
    assert parts.weights_sha256() == whole.weights_sha256()


def test_what_comes_out_does_not_depend_on_how_far_planning_is_ahead_or_judging_behind() -> None:
    together, apart, log = deep(), deep(), stream(60, 3)
    chunks = [log.take(slice(start, start + 17)) for start in range(0, len(log), 17)]
    lines = [line for chunk in chunks for line in together.feed(chunk)]
    plans = [apart.plan(chunk) for chunk in chunks]
    judged = [apart.work(plan) for plan in plans]
    assert [line for some in judged for line in apart.judge(some)] == lines
    assert len(lines) > 2
    assert digest(apart) == digest(together)


@settings(max_examples=15)
@given(
    stops=st.lists(st.integers(0, 150), min_size=1, max_size=4),
    frozen_ms=st.sampled_from([None, 333]),
    features=st.sampled_from([RICH, WIDE]),
)
def test_stopped_anywhere_and_restored_it_goes_on_identically(
    stops: list[int], frozen_ms: int | None, features: FeaturesConfig
) -> None:
    log = stream(50, 4, features)
    whole, trainer = (deep(frozen_ms=frozen_ms, features=features) for _ in range(2))
    whole.feed(log)
    places = [0, *sorted(stops), len(log)]
    for start, stop in pairwise(places):
        trainer.feed(log.take(slice(start, stop)))
        saved = {name: array.copy() for name, array in trainer.state().items()}
        trainer = deep(seed=0, frozen_ms=frozen_ms, features=features)
        trainer.feed(stream(7, 5, features))
        trainer.restore(saved)
    assert digest(trainer) == digest(whole)


def test_two_runs_give_the_same_sha_and_another_seed_another() -> None:
    trainers = [deep(), deep(), deep(seed=1)]
    for trainer in trainers:
        trainer.feed(stream(40, 0))
    first, second, third = (trainer.weights_sha256() for trainer in trainers)
    assert first == second != third


def test_products_run_in_the_thread_that_asks_for_them() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    linear()
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


CORES = """
import numba, sys
sys.path.insert(0, sys.argv[1])
from test_training import WIDE, digest, deep, stream
trainer = deep(features=WIDE)
trainer.feed(stream(60, 3, WIDE))
print(numba.get_num_threads(), digest(trainer), trainer.weights_sha256())
"""


def test_weights_and_scores_are_the_same_bits_on_any_number_of_cores() -> None:
    here = deep(features=WIDE)
    here.feed(stream(60, 3, WIDE))
    command = [sys.executable, "-c", CORES, str(Path(__file__).parent)]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert [str(numba.get_num_threads()), digest(here), here.weights_sha256()] == ["1", *there[1:]]
    assert there[0] == "2"


def learned(features: FeaturesConfig = WIDE, steps: int = 8, **training: Any) -> Learner:
    """A few batches of 32 rows."""
    held, log = Learner(rich(features=features, **{"batch": 32, **training})), stream(steps * 32, 1, features)
    for start in range(0, steps * 32, 32):
        assert held.learn(log.take(slice(start, start + 32)))
    return held


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_how_many_parts_there_are_matters_to_rounding_only(optimizer: str) -> None:
    one = learned(threads=1, optimizer=optimizer).state()
    for threads in (2, 3, 64):
        other = learned(threads=threads, optimizer=optimizer).state()
        assert other["table.rows"].tolist() == one["table.rows"].tolist()
        for name, array in one.items():
            assert other[name] == pytest.approx(array, rel=1e-3, abs=1e-5), name


def test_op_by_op_a_learner_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = learned().state()
    for module in (learner, mlp, attention):
        monkeypatch.setattr(module, "HAS_FP32", False)
    for name, array in learned().state().items():
        assert array == pytest.approx(kernels[name], rel=1e-3, abs=1e-5), name


def refused(*called: Any) -> None:
    raise UnnotedError


@pytest.mark.parametrize("in_between", ["nothing", "a product", "another parameter"])
def test_a_step_past_autograd_is_the_same_to_the_bit(in_between: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where a model does more than call our layers, autograd learns it."""
    forward = Esmm.forward
    if in_between == "another parameter":
        first = Esmm.__init__

        def made(self: Esmm, *arguments: Any) -> None:
            first(self, *arguments)
            self.scale = torch.nn.Parameter(torch.ones(()))

        monkeypatch.setattr(Esmm, "__init__", made)
        monkeypatch.setattr(Esmm, "forward", lambda self, x: forward(self, x) * self.scale)
    elif in_between == "a product":
        monkeypatch.setattr(Esmm, "forward", lambda self, x: forward(self, x) * 1.0)
    one = learned()
    assert one._noted == (in_between == "nothing")
    monkeypatch.setattr(learner.Tape, "note", refused)
    other = learned()
    assert not other._noted
    assert one.weights_sha256() == other.weights_sha256()
    if in_between == "another parameter":
        assert one.state()["model.scale"] != 1.0


def test_a_learner_goes_on_from_one_with_other_parts() -> None:
    first, second, rows = learned(threads=1), Learner(rich(features=WIDE, batch=32, threads=3)), stream(30, 2, WIDE)
    second.learn(rows)
    second.restore({name: array.copy() for name, array in first.state().items()})
    assert second.weights_sha256() == first.weights_sha256()
    assert first.learn(rows.take(slice(0, 32)))
    assert second.learn(rows.take(slice(0, 32)))
    assert second.score(rows) == pytest.approx(first.score(rows), rel=1e-4, abs=1e-5)


@NEEDS_BF16
def test_in_bf16_a_learner_comes_to_about_the_same_logits() -> None:
    rows = stream(30, 2, WIDE)
    first, other = (learned(precision=precision, steps=16).score(rows) for precision in ("fp32", "bf16"))
    moved = np.abs(first - Learner(rich(features=WIDE)).score(rows)).max()
    assert 0 < np.abs(first - other).max() < 0.05 * moved


@pytest.mark.parametrize(("place", "what"), [("HAS_BF16", False), ("torch.cpu._is_avx512_bf16_supported", bool)])
def test_bf16_is_refused_where_the_cpu_or_torch_has_none(
    place: str, what: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"streamctr.training.learner.{place}", what)
    with pytest.raises(ConfigError, match=r"training\.precision: this CPU multiplies no bf16 numbers .* set fp32"):
        Learner(rich(precision="bf16"))
    Learner(rich(precision="fp32"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**60, -(2.0**61)])
def test_a_gradient_that_is_not_finite_or_too_large_is_noticed(bad: float) -> None:
    parameters = {name: torch.nn.Parameter(torch.ones(2, 2)) for name in "ab"}
    optimizer, good = DenseOptimizer(TrainingConfig(threads=2), parameters), np.full((2, 2), -(2.0**59), np.float32)
    for place in ((0, 0), (1, 0), (1, 1)):
        grads = good.copy()
        grads[place] = bad
        for name, other in ("ab", "ba"):
            optimizer.add(name, good)
            assert optimizer.finite()
            optimizer.add(other, grads)
            assert not optimizer.finite()
            optimizer.drop()
    assert optimizer.finite()
    assert not optimizer.grads_QN.any()


@pytest.mark.parametrize("taped", [True, False])
def test_gradients_of_layers_that_are_too_large_are_noticed_before_rows_are_learned(
    taped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, rows = learned(), stream(30, 2, WIDE)
    held._noted, before = taped, held.weights_sha256()
    monkeypatch.setattr(held.table, "admit", None)  # nobody comes so far
    assert not held.learn(replace(rows, weight=np.full(len(rows), 1e30, np.float32)))  # the loss is finite
    assert held.weights_sha256() == before


def test_what_a_batch_left_behind_does_not_matter_to_the_next() -> None:
    first, second, rows = (*(learned() for _ in range(2)), stream(30, 2, WIDE))
    second.score(rows)
    assert not second.learn(replace(rows, weight=np.full(len(rows), 3e38, np.float32)))  # more than a loss can be
    for held in (first, second):
        assert held.learn(rows.take(slice(3, 20)))
    assert second.weights_sha256() == first.weights_sha256()


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted() -> None:
    trainer = linear()
    trainer.feed(click_rows(TAUGHT))
    before = trainer.weights_sha256()
    trainer.feed(click_rows((2, OBSERVED, 1, 8, -3e38)))
    assert (trainer.steps, trainer.skipped) == (1, 1)
    assert trainer.weights_sha256() == before
    assert trainer.state()["learner/optimizer.steps"].tolist() == [1]


@pytest.mark.parametrize("model", [LrConfig(), EsmmConfig(towers=(8,))], ids=["lr", "esmm"])
def test_what_was_scored_is_learned_at_the_same_size(model: Any) -> None:
    learner, rows = Learner(rich(model, batch=128)), stream(200, 2).take(slice(0, 128))
    learner.score(rows)
    assert learner.learn(rows)


def test_a_mean_of_gradients_that_stopped_does_not_halve_for_ever() -> None:
    """Denormal numbers are below 2^-126, and slow."""
    all_4, grads_14, first_4, second_4 = np.ones(4, np.float32), *np.zeros((3, 1, 4), np.float32)
    grads_14[0, :2] = 1e-3, 1.0
    for _ in range(900):
        adam(all_4, grads_14, first_4[0], second_4[0], (np.float32(1e-3), np.float32(1.0)))
        assert not grads_14.any()
        assert ((first_4 == 0) | (first_4 >= 2.0**-100)).all()
    assert not first_4.any()


def test_too_many_bad_steps_in_a_row_stop_the_run_but_good_ones_between_do_not() -> None:
    bad, good = (1, OBSERVED, 1, 8, 3e38), (1, OBSERVED, 0, 8, 1.0)
    trainer = linear(max_bad_steps=3)
    trainer.feed(click_rows(bad, bad, good, bad, bad))
    with pytest.raises(NonFiniteError, match=r"^3 learning steps in a row .* ordinal 0; lower training\.lr"):
        trainer.feed(click_rows(bad))
    assert (trainer.steps, trainer.skipped) == (1, 5)


def test_adam_by_hand() -> None:
    trainer = linear(optimizer="adam", lr=0.125)
    trainer.feed(click_rows((1, OBSERVED, 1, 7, 0.0)))
    # Adam's first step is its rate; the id adds .25.
    assert trainer.score(click_rows((1, OBSERVED, 1, 9, 0.0)))[0, 0] == pytest.approx(0.125, rel=1e-6)
    p = 1 / (1 + np.exp(-0.375))
    trainer.feed(click_rows((1, OBSERVED, 0, 7, 0.0)))
    first, second = 0.9 * 0.1 * -0.5 + 0.1 * p, 0.999 * 0.001 * 0.25 + 0.001 * p**2
    moved = 0.125 - 0.125 * (first / (1 - 0.9**2)) / np.sqrt(second / (1 - 0.999**2))
    assert trainer.score(click_rows((1, OBSERVED, 1, 9, 0.0)))[0, 0] == pytest.approx(moved, rel=1e-5)


def test_heads_start_at_their_base_rates() -> None:
    config = TrainingConfig(base_rate={"click": 0.2, "buy|click": 0.75})
    trainer = Trainer(Recipe(LrConfig(), TablesConfig(rows=50), config, RICH, CHAIN), Tally())
    assert trainer.score(stream(1, 0))[0].tolist() == pytest.approx([np.log(0.25), np.log(3.0)])


def test_weight_2_teaches_what_the_row_twice_does() -> None:
    rows = stream(4, 0)
    rows = rows.take(rows.says[:, 1] > 0)
    once, twice = (Learner(rich(model=LrConfig(), optimizer="adagrad")) for _ in range(2))
    assert once.learn(replace(rows, weight=np.full(len(rows), 2.0, np.float32)))
    assert twice.learn(rows.take(np.repeat(np.arange(len(rows)), 2)))
    left, right = once.state(), twice.state()
    assert left["table.rows"].tolist() == right["table.rows"].tolist()
    for name in ("table.accumulator", "optimizer.second.bias", "optimizer.second.numbers"):
        assert left[name].max() > 0
        assert left[name] == pytest.approx(right[name], rel=1e-5, abs=1e-12)


def test_a_learner_adopts_another_and_scores_as_it_does() -> None:
    log = stream(8, 0, WIDE)
    first, second = (Learner(rich(features=WIDE, seed=seed)) for seed in (0, 1))
    assert first.learn(log.take(slice(0, 8)))
    second.learn(log.take(slice(8, 16)))
    state = {name: array.copy() for name, array in first.state().items()}
    by_place = np.argsort(state["table.rows"])
    assert by_place.tolist() != sorted(by_place)
    for arrays in (state, state | {n: a[by_place] for n, a in state.items() if n.startswith("table.")}):
        second.adopt(arrays)
        assert second.weights_sha256() == first.weights_sha256()
    assert second.score(log).tobytes() != Learner(rich(features=WIDE)).score(log).tobytes()


ADOPTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"features": WIDE},
        r"model.towers.first is \(16, 20\) there and \(16, 36\) here; give both runs the same features",
    ),
    ({"optimizer": "adagrad"}, r"optimizer.first.towers.first is \(320,\) there and absent here"),
    ({"model": EsmmConfig(towers=(8, 4, 2))}, r"model.towers.weights.1 is \(4, 8\) there and \(2, 4\) here"),
    ({"model": LrConfig()}, r"model.numbers is absent there and \(2, 4\) here"),
]


@pytest.mark.parametrize(("wanted", "words"), ADOPTIONS, ids=["features", "optimizer", "towers", "model"])
def test_a_learner_of_another_shape_is_not_adopted_and_nothing_changes(wanted: dict[str, Any], words: str) -> None:
    first, second = Learner(rich()), Learner(rich(**wanted))
    assert first.learn(stream(8, 0).take(slice(0, 8)))
    before = second.weights_sha256()
    with pytest.raises(ConfigError, match=words):
        second.adopt(first.state())
    assert second.weights_sha256() == before


def test_rows_behind_the_tables_end_are_not_adopted() -> None:
    first = Learner(rich())
    assert first.learn(stream(8, 0).take(slice(0, 8)))
    small = Learner(replace(rich(), tables=TablesConfig(rows=2, width=4)))
    with pytest.raises(ConfigError, match=r"table.rows is up to \d+ there and 4 rows here"):
        small.adopt(first.state())


@pytest.mark.parametrize(
    ("features", "training", "words"),
    [
        ({}, {"base_rate": {"click&buy": 0.1}}, r'base_rate: "click&buy" is not a head with a bias of its own'),
        ({"number": {"x": {"transform": "log1p", "default": -1.0}}}, {}, r"x.default -1.0 is negative"),
        ({"number": {"x": {"transform": "log1p", "clip": [-2, -1]}}}, {}, r"x.default -1.0 is negative"),
        ({"history": {"seen": {"of": "click", "take": ["video"], "pool": "attention"}}}, {}, r"model lr .* attention"),
        ({"history": {"seen": {"of": "click", "take": ["no"]}}}, {}, r'history.seen.take: "no" is not an id feature'),
    ],
)
def test_parts_that_do_not_fit_are_refused(features: Any, training: Any, words: str) -> None:
    declared = FeaturesConfig.model_validate({"id": ("video",), **features})
    with pytest.raises(ConfigError, match=words):
        Trainer(Recipe(LrConfig(), TablesConfig(), TrainingConfig(**training), declared, CHAIN), Tally())
