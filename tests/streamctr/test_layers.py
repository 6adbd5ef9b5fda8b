import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamctr.layers import HAS_BF16, Attention, Towers, attention, chain_loss, mlp
from streamctr.layers.attention import HIDDEN
from streamctr.layers.wide import beside, in_rows

NEEDS_BF16 = pytest.mark.skipif(
    not (HAS_BF16 and torch.cpu._is_avx512_bf16_supported()), reason="this CPU or torch multiplies no bf16 numbers"
)


def towers(inputs: int = 20, hidden: tuple[int, ...] = (24, 12), stages: int = 2, parts: int = 1) -> Towers:
    """No bias at its start, so that units die in some rows and live in others."""
    found = Towers(inputs, hidden, torch.linspace(-1.0, 1.0, stages), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in (found.first_bias, *found.biases):
            parameter.copy_(torch.linspace(-0.3, 0.3, len(parameter)))
    found.parts = parts
    return found


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(out_BX: Tensor, of: list[Tensor]) -> list[Tensor]:
    """Of a sum of all numbers, each with a factor of its own."""
    return list(torch.autograd.grad((out_BX * numbers(*out_BX.shape, seed=7)).sum(), of))


def agree(found: list[Tensor], expected: list[Tensor], rel: float = 1e-5) -> None:
    """Within so much of the largest number of each."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.numel() == 0 or (one - other).abs().max() <= rel * other.abs().max()


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 300, 600])
@pytest.mark.parametrize(("hidden", "stages"), [((5,), 1), ((24, 12), 2), ((16, 9, 7), 3)])
def test_towers_and_their_gradients_are_those_of_the_same_op_by_op(
    hidden: tuple[int, ...], stages: int, rows: int, parts: int
) -> None:
    model, x_BX = towers(20, hidden, stages, parts), numbers(rows, 20).requires_grad_()
    of = [x_BX, *model.parameters()]
    found, expected = model(x_BX), model.plain(x_BX)
    wanted = gradients(expected, of)
    agree([found, *gradients(found, of)], [expected, *wanted])
    assert all(grad.any() for grad in wanted) or rows < 3


def summed(layer: Towers | Attention, x: list[Tensor], times: int = 1) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of what it read, and of its parameters as it adds them up behind five numbers of others."""
    sizes = [parameter.numel() for parameter in layer.parameters()]
    grads_QN = np.zeros((layer.parts, 5 + sum(sizes)), np.float32)
    largest_Q16 = np.zeros((layer.parts, 16), np.int32)
    layer.sums_into(grads_QN, largest_Q16, 5)
    of = [x_X for x_X in x if x_X.requires_grad]
    for _ in range(times):
        out_BX = layer(*x)
        factors_BX = numbers(*out_BX.shape, seed=7)
        asked = [*of, *layer.learned()]
        *found, nothing = torch.autograd.grad((out_BX * factors_BX).sum(), asked, allow_unused=True)
        assert nothing is None
    assert not grads_QN[:, :5].any()
    fields_QN = grads_QN.view(np.int32) & 0x7F800000
    assert (
        largest_Q16[:, 0] == fields_QN.max(axis=1) if times == 1 else largest_Q16[:, 0] >= fields_QN.max(axis=1)
    ).all()
    sums = torch.from_numpy(grads_QN.sum(axis=0)[5:]).split(sizes)
    return found, [of.view(p.shape) for of, p in zip(sums, layer.parameters(), strict=True)]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_are_added_where_an_optimiser_reads_them(parts: int, times: int) -> None:
    for layer, x in (
        (towers(parts=parts), [numbers(300, 20).requires_grad_()]),
        (attend(parts=parts), [*behaviours(tuple(range(40)))]),
    ):
        x[0].requires_grad_()
        wanted = gradients(layer(*x), [x[0], *layer.parameters()])
        found, sums = summed(layer, x, times)
        agree(found, wanted[:1])
        agree(sums, [times * grad for grad in wanted[1:]])


def test_a_layer_that_reads_nothing_learned_learns_itself() -> None:
    model, x_BX = towers(), numbers(9, 20)
    wanted = gradients(model(x_BX), list(model.parameters()))
    agree(summed(model, [x_BX])[1], wanted)


def test_a_layer_goes_through_in_no_more_parts_than_loops_have() -> None:
    with pytest.raises(ValueError, match="256 parts at most, not in 257"):
        towers(parts=257)(numbers(9, 20))


def test_gradients_too_small_to_teach_make_no_denormal_numbers() -> None:
    model, x_BX = towers(), numbers(300, 20).requires_grad_()
    model_out = model(x_BX)
    factors = torch.full_like(model_out, 2.0**-120)
    factors[::2] = 1.0
    found = torch.autograd.grad((model_out * factors).sum(), [x_BX, *model.parameters()])
    factors[1::2] = 0.0
    expected = torch.autograd.grad((model(x_BX) * factors).sum(), [x_BX, *model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_reaches_the_parameters(bad: float) -> None:
    model, x_BX = towers(), numbers(9, 20).requires_grad_()
    factors = torch.ones(9, 2)
    factors[3, 0] = bad
    found = torch.autograd.grad(model(x_BX), [x_BX, model.bias[0], model.last[0]], factors)
    assert not any(grad.isfinite().all() for grad in found)


@pytest.mark.parametrize("columns", [slice(0, 8), slice(2, 5), slice(7, 8)])
def test_columns_are_found_in_the_rows_that_they_lie_in(columns: slice) -> None:
    wide_BX = numbers(4, 8)
    found, column = in_rows(wide_BX[:, columns])
    assert (found.shape, column) == ((4, 8), columns.start)
    assert found.ctypes.data == wide_BX.data_ptr()
    below, column = in_rows(wide_BX[1:3, columns])
    assert (below[:, column:] == wide_BX[1:3, columns.start :].numpy()).all()
    assert below.shape == (2, 8)


@pytest.mark.parametrize("odd", [numbers(4, 8).T, numbers(4, 1).expand(4, 8), numbers(4, 0), numbers(4, 8)[:, ::2]])
def test_numbers_that_lie_in_no_rows_are_copied(odd: Tensor) -> None:
    found, column = in_rows(odd)
    assert np.array_equal(found[:, column : column + odd.shape[1]], odd.numpy())
    assert found.flags.c_contiguous


def test_inputs_side_by_side_are_one_and_only_those_that_learn_have_gradients() -> None:
    model, wide_BX = towers(parts=2), numbers(9, 32)
    whole_BX = wide_BX[:, :20].clone().requires_grad_()
    first, second, third = wide_BX[:, :12].detach().requires_grad_(), wide_BX[:, 12:15], wide_BX[:, 15:20].detach()
    apart = numbers(9, 5, seed=3)
    apart.copy_(third)
    expected = gradients(model(whole_BX), [whole_BX])[0]
    for last in (third.requires_grad_(), apart.requires_grad_()):
        found = gradients(model(first, second, last), [first, last])
        agree(found, [expected[:, :12], expected[:, 15:]])


def test_neighbours_in_memory_are_read_where_they_are() -> None:
    wide_BX = numbers(4, 32)
    there = beside([wide_BX[:, :12], wide_BX[:, 12:12], wide_BX[:, 12:20]])
    assert there.data_ptr() == wide_BX.data_ptr()
    assert torch.equal(there, wide_BX)


@pytest.mark.parametrize(
    "parts",
    [
        [numbers(4, 32)[:, 3:5], numbers(4, 32)[:, 5:9]],
        [numbers(4, 32)[:, :5], numbers(4, 32)[:, 6:9]],
        [numbers(9, 4).T],
        [numbers(9, 1).T],
        [numbers(9)[None, :5], numbers(9)[None, 5:]],
        [numbers(1, 1).expand(4, 9)],
    ],
    ids=["behind others", "with a gap", "turned", "one row turned", "strange rows", "one number"],
)
def test_what_lies_otherwise_is_copied(parts: list[Tensor]) -> None:
    whole = torch.cat(parts, dim=1)
    assert torch.equal(beside(parts)[:, : whole.shape[1]], whole)
    assert torch.equal(towers(whole.shape[1])(*parts), towers(whole.shape[1])(whole))


def test_a_part_without_columns_is_no_reason_to_copy() -> None:
    x_BX = numbers(4, 16)
    assert beside([x_BX, x_BX[:, 16:]]).data_ptr() == x_BX.data_ptr()


def test_without_a_blas_for_kernels_both_layers_go_op_by_op(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x_BX = towers(), numbers(5, 20)
    layer, x = attend(), behaviours()
    fast = [model(x_BX), layer(*x)]
    for module in (mlp, attention):
        monkeypatch.setattr(module, "HAS_FP32", False)
    agree([model(x_BX), layer(*x)], fast)
    assert torch.equal(model(x_BX), model.plain(x_BX))


WITHOUT = """
import ctypes, torch
def only(self, name, found=ctypes.CDLL.__getattr__):
    if name in ("gemm_bf16bf16f32_", "MKL_Set_Num_Threads_Local"):
        raise AttributeError(name)
    return found(self, name)
ctypes.CDLL.__getattr__ = only
from streamctr.layers import HAS_BF16, Attention, Towers, blas
torch.set_num_threads(1)
model, x_BX = Towers(20, (24, 12), torch.zeros(2), torch.Generator()), torch.ones(9, 20, requires_grad=True)
model(x_BX).sum().backward()
print(blas.HAS_FP32, HAS_BF16, torch.allclose(model(x_BX), model.plain(x_BX), rtol=1e-5))
"""


@pytest.mark.parametrize(
    ("environment", "said"),
    [({}, "True False True"), ({"NUMBA_DISABLE_JIT": "1"}, "False False True")],
    ids=["no bf16 and no MKL", "nothing is compiled"],
)
def test_a_torch_that_has_only_some_routines_will_do(environment: dict[str, str], said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == said


@NEEDS_BF16
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("rows", [1, 300])
def test_in_bf16_towers_and_gradients_are_near_those_in_fp32(rows: int, parts: int) -> None:
    """8 bits each factor: 1 / 512 at most, over three layers and back; units near 0 die or live by it."""
    model, x_BX = towers(64, (64, 32), 2, parts), numbers(rows, 64).requires_grad_()
    of, both = [x_BX, *model.parameters()], []
    for model.bf16 in (True, False):
        logits_BS = model(x_BX)
        both.append([logits_BS, *gradients(logits_BS, of)])
    assert not torch.equal(both[0][0], both[1][0])
    for found, expected in zip(*both, strict=True):
        assert (found - expected).norm() <= 0.1 * expected.norm()


@NEEDS_BF16
def test_factors_are_rounded_to_the_nearest_number_of_16_bits() -> None:
    model = Towers(1, (1,), torch.zeros(1), torch.Generator())
    model.bf16 = True
    with torch.no_grad():
        model.first.fill_(1.0)
        model.last[0].fill_(1.0)
    # 1 + 2^-7 is the next one to 1: in the middle the even one, above it the upper one.
    x_BX = torch.tensor([[1 + 2.0**-8], [1 + 2.0**-8 + 2.0**-20], [1 + 3 * 2.0**-8], [3e38], [float("inf")]])
    assert model(x_BX)[:, 0].tolist() == x_BX.bfloat16().float()[:, 0].tolist()
    assert model(x_BX)[:3, 0].tolist() == [1.0, 1 + 2.0**-7, 1 + 2.0**-6]


def attend(inputs: int = 6, steps: int = 5, seed: int = 0, parts: int = 1) -> Attention:
    """No parameter at its start."""
    layer = Attention(inputs, steps, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for place, parameter in enumerate(layer.parameters()):
            parameter += 0.3 * numbers(*parameter.shape, seed=seed + 10 + place)
    layer.parts = parts
    return layer


def behaviours(length: tuple[int, ...] = (0, 1, 2, 0, 3, 5), inputs: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Those of all rows, how many each row has, and the roots."""
    keys_PD, root_BD = numbers(sum(length), inputs, seed=2), numbers(len(length), inputs, seed=3)
    return keys_PD, torch.tensor(length, dtype=torch.int32), root_BD


def of_the_paper(layer: Attention, keys_PD: Tensor, length_B: Tensor, root_BD: Tensor) -> Tensor:
    """As the paper's figure draws it: the four parts side by side into one layer, row by row."""
    pooled = []
    for key, root in zip(keys_PD.split(length_B.tolist()), root_BD, strict=True):
        roots = root.expand_as(key)
        parts = torch.cat((roots, key, roots - key, roots * key), dim=1)
        hidden = nn.functional.linear(parts, layer.first, layer.first_bias)
        active = torch.where(hidden > 0, hidden, layer.slope * hidden)
        pooled.append(((active @ layer.last.T + layer.bias) * key).sum(0))
    return torch.stack(pooled)


def learned(layer: Attention, x: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    return [x[0].requires_grad_(), x[2].requires_grad_(), *layer.parameters()]


LENGTHS = {
    "some": (0, 1, 2, 0, 3, 5),
    "none": (0, 0, 0),
    "one": (1,),
    "nobody": (0,),
    "at the end": (0, 0, 4),
    "many": tuple(range(40)),
    "a whole block": (256, 0, 256, 1),
}


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_attention_and_its_gradients_are_those_of_the_same_op_by_op(
    length: tuple[int, ...], parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = attend(parts=parts), behaviours(length)
    of = learned(layer, x)
    found = layer(*x)
    found = [found, *gradients(found, of)]
    monkeypatch.setattr(attention, "HAS_FP32", False)
    expected = layer(*x)
    agree(found, [expected, *gradients(expected, of)])


def test_attention_is_the_network_over_the_four_parts_side_by_side() -> None:
    layer, x = attend(), behaviours()
    found, expected = layer(*x), of_the_paper(layer, *x)
    assert found.shape == (6, 6)
    assert expected.abs().max() > 1
    assert torch.allclose(found, expected, atol=1e-5)


def test_in_64_bits_the_plain_one_is_the_papers_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "HAS_FP32", False)
    layer, (keys_PD, length_B, root_BD) = attend().double(), behaviours((0, 1, 3))
    x = keys_PD.double(), length_B, root_BD.double()
    of = learned(layer, x)
    found, expected = layer(*x), of_the_paper(layer, *x)
    agree([found, *gradients(found, of)], [expected, *gradients(expected, of)], rel=1e-12)
    assert torch.autograd.gradcheck(lambda keys, roots, *_: layer(keys, length_B, roots), of)


def test_attention_over_nothing_is_zero_and_each_behaviour_learns() -> None:
    layer, (keys_PD, length_B, root_BD) = attend(), behaviours()
    found = layer(keys_PD.requires_grad_(), length_B, root_BD.requires_grad_())
    assert not found[length_B == 0].any()
    assert found[length_B > 0].all()
    of_keys, of_roots = torch.autograd.grad(found.sum(), [keys_PD, root_BD])
    assert of_keys.all()
    assert not of_roots[length_B == 0].any()
    assert of_roots[length_B > 0].all()


def test_attention_weighs_by_the_root() -> None:
    layer, (keys_PD, length_B, root_BD) = attend(), behaviours((2, 2))
    other = root_BD.clone()
    other[1] += 1.0
    before, after = layer(keys_PD, length_B, root_BD), layer(keys_PD, length_B, other)
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize("parts", [1, 2])
def test_a_vector_does_not_depend_on_the_other_rows_histories(parts: int) -> None:
    length = tuple(int(n) for n in np.random.default_rng(0).integers(0, 50, 64))
    layer, (keys_PD, length_B, root_BD) = attend(parts=parts), behaviours(length)
    together = layer(keys_PD, length_B, root_BD)
    for row, (begin, end) in enumerate(pairwise(np.cumsum([0, *length]).tolist())):
        alone_B = torch.zeros_like(length_B)
        alone_B[row] = end - begin
        assert torch.equal(layer(keys_PD[begin:end], alone_B, root_BD)[row], together[row])


def test_attention_starts_at_the_mean_of_a_full_history() -> None:
    layer = Attention(1, 4, torch.Generator().manual_seed(0))
    keys_PD = 0.01 * torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    found = layer(keys_PD, torch.tensor([4], dtype=torch.int32), torch.full((1, 1), 0.01))
    assert found.item() == pytest.approx(0.04, rel=0.1)
    assert layer.first.std().item() == pytest.approx((2 / (1 + 0.25**2) / 4) ** 0.5, rel=0.2)
    assert layer.first.shape == (HIDDEN, 4)


def chain(logits_BS: Tensor, labels_BS: Tensor, weights_BS: Tensor) -> Tensor:
    """The loss with the product's logit as -logsumexp(-a, -b, -a - b), by torch."""
    loss = torch.zeros((), dtype=logits_BS.dtype)
    path_B = None
    for stage, here_B in enumerate(logits_BS.T):
        sums = here_B if path_B is None else torch.stack((-path_B, -here_B, -path_B - here_B))
        path_B = here_B if path_B is None else -torch.logsumexp(sums, dim=0)
        costs_B = nn.functional.binary_cross_entropy_with_logits(path_B, labels_BS[:, stage], reduction="none")
        loss = loss + (weights_BS[:, stage] * costs_B).sum()
    return loss


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_the_loss_of_a_chain_is_the_cross_entropy_of_products(stages: int) -> None:
    logits_BS = 2 * numbers(50, stages).double()
    labels_BS, weights_BS = (numbers(50, stages, seed=5) > 0).double(), numbers(50, stages, seed=6).double().abs()
    p = torch.sigmoid(logits_BS).cumprod(1)
    expected = -(weights_BS * torch.where(labels_BS == 1, p.log(), (1 - p).log())).sum()
    assert chain_loss(logits_BS, labels_BS, weights_BS).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_its_gradient_is_that_of_its_formula(stages: int) -> None:
    logits_BS = (2 * numbers(50, stages).double()).requires_grad_()
    labels_BS, weights_BS = (numbers(50, stages, seed=5) > 0).double(), numbers(50, stages, seed=6).double().abs()
    found, expected = (3.0 * loss(logits_BS, labels_BS, weights_BS) for loss in (chain_loss, chain))
    agree(*([*torch.autograd.grad(loss, [logits_BS])] for loss in (found, expected)), rel=1e-12)
    single_BS = logits_BS.detach().float().requires_grad_()
    loss = chain_loss(single_BS, labels_BS.float(), weights_BS.float())
    agree(
        [3 * torch.autograd.grad(loss, [single_BS])[0].double()],
        [*torch.autograd.grad(chain(logits_BS, labels_BS, weights_BS) * 3, [logits_BS])],
        rel=1e-6,
    )


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_loss_and_gradient_of_a_chain_are_finite_and_right_at_extreme_logits(label: float) -> None:
    extremes = [-500.0, -90.0, 0.0, 90.0, 500.0]
    logits_BS = torch.tensor([(a, b) for a in extremes for b in extremes]).double().requires_grad_()
    labels_BS, ones_BS = torch.full_like(logits_BS, label), torch.ones_like(logits_BS)
    found, expected = (loss(logits_BS, labels_BS, ones_BS) for loss in (chain_loss, chain))
    of_found, of_expected = (torch.autograd.grad(loss, [logits_BS])[0] for loss in (found, expected))
    assert found.isfinite()
    assert of_found.isfinite().all()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(of_found, of_expected, rtol=1e-9, atol=1e-15)


def test_a_logit_that_is_no_number_makes_the_loss_none() -> None:
    for place in ((0, 0), (1, 1)):
        logits_BS = torch.full((2, 2), 0.5)
        logits_BS[place] = float("nan")
        assert chain_loss(logits_BS, torch.zeros(2, 2), torch.ones(2, 2)).isnan()
