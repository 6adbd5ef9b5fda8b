import pytest
import torch
from torch import nn

from streamctr.layers import Attention, max_pool, mean_pool, sum_pool

VALUES_BTCW = torch.tensor([[[[1.0, -2.0]], [[3.0, -6.0]], [[0.0, 0.0]]], [[[0.0, 0.0]]] * 3])
"""Two rows of three steps of one column: the first has two steps, the second none."""
MASK_BT = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


def attention(steps: int = 5, width: int = 3, seed: int = 0) -> Attention:
    """Over two fields, which stand at places 2 and 0 of the root's three ids; no parameter at its start."""
    layer = Attention((2, 0), steps, width, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return layer


def behaviours(rows: int = 6, steps: int = 5, width: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, mask (row i has i steps) and the root's ids."""
    generator = torch.Generator().manual_seed(2)
    mask_BT = (torch.arange(steps) < torch.arange(rows)[:, None]).float()
    values_BTCW = torch.randn(rows, steps, 2, width, generator=generator) * mask_BT[:, :, None, None]
    return values_BTCW, mask_BT, torch.randn(rows, 3, width, generator=generator)


def plain_attention(
    layer: Attention, values_BTCW: torch.Tensor, mask_BT: torch.Tensor, ids_BFW: torch.Tensor
) -> torch.Tensor:
    """The same as the paper's figure draws it: the four parts side by side into one layer."""
    keys = values_BTCW.flatten(2)
    root = torch.cat((ids_BFW[:, 2], ids_BFW[:, 0]), dim=1)[:, None, :].expand_as(keys)
    parts = torch.cat((root, keys, root - keys, root * keys), dim=2)
    hidden = nn.functional.linear(parts, layer.first, layer.first_bias)
    active = torch.where(hidden > 0, hidden, layer.slope * hidden)
    weights = (active @ layer.last.T + layer.bias) * mask_BT[:, :, None]
    return (weights * keys).sum(1).unflatten(1, (2, -1))


def test_pools_count_the_steps_that_there_are() -> None:
    assert sum_pool(VALUES_BTCW, MASK_BT).tolist() == [[[4.0, -8.0]], [[0.0, 0.0]]]
    assert mean_pool(VALUES_BTCW, MASK_BT).tolist() == [[[2.0, -4.0]], [[0.0, 0.0]]]
    assert max_pool(VALUES_BTCW, MASK_BT).tolist() == [[[3.0, -2.0]], [[0.0, 0.0]]]


def test_the_largest_takes_the_gradient_and_equal_ones_share_it() -> None:
    values_BTCW = torch.tensor([[[[1.0, 5.0]], [[3.0, 5.0]], [[0.0, 0.0]]], [[[0.0, 0.0]]] * 3], requires_grad=True)
    (grad,) = torch.autograd.grad(max_pool(values_BTCW, MASK_BT).sum(), [values_BTCW])
    assert grad.tolist() == [[[[0.0, 0.5]], [[1.0, 0.5]], [[0.0, 0.0]]], [[[0.0, 0.0]]] * 3]


def test_attention_is_the_network_over_the_four_parts_side_by_side() -> None:
    layer, x = attention(), behaviours()
    found, expected = layer(*x), plain_attention(layer, *x)
    assert found.shape == (6, 2, 3)
    assert expected.abs().max() > 1
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_gradients_of_attention_are_those_of_its_formula() -> None:
    layer, (values_BTCW, mask_BT, ids_BFW) = attention().double(), (part.double() for part in behaviours(rows=3))
    inputs = (values_BTCW.requires_grad_(), ids_BFW.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(lambda values, ids, *_: layer(values, mask_BT, ids), inputs)


def test_attention_over_nothing_is_zero_and_masked_steps_learn_nothing() -> None:
    layer, (values_BTCW, mask_BT, ids_BFW) = attention(), behaviours()
    found = layer(values_BTCW.requires_grad_(), mask_BT, ids_BFW)
    assert not found[0].any()
    assert found[1].all()
    (grad,) = torch.autograd.grad(found.sum(), [values_BTCW])
    assert not grad[mask_BT == 0].any()
    assert grad[mask_BT == 1].all()


def test_attention_weighs_by_the_root() -> None:
    layer, (values_BTCW, mask_BT, ids_BFW) = attention(), behaviours()
    other = ids_BFW.clone()
    other[:, 1] += 1.0  # not a taken field
    assert torch.equal(layer(values_BTCW, mask_BT, other), layer(values_BTCW, mask_BT, ids_BFW))
    other[:, 2] += 1.0
    assert not torch.allclose(layer(values_BTCW, mask_BT, other)[1:], layer(values_BTCW, mask_BT, ids_BFW)[1:])


def test_attention_starts_at_the_mean_of_a_full_history() -> None:
    layer = Attention((0,), 4, 1, torch.Generator().manual_seed(0))
    values_BTCW = 0.01 * torch.tensor([1.0, 3.0, 5.0, 7.0]).reshape(1, 4, 1, 1)
    found = layer(values_BTCW, torch.ones(1, 4), torch.full((1, 1, 1), 0.01))
    assert found.item() == pytest.approx(0.04, rel=0.1)
    assert layer.first.std().item() == pytest.approx((2 / (1 + 0.25**2) / 4) ** 0.5, rel=0.2)
