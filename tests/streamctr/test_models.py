from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from streamctr.errors import ConfigError
from streamctr.heads import heads
from streamctr.models import (
    EsmmConfig,
    HistoryShape,
    InputShape,
    LrConfig,
    ModelConfig,
    ModelInput,
    SequenceInput,
    Targets,
    build,
)
from streamctr.schema import FeaturesConfig, Funnel, StageConfig

STAGE = StageConfig(observe="10s")
CHAIN = Funnel.from_mapping({"view": None, "click": STAGE, "cart": STAGE, "buy": STAGE})
FORK = Funnel.from_mapping({"view": None, "click": STAGE, "like": StageConfig(after="view", observe="10s")})
SHAPE = InputShape(ids=2, numbers=1, flags=1, width=3)


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def esmm(stages: int = 2, towers: tuple[int, ...] = (8, 4), pool: Any = "mean") -> torch.nn.Module:
    shape = replace(SHAPE, histories=(HistoryShape(4, (0, 1), pool),))
    return build(EsmmConfig(towers=towers), shape, torch.linspace(-1.0, 1.0, stages), torch.Generator().manual_seed(0))


def some_input(pool: str = "mean", rows: int = 5) -> ModelInput:
    """Row i has i behaviours; what is pooled stands behind the ids."""
    generator = torch.Generator().manual_seed(1)
    length_B = torch.arange(rows, dtype=torch.int32)
    keys_PD = torch.randn(int(length_B.sum()), 6, generator=generator)
    x_BX = torch.randn(rows, 14, generator=generator)
    if pool == "attention":
        return ModelInput(x_BX[:, :6], x_BX[:, 6:8], (SequenceInput(keys_PD, length_B, x_BX[:, 8:].clone()),))
    return ModelInput(x_BX[:, :12], x_BX[:, 12:])


def all_on(labels_BS: torch.Tensor) -> Targets:
    return Targets(labels_BS, torch.ones_like(labels_BS), torch.ones_like(labels_BS))


def test_heads_of_a_chain_are_conditional_and_entire() -> None:
    assert [(h.name, h.stage, h.path, h.entire) for h in heads(CHAIN)] == [
        ("click", 1, (1,), True),
        ("cart|click", 2, (2,), False),
        ("click&cart", 2, (1, 2), True),
        ("buy|cart", 3, (3,), False),
        ("click&cart&buy", 3, (1, 2, 3), True),
    ]


def test_esmm_loss_is_the_cross_entropy_of_the_products() -> None:
    logits_BS = np.array([[0.3, -1.2, 0.7], [-2.0, 1.5, 0.1], [1.0, 0.0, -3.0]])
    labels_BS = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    weights_BS = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0.5]])
    p = np.cumprod(1 / (1 + np.exp(-logits_BS)), axis=1)
    expected = -(weights_BS * np.where(labels_BS == 1, np.log(p), np.log(1 - p))).sum()
    targets = Targets(tensor(*labels_BS.tolist()), torch.zeros(3, 3), tensor(*weights_BS.tolist()))
    loss = esmm(3).loss(tensor(*logits_BS.tolist()), targets)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_esmm_loss_and_gradient_are_finite_at_extreme_logits(label: float) -> None:
    extremes = [-500.0, -90.0, 0.0, 90.0, 500.0]
    logits_BS = tensor(*[(a, b) for a in extremes for b in extremes]).requires_grad_()
    loss = esmm().loss(logits_BS, all_on(torch.full_like(logits_BS, label)))
    (grad_BS,) = torch.autograd.grad(loss, [logits_BS])
    assert loss.isfinite()
    assert grad_BS.isfinite().all()


def test_a_row_that_is_silent_on_clicks_adds_no_click_loss() -> None:
    logits_BS, late = tensor((0.3, -1.2)), Targets(tensor((1, 1)), tensor((0, 1)), tensor((0, 1)))
    p = 1 / (1 + np.exp(-0.3)) / (1 + np.exp(1.2))
    assert esmm().loss(logits_BS, late).item() == pytest.approx(-np.log(p), rel=1e-6)


def test_lr_trains_only_the_heads_that_are_spoken_of() -> None:
    model = build(LrConfig(), InputShape(2, 1, 1, 2), torch.zeros(2), torch.Generator())
    logits_BS = torch.zeros(1, 2, requires_grad=True)
    targets = Targets(tensor((1, 1)), tensor((0, 1)), tensor((1, 1)))
    (grad_BS,) = torch.autograd.grad(model.loss(logits_BS, targets), [logits_BS])
    assert grad_BS.tolist() == [[0.0, -0.5]]


def test_lr_adds_ids_bags_pooled_histories_numbers_flags_and_bias() -> None:
    shape = InputShape(2, 1, 2, 2, (HistoryShape(2, (0,), "max"),))
    model = build(LrConfig(), shape, tensor(0.5, -0.5), torch.Generator())
    with torch.no_grad():
        model.numbers.copy_(tensor((10.0, 100.0, 7.0), (20.0, 200.0, 7.0)))
    looked = tensor((0.1, 0.2, 0.3, 0.4, 3.0, 4.0), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert shape.looked == looked.shape[1]
    x = ModelInput(looked, tensor((2.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    expected = [0.4 + 3.0 + 20.0 + 100.0 + 0.5, 0.6 + 4.0 + 40.0 + 200.0 - 0.5]
    assert model(x)[0].tolist() == pytest.approx(expected)
    assert model(x)[1].tolist() == [7.5, 6.5]


@pytest.mark.parametrize(("looked", "dense"), [(0, 2), (4, 0)])
def test_lr_takes_numbers_alone_or_ids_alone(looked: int, dense: int) -> None:
    model = build(LrConfig(), InputShape(looked // 2, dense, 0, 2), tensor(0.5, -0.5), torch.Generator())
    x_BX = torch.ones(3, looked + dense)
    found = model(ModelInput(x_BX[:, :looked], x_BX[:, looked:]))
    assert found.tolist() == [[0.5 + looked / 2, -0.5 + looked / 2]] * 3


def test_lr_refuses_attention_and_esmm_takes_it() -> None:
    features = FeaturesConfig.model_validate(
        {"id": ["video"], "history": {"seen": {"of": "click", "take": ["video"], "pool": "attention"}}}
    )
    words = r"model lr .* set features\.history\.seen\.pool to mean, sum or max, or use model esmm"
    with pytest.raises(ConfigError, match=words):
        LrConfig().check(features)
    EsmmConfig().check(features)


def test_the_shape_of_the_input_follows_from_the_features() -> None:
    features = FeaturesConfig.model_validate(
        {
            "id": ["video", "author"],
            "bag": {"tag": {"most": 4}},
            "number": {"seconds": {}},
            "vector": {"face": 5},
            "time": ["hour"],
            "cross": [["author", "tab"]],
            "history": {"seen": {"of": "click", "take": ["author*tab", "video"], "last": 7, "pool": "max"}},
        }
    )
    expected = InputShape(ids=5, numbers=6, flags=2, width=3, histories=(HistoryShape(7, (3, 0), "max"),))
    assert InputShape.of(features, 3) == expected
    # ids, and both fields of the history that is pooled; one that a model combines itself has no columns.
    assert (expected.looked, expected.dense, expected.sequences) == (3 * 7, 8, ())
    weighed = replace(expected, histories=(HistoryShape(7, (3, 0), "attention"), *expected.histories))
    assert (weighed.looked, weighed.sequences) == (3 * 7, weighed.histories[:1])


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_esmm_reads_every_part_of_its_input_and_gives_a_tower_a_stage(pool: str) -> None:
    x, model = some_input(pool), esmm(3, pool=pool)
    assert model(x).shape == (5, 3)
    parts = [x.looked_BX, x.dense_BM, *(part for seen in x.sequences for part in (seen.keys_PD, seen.root_BD))]
    x = ModelInput(*(part.detach().requires_grad_() for part in parts[:2]), x.sequences)
    parts = [x.looked_BX, x.dense_BM, *(part.requires_grad_() for part in parts[2:])]
    for grad in torch.autograd.grad(model(x)[:, 2].sum(), parts):
        assert grad.abs().sum() > 0


def test_a_model_learns_all_of_its_attention() -> None:
    model = esmm(2, pool="attention")
    learned = [name for name, _ in model.named_parameters() if name.startswith("attention")]
    assert learned == [f"attention.0.{name}" for name in ("first", "first_bias", "slope", "last", "bias")]
    loss = model.loss(model(some_input("attention")), all_on(torch.ones(5, 2)))
    for grad in torch.autograd.grad(loss, list(model.parameters())):
        assert grad.abs().sum() > 0


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_esmm_towers_are_plain_mlps(pool: str) -> None:
    x, model = some_input(pool), esmm(2, towers=(8, 4), pool=pool)
    weights = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    pooled = [model.attention[0](seen.keys_PD, seen.length_B, seen.root_BD) for seen in x.sequences]
    inputs = torch.cat((x.looked_BX, x.dense_BM, *pooled), 1).detach().double().numpy()
    for stage in range(2):
        first = slice(8 * stage, 8 * stage + 8)
        hidden = np.maximum(inputs @ weights["towers.first"][first].T + weights["towers.first_bias"][first], 0)
        hidden = np.maximum(hidden @ weights[f"towers.weights.{stage}"].T + weights[f"towers.biases.{stage}"], 0)
        logit = hidden @ weights[f"towers.last.{stage}"].T + weights[f"towers.bias.{stage}"]
        assert model(x)[:, stage].tolist() == pytest.approx(logit[:, 0].tolist(), rel=1e-5, abs=1e-6)


def test_each_head_starts_at_its_own_bias() -> None:
    empty = torch.zeros(1, 14)
    assert esmm(2)(ModelInput(empty[:, :12], empty[:, 12:])).tolist() == [[-1.0, 1.0]]
    nothing = SequenceInput(torch.zeros(0, 6), torch.zeros(1, dtype=torch.int32), torch.zeros(1, 6))
    x = ModelInput(empty[:, :6], empty[:, 6:8], (nothing,))
    assert esmm(2, pool="attention")(x).tolist() == [[-1.0, 1.0]]


def test_hidden_layers_start_as_he_and_the_last_as_glorot() -> None:
    model = build(EsmmConfig(towers=(512, 256)), InputShape(20, 0, 0, 16), torch.zeros(2), torch.Generator())
    parameters = dict(model.named_parameters())
    assert parameters["towers.first"].std().item() == pytest.approx((2 / 320) ** 0.5, rel=0.02)
    assert parameters["towers.weights.1"].std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert parameters["towers.last.0"].std().item() == pytest.approx((2 / 257) ** 0.5, rel=0.2)


def test_esmm_refuses_a_funnel_that_is_no_chain() -> None:
    words = "model esmm takes a chain of stages, but like follows view beside click; set funnel.like.after to click"
    with pytest.raises(ConfigError, match=words):
        EsmmConfig().rows(FORK, 16, 0.01)
    assert EsmmConfig().rows(CHAIN, 16, 0.01) == (16, 0.01)


def test_lr_takes_one_weight_a_head_that_starts_at_zero_and_any_tree() -> None:
    assert LrConfig().rows(FORK, 16, 0.01) == (2, 0.0)


def test_a_model_may_be_given_by_its_name() -> None:
    adapter = TypeAdapter[LrConfig | EsmmConfig](ModelConfig)
    assert adapter.validate_python("esmm") == EsmmConfig(towers=(256, 128))
    assert adapter.validate_python({"name": "esmm", "towers": ["64"]}) == EsmmConfig(towers=(64,))
    with pytest.raises(ValidationError, match="'lr', 'esmm'"):
        adapter.validate_python("esm")
