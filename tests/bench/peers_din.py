"""A history of up to 50 with DIN's attention: ours ragged, the same padded in plain torch, and deepctr-torch's DIN.

Lengths are even from 0 to 50. The padded model has our tables, our row update and our towers; only its attention is
as the paper writes it, over [q, k, q - k, q * k] of 50 steps whatever the length. deepctr-torch's DIN has one tower and
predicts clicks alone: it is compared with ours on clicks alone, which has one tower too.
Legend: B rows, F ids, T steps, C columns of a behaviour, W width, D = C W, H hidden units, S stages.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from streamctr.layers import Towers
from streamctr.schema import Funnel
from streamctr.synthetic import ID_FIELDS
from streamctr.tables import FusedTable, RowGradients, TablesConfig
from streamctr.training import Learner
from tests.bench.peers_fits import BATCH, SMALL, deepctr_din
from tests.bench.peers_rounds import Contestant, Rounds, run_rounds
from tests.bench.peers_world import FIELDS, INPUTS, ROWS, STEPS, TAKEN, TOWERS, WIDTH, World, make_recipe, slices

HIDDEN = 36
BEHAVIOUR = len(TAKEN) * WIDTH
HISTORY = "features.history={clicked: {of: click, take: [item_id, category], last: 50, pool: attention}}"


class PaddedDin(nn.Module):
    """Towers over ids, numbers and the history, weighed by a small network over all of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(4 * BEHAVIOUR, HIDDEN), nn.PReLU(HIDDEN), nn.Linear(HIDDEN, 1))
        self.towers = Towers(INPUTS + BEHAVIOUR, TOWERS, torch.zeros(2), torch.Generator().manual_seed(0))

    def forward(
        self, ids_BX: torch.Tensor, dense_BM: torch.Tensor, keys_BTD: torch.Tensor, mask_BT: torch.Tensor
    ) -> torch.Tensor:
        """Probabilities of a click, and of a click and conversion (B, 2)."""
        root_BD = ids_BX.view(-1, FIELDS, WIDTH)[:, list(TAKEN)].flatten(1)
        roots_BTD = root_BD[:, None, :].expand_as(keys_BTD)
        pairs_BTX = torch.cat([roots_BTD, keys_BTD, roots_BTD - keys_BTD, roots_BTD * keys_BTD], dim=2)
        hidden_PX = pairs_BTX.flatten(0, 1)
        weights_BT = self.weigh(hidden_PX).view(mask_BT.shape) * mask_BT
        pooled_BD = torch.bmm(weights_BT[:, None, :], keys_BTD)[:, 0]
        click_B, conversion_B = torch.sigmoid(self.towers(torch.cat([ids_BX, dense_BM, pooled_BD], dim=1))).unbind(1)
        return torch.stack([click_B, click_B * conversion_B], dim=1)


def padded(name: str, world: World, steps: int) -> Contestant:
    """The padded model with our tables."""
    table = FusedTable(TablesConfig(rows=ROWS, width=WIDTH), ID_FIELDS, WIDTH, init_std=0.01, seed=0)
    table.share_out(torch.get_num_threads())
    single, repeated = table.columns(range(FIELDS)), table.columns(list(TAKEN) * STEPS)
    model = PaddedDin()
    dense = torch.optim.Adam(model.parameters(), fused=True)
    mask_NT = torch.from_numpy(np.arange(STEPS) < world.length_N[:, None]).float()
    numbers, labels = torch.from_numpy(world.dense), torch.from_numpy(world.labels)
    history_NX = world.history_NTC.reshape(len(world), -1)
    ids_BX, keys_BX = torch.empty(BATCH, FIELDS * WIDTH), torch.empty(BATCH, STEPS * BEHAVIOUR)
    batches = slices(len(world), BATCH)

    def learn(at: slice) -> None:
        looked = [
            table.look(world.ids_NF[at], single, ids_BX.numpy()),
            table.look(history_NX[at], repeated, keys_BX.numpy()),
        ]
        leaves = [ids_BX.detach().requires_grad_(), keys_BX.detach().requires_grad_()]
        dense.zero_grad(set_to_none=True)
        predicted_BS = model(leaves[0], numbers[at], leaves[1].view(BATCH, STEPS, BEHAVIOUR), mask_NT[at])
        torch.autograd.backward(nn.functional.binary_cross_entropy(predicted_BS, labels[at]))
        dense.step()
        table.admit(looked)
        grads = [leaf.grad.numpy() for leaf in leaves if leaf.grad is not None]
        table.update([RowGradients(*pair) for pair in zip(looked, grads, strict=True)])

    def window(number: int) -> int:
        for step in range(number * steps, (number + 1) * steps):
            learn(batches[step % len(batches)])
        return steps * BATCH

    return Contestant(name, window)


def ragged(name: str, world: World, steps: int, clicks_alone: bool = False) -> Contestant:
    """Our learner, from hashed ids and histories."""
    recipe, samples = make_recipe(BATCH, "esmm", HISTORY), world.samples(history=True)
    if clicks_alone:
        recipe = replace(recipe, funnel=Funnel(stages=recipe.funnel.stages[:2]))
        samples = replace(samples, **{of: getattr(samples, of)[:, :2].copy() for of in ("says", "label", "at_ms")})
    learner = Learner(recipe)
    batches = [samples.take(places) for places in slices(len(world), BATCH)]

    def window(number: int) -> int:
        for step in range(number * steps, (number + 1) * steps):
            learner.learn(batches[step % len(batches)])
        return steps * BATCH

    return Contestant(name, window, deterministic=True, threads=torch.get_num_threads())


def din_rounds(world: World, rounds: int, large: bool) -> Rounds:
    """All three in batches of 1024, deepctr-torch with a vocabulary of 50 thousand rows and where wanted with all."""
    contestants = [
        ragged("ragged", world, 16),
        ragged("clicks", world, 16, clicks_alone=True),
        padded("padded", world, 8),
        deepctr_din("deepctr-torch DIN 50k", world, SMALL, 4),
    ]
    if large:
        contestants.append(deepctr_din("deepctr-torch DIN", world, ROWS, 1))
    return run_rounds(contestants, rounds)
