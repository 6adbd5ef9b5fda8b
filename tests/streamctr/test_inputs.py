"""Bags, numbers and vectors as a model sees and learns them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from streamctr.errors import ConfigError
from streamctr.models import EsmmConfig, InputShape, LrConfig
from streamctr.samples import NEVER_MS, OBSERVED, History, SampleBatch
from streamctr.schema import FeaturesConfig, Funnel, StageConfig
from streamctr.tables import FusedTable, TablesConfig
from streamctr.training import Learner, Recipe, TrainingConfig
from streamctr.training.inputs import Inputs

CLICK = Funnel.from_mapping({"view": None, "click": StageConfig(observe="25ms")})


def clicked(ids: list[list[int]], numbers: list[list[float]] | None = None) -> SampleBatch:
    """Rows that were all clicked on."""
    n = len(ids)
    says, label = np.tile(np.array([[0, OBSERVED]], np.uint8), (n, 1)), np.tile(np.array([[0, 1]], np.uint8), (n, 1))
    ids_NF, numbers_NM = np.array(ids, np.uint64), np.array(numbers or [[]] * n, np.float32)
    root, ms, value_NV = np.arange(n).astype(np.uint64), np.full((n, 2), NEVER_MS), np.zeros((n, 0))
    weight = np.ones(n, np.float32)
    return SampleBatch(np.arange(n), np.arange(n), root, says, label, ms, ids_NF, numbers_NM, value_NV, weight, ())


def learner(features: dict[str, Any], model: Any = None, tables: dict[str, Any] | None = None) -> Learner:
    """Logistic regression by Adagrad that never forgets, a row a step: the first step of a weight is its whole rate."""
    training = TrainingConfig(batch=1, optimizer="adagrad", decay=1.0, lr=0.5)
    config = TablesConfig(**{"rows": 1000, "lr": 0.25, "decay": 1.0, **(tables or {})})
    return Learner(Recipe(model or LrConfig(), config, training, FeaturesConfig.model_validate(features), CLICK))


def inputs(features: dict[str, Any]) -> Inputs:
    """What makes batches of at most three rows into a model's input."""
    declared = FeaturesConfig.model_validate(features)
    shape = InputShape.of(declared, 2)
    return Inputs(declared, shape, FusedTable(TablesConfig(rows=1000), declared.tables, 2, 0.1, 0), 3)


def tags(pool: str, **features: Any) -> dict[str, Any]:
    return {"id": ["video"], "bag": {"tag": {"pool": pool, "most": 3}}, **features}


SEEN = {
    "id": ["video", "author"],
    "bag": {"tag": {"pool": "sum", "most": 2}},
    "number": {"seconds": {}},
    "history": {
        "clicked": {"of": "click", "take": ["author", "video"], "last": 3, "pool": "attention"},
        "bought": {"of": "click", "take": ["video"], "last": 2, "pool": "max"},
    },
}


def seen(lengths: list[list[int]], ids: list[list[int]] | None = None) -> SampleBatch:
    """Rows of so many behaviours in each history: 1, 2, 3.. and for authors 11, 12, 13.."""
    n, (first, second) = len(lengths), np.array(lengths, np.int32).T
    rows = clicked(ids or [[7, 8, 5, 6]] * n, [[1.0]] * n)
    videos = np.arange(1, 1 + first.sum(), dtype=np.uint64)
    histories = (
        History(np.stack([videos + np.uint64(10), videos], axis=1), first, 3),
        History(np.arange(1, 1 + second.sum(), dtype=np.uint64)[:, None], second, 2),
    )
    return replace(rows, histories=histories)


def numbers(held: Inputs, feature: int, *ids: int) -> list[float]:
    """Of ids of a feature, one behind the other."""
    out_NX = np.empty((len(ids), held._table.width), np.float32)
    held._table.look(np.array(ids, np.uint64)[:, None], held._table.columns([feature]), out_NX)
    return out_NX.ravel().tolist()


def test_ids_then_bags_then_pooled_histories_stand_beside_the_numbers() -> None:
    held = inputs(SEEN)
    x = held.look(seen([[2, 0], [1, 1]], [[7, 8, 5, 0], [9, 8, 0, 0]])).x
    assert x.looked_BX[0].tolist() == [*numbers(held, 0, 7), *numbers(held, 1, 8), *numbers(held, 2, 5), 0.0, 0.0]
    assert x.looked_BX[1].tolist() == [*numbers(held, 0, 9), *numbers(held, 1, 8), 0.0, 0.0, *numbers(held, 0, 1)]
    assert x.dense_BM.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    (sequence,) = x.sequences
    assert sequence.length_B.tolist() == [2, 1]
    assert [row.tolist() for row in sequence.keys_PD] == [
        [*numbers(held, 1, 10 + n), *numbers(held, 0, n)] for n in (1, 2, 3)
    ]
    assert [row.tolist() for row in sequence.root_BD] == [
        [*numbers(held, 1, 8), *numbers(held, 0, video)] for video in (7, 9)
    ]


def test_rows_behind_the_batch_are_zeros_whatever_stood_there() -> None:
    held = inputs(SEEN)
    assert held.look(seen([[1, 1]] * 3)).x.looked_BX.all()
    x = held.look(seen([[2, 1]]), pad_to=3).x
    assert x.looked_BX[0].all()
    assert not x.looked_BX[1:].any()
    assert not x.dense_BM[1:].any()
    assert x.sequences[0].length_B.tolist() == [2, 0, 0]
    assert not x.sequences[0].root_BD[1:].any()


def test_the_gradients_of_every_part_go_to_the_rows_it_was_made_of() -> None:
    held = inputs(SEEN)
    looked = held.look(seen([[2, 1]], [[7, 8, 5, 0]]))
    held._table.admit([places for places, _, _ in looked.places])
    of_looked = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8]])
    of_keys = torch.tensor([[10.0, 20, 30, 40], [50.0, 60, 70, 80]])
    of_roots = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    held._table.update(looked.gradients([of_looked, of_keys, of_roots]))
    found = dict(zip(held._table.state()["rows"].tolist(), held._table.state()["accumulator"].tolist(), strict=True))
    # Video 1 is in both histories; those of the root are learned by the attention too.
    of_rows = {
        (0, 7): (1.3, 2.4),
        (1, 8): (3.1, 4.2),
        (2, 5): (5, 6),
        (0, 1): (30 + 7, 40 + 8),
        (0, 2): (70, 80),
        (1, 11): (10, 20),
        (1, 12): (50, 60),
    }
    for (feature, value), (one, other) in of_rows.items():
        ((row,),) = held._table.rows(np.array([[value]], np.uint64), held._table.columns([feature])).tolist()
        assert found.pop(row) == pytest.approx((one**2 + other**2) / 2, rel=1e-5)
    assert not found


def test_what_a_model_does_not_read_teaches_no_rows() -> None:
    looked = inputs(SEEN).look(seen([[2, 1]], [[7, 8, 5, 0]]))
    of_roots = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    found = looked.gradients([None, None, of_roots])
    assert [of.grads_NX.tolist() for of in found] == [of_roots.tolist()]


@pytest.mark.parametrize(("lengths", "learned"), [([[0, 0], [0, 0]], 4), ([[0, 0]], 4), ([[3, 2]], 4 + 3 + 3)])
def test_a_learner_takes_rows_without_any_behaviour(lengths: list[list[int]], learned: int) -> None:
    held, rows = learner(SEEN, EsmmConfig(towers=(4,)), {"width": 2}), seen(lengths)
    assert held.learn(rows)
    assert np.isfinite(held.score(rows)).all()
    assert len(held.table) == learned  # videos 1 and 2 are in both histories


@pytest.mark.parametrize(("pool", "pooled"), [("sum", 0.5), ("mean", 0.25), ("max", 0.25)])
def test_each_item_of_a_bag_learns_a_row_and_the_bag_counts_as_pooled(pool: str, pooled: float) -> None:
    held = learner(tags(pool))
    assert held.learn(clicked([[7, 5, 6, 0]]))
    # Each weight moves by its rate: bias .5, the video .25, both tags .25 (equal largest ones share the gradient).
    assert held.score(clicked([[7, 5, 6, 0], [7, 6, 5, 0]])) == pytest.approx(0.75 + pooled)
    assert held.score(clicked([[7, 0, 0, 0], [8, 5, 0, 0], [8, 9, 0, 0]]))[:, 0].tolist() == [0.75, 0.75, 0.5]
    assert len(held.table) == 3


def test_a_mean_counts_new_items_and_a_largest_of_bad_ones_is_the_least_bad() -> None:
    mean, largest = learner(tags("mean")), learner(tags("max"))
    assert mean.learn(clicked([[7, 5, 0, 0]]))
    assert mean.score(clicked([[8, 5, 6, 4]]))[0, 0] == pytest.approx(0.5 + 0.25 / 3)
    rows = clicked([[7, 5, 6, 0]])
    rows.label[:] = 0
    assert largest.learn(rows)
    assert largest.score(clicked([[8, 5, 6, 0], [8, 5, 9, 0]]))[:, 0].tolist() == [-0.75, -0.5]


@pytest.mark.parametrize(("pool", "gradients"), [("sum", [0.5, 1.0]), ("mean", [0.5 / 3, 1.0 / 3])])
def test_the_gradient_of_a_bag_flows_to_its_items_as_pooled(pool: str, gradients: list[float]) -> None:
    held = learner(tags(pool))
    assert held.learn(clicked([[7, 5, 6, 6]]))
    # The video's gradient is .5; an item that is there twice gets both its shares.
    expected = [g**2 for g in sorted([0.5, *gradients])]
    assert sorted(held.state()["table.accumulator"].tolist()) == pytest.approx(expected)


def test_every_bag_has_a_table_of_its_own() -> None:
    held = learner({"id": ["video"], "bag": {"tag": {"most": 2}, "word": {"most": 2, "pool": "sum"}}})
    assert held.learn(clicked([[7, 7, 0, 7, 0]]))
    assert len(held.table) == 3
    alone = clicked([[7, 0, 0, 0, 0], [8, 7, 0, 0, 0], [8, 0, 0, 7, 9]])
    assert held.score(alone)[:, 0].tolist() == [0.75, 0.75, 0.75]


def test_a_bag_and_an_id_may_share_a_table() -> None:
    held = learner(tags("sum"), tables={"shared": {"tag": "video"}})
    assert held.learn(clicked([[7, 7, 0, 0]]))
    assert len(held.table) == 1
    assert held.score(clicked([[7, 0, 0, 0], [8, 7, 0, 0]]))[:, 0].tolist() == [0.75, 0.75]


def test_bags_alone_are_enough() -> None:
    for model in (LrConfig(), EsmmConfig(towers=(4,))):
        held = learner({"bag": ["tag"]}, model)
        rows = clicked([[5, *[0] * 9], [6, 5, *[0] * 8]])
        before = held.score(rows)
        assert held.learn(rows.take(slice(0, 1)))
        assert (held.score(rows) > before).all()


def test_a_number_may_stay_as_it_is_beside_one_that_is_standardised() -> None:
    held = inputs({"number": {"raw": {"standardise": False, "default": 3.0}, "usual": {}}})
    held.moments.update(np.array([[100.0, 10.0], [300.0, 14.0]], np.float32))
    rows = clicked([[], []], [[5, 15], [np.nan, 12]])
    x = held.look(rows).x
    # usual: mean 12, variance (8 + 1) / (2 + 1); then the flags.
    assert x.dense_BM.tolist() == [[5.0, pytest.approx(3 / 3**0.5), 0.0, 0.0], [3.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ({"default": 50.0, "clip": [0, 20]}, 20.0),
        ({"default": -5.0, "clip": [0, None], "transform": "log1p"}, 0.0),
        ({"default": 50.0, "clip": [None, 20], "transform": "log1p"}, np.log(21.0)),
    ],
)
def test_a_default_is_clipped_in_raw_units_and_transformed(number: dict[str, Any], expected: float) -> None:
    held = inputs({"number": {"seconds": number}})
    found, missing = held.moments.standardise(np.array([[np.nan]], np.float32))
    assert found[0, 0] == pytest.approx(expected)
    assert missing.tolist() == [[1.0]]


def test_a_default_that_32_bits_cannot_hold_is_refused_and_one_that_its_transform_makes_smaller_is_not() -> None:
    with pytest.raises(ConfigError, match=r"seconds\.default 1e\+39 is more than a 32-bit float holds"):
        inputs({"number": {"seconds": {"default": 1e39}}})
    held = inputs({"number": {"seconds": {"default": 1e39, "transform": "log1p"}}})
    assert held.moments.standardise(np.array([[np.nan]], np.float32))[0][0, 0] == pytest.approx(np.log(1e39))


@pytest.mark.parametrize(
    "features",
    [
        {"number": {"x": {"default": "nan"}}},
        {"number": {"x": {"clip": ["nan", 5]}}},
        {"number": {"x": {"clip": [0, "inf"]}}},
        {"bucket": {"b": {"of": "x", "at": ["nan"]}}},
    ],
)
def test_what_a_run_file_says_of_numbers_is_finite(features: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        FeaturesConfig(**features)


def test_vectors_stand_behind_the_numbers_as_they_are_with_one_flag_each() -> None:
    nan = np.nan
    held = inputs({"number": {"seconds": {}}, "vector": {"face": 2, "voice": 3}})
    held.moments.update(np.array([[1.0, 9, 9, 9, 9, 9], [3.0, 9, 9, 9, 9, 9]], np.float32))
    rows = clicked([[], []], [[3.0, 7, 8, nan, nan, nan], [nan, nan, nan, 4, 5, 6]])
    x = held.look(rows, pad_to=3).x
    # seconds: mean 2, variance (2 + 1) / (2 + 1); then the flags.
    assert x.dense_BM.tolist() == [[1.0, 7, 8, 0, 0, 0, 0, 0, 1], [-2.0, 0, 0, 4, 5, 6, 1, 1, 0], [0.0] * 9]
    assert held.moments.state()["count"].tolist() == [2.0]


def test_a_vector_is_learned_as_numbers_are() -> None:
    held = learner({"vector": {"face": 2}})
    rows = clicked([[]], [[2.0, -4.0]])
    assert held.learn(rows)
    # Bias .5 and each weight its rate towards the label: .5 * 2 + .5 * 4.
    assert held.score(rows)[0, 0] == 3.5
