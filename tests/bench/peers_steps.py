"""The learning step of an ESMM, ours and torchrec's, with the machine's own products beside them.

torchrec is written as its user would: a fused `EmbeddingBagCollection` with row-wise Adagrad inside its backward, two
plain torch towers and fused Adam. The same over fbgemm's table directly spares torchrec's bookkeeping; the faster of
the two is what ours is compared with. Their tensors are made beforehand, ours hash within the step.
Legend: B rows, F ids.
"""

import contextlib
import io
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn

from streamctr.training import Learner, TrainingConfig
from tests.bench.machine import gemm_step, has_bf16, layers
from tests.bench.peers_rounds import Contestant, Rounds, run_rounds
from tests.bench.peers_world import FIELDS, INPUTS, ROWS, TOWERS, WIDTH, World, make_recipe, slices

TABLE_LR = 0.05


def imported(module: str) -> Any:
    """A peer's module, without what it prints and warns of while it is imported."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return import_module(module)
    finally:
        logging.disable(logging.NOTSET)


class PlainEsmm(nn.Module):
    """Two towers over looked-up ids and numbers, each its own layers, with probabilities multiplied."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (INPUTS, *TOWERS)
        self.towers = nn.ModuleList(
            nn.Sequential(
                *(part for ins, outs in zip(sizes, TOWERS, strict=False) for part in (nn.Linear(ins, outs), nn.ReLU())),
                nn.Linear(TOWERS[-1], 1),
            )
            for _ in range(2)
        )

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        click_B1, conversion_B1 = (torch.sigmoid(tower(x_BD)) for tower in self.towers)
        return torch.cat([click_B1, click_B1 * conversion_B1], dim=1)


Look = Callable[[Any], torch.Tensor]


def torchrec_look() -> tuple[Look, Callable[[torch.Tensor], Any]]:
    """torchrec's collection, and its input of rows (B, F)."""
    modules, sparse = (
        imported("torchrec.modules.embedding_configs"),
        imported("torchrec.sparse.jagged_tensor"),
    )
    fused = imported("torchrec.modules.fused_embedding_modules")
    names = [f"id{place}" for place in range(FIELDS)]
    tables = [
        modules.EmbeddingBagConfig(name=f"t_{name}", embedding_dim=WIDTH, num_embeddings=ROWS, feature_names=[name])
        for name in names
    ]
    collection = fused.FusedEmbeddingBagCollection(
        tables, imported("torchrec.optim").RowWiseAdagrad, {"lr": TABLE_LR}, device=torch.device("cpu")
    )

    def prepare(rows_BF: torch.Tensor) -> Any:
        values, lengths = rows_BF.T.reshape(-1), torch.ones(rows_BF.numel(), dtype=torch.int32)
        return sparse.KeyedJaggedTensor(names, values, lengths=lengths, offsets=torch.arange(rows_BF.numel() + 1))

    return lambda features: collection(features).values(), prepare


def fbgemm_look() -> tuple[Look, Callable[[torch.Tensor], Any]]:
    """fbgemm's fused tables, and their input."""
    ops = imported("fbgemm_gpu.split_table_batched_embeddings_ops_training")
    configs = imported("fbgemm_gpu.split_embedding_configs")
    place = ops.EmbeddingLocation.HOST, ops.ComputeDevice.CPU
    tables = ops.SplitTableBatchedEmbeddingBagsCodegen(
        [(ROWS, WIDTH, *place)] * FIELDS,
        optimizer=configs.EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=TABLE_LR,
        device=torch.device("cpu"),
    )
    for weights in tables.split_embedding_weights():
        nn.init.normal_(weights, std=0.01)

    def prepare(rows_BF: torch.Tensor) -> Any:
        return rows_BF.T.reshape(-1), torch.arange(rows_BF.numel() + 1)

    return lambda features: tables(*features), prepare


def fused_peer(name: str, world: World, batch: int, steps: int, made: tuple[Look, Callable[[Any], Any]]) -> Contestant:
    """A look into fused tables with plain towers behind it; tensors made here."""
    look, prepare = made
    model = PlainEsmm()
    dense = torch.optim.Adam(model.parameters(), fused=True)
    rows_NF, numbers, labels = (torch.from_numpy(part) for part in (world.rows(), world.dense, world.labels))
    batches = [
        (prepare(rows_NF[places]), numbers[places].clone(), labels[places].clone())
        for places in slices(len(world), batch)
    ]

    def window(number: int) -> int:
        for step in range(number * steps, (number + 1) * steps):
            features, numbers_BM, labels_BS = batches[step % len(batches)]
            dense.zero_grad(set_to_none=True)
            predicted_BS = model(torch.cat([look(features), numbers_BM], dim=1))
            torch.autograd.backward(nn.functional.binary_cross_entropy(predicted_BS, labels_BS))
            dense.step()
        return steps * batch

    return Contestant(name, window)


def ours(name: str, world: World, batch: int, steps: int, *settings: str) -> Contestant:
    """Our learner, from hashed ids; without a history."""
    learner = Learner(make_recipe(batch, "esmm", "features.history={}", *settings))
    samples = world.samples(history=False)
    batches = [samples.take(places) for places in slices(len(world), batch)]

    def window(number: int) -> int:
        for step in range(number * steps, (number + 1) * steps):
            learner.learn(batches[step % len(batches)])
        return steps * batch

    return Contestant(name, window, deterministic=True, threads=torch.get_num_threads())


def products(name: str, batch: int, steps: int, dtype: torch.dtype) -> Contestant:
    """The matrix products of the step alone: the bound."""
    once = gemm_step(batch, layers(INPUTS, TOWERS, 2), dtype)

    def window(number: int) -> int:
        for _ in range(steps):
            once()
        return steps * batch

    return Contestant(name, window)


def can_bf16() -> bool:
    """Whether both the CPU and our learner know bf16."""
    return has_bf16() and "precision" in TrainingConfig.model_fields


def step_rounds(world: World, batch: int, window: int, rounds: int) -> Rounds:
    """Everything that learns the same ESMM in batches of one size, `window` samples at a time."""
    steps = window // batch
    contestants = [
        products("gemm fp32", batch, steps, torch.float32),
        ours("ours", world, batch, steps),
        fused_peer("torchrec", world, batch, steps, torchrec_look()),
        fused_peer("fbgemm", world, batch, steps, fbgemm_look()),
    ]
    if can_bf16():
        contestants += [
            ours("ours bf16", world, batch, steps, "training.precision=bf16"),
            products("gemm bf16", batch, steps, torch.bfloat16),
        ]
    return run_rounds(contestants, rounds)
