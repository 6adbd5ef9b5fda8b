"""The `fit` of libraries that own their loop: deepctr-torch and nextrec, without regularisation, in batches of 1024.

Their tables have a vocabulary: all 2^22 rows, as ours have, or 50 thousand, which they are quick with.
Legend: N samples, F ids.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.synthetic import ID_FIELDS
from tests.bench.peers_rounds import Contestant, Rounds, run_rounds
from tests.bench.peers_steps import imported, ours
from tests.bench.peers_world import FIELDS, NUMBERS, ROWS, STEPS, TAKEN, TOWERS, WIDTH, World

BATCH = 1024
SMALL = 50_000 // FIELDS
"""Rows of each of the 16 tables where 50 thousand are all."""
Columns = dict[str, NDArray[Any]]


def deepctr(module: str) -> Any:
    """A module of deepctr-torch, which asks the package index for news when it is imported: not here."""
    there = sys.modules.get("requests")
    if "deepctr_torch" not in sys.modules:
        sys.modules["requests"] = ModuleType("requests")
    try:
        return imported(module)
    finally:
        if there is None:
            sys.modules.pop("requests", None)
        else:
            sys.modules["requests"] = there


def fitted(name: str, columns: Columns, steps: int, fit: Callable[[Columns], object]) -> Contestant:
    """A fit on so many batches, window by window; what it says of itself is not printed."""
    count = len(columns["label"])

    def window(number: int) -> int:
        start = number * steps * BATCH % max(1, count - steps * BATCH + 1)
        part = {key: column[start : start + steps * BATCH] for key, column in columns.items()}
        with contextlib.redirect_stdout(io.StringIO()):
            fit(part)
        return steps * BATCH

    return Contestant(name, window)


def columns_of(world: World, rows: int, history: bool = False) -> Columns:
    """Ids as rows, numbers, labels, and behaviours where wanted, by name."""
    rows_NF, dense = world.rows(rows), world.dense
    columns: Columns = {ID_FIELDS[place]: rows_NF[:, place].astype(np.int32) for place in range(FIELDS)}
    columns |= {f"number{place}": dense[:, place] for place in range(2 * NUMBERS)}
    if history:
        columns |= {f"hist_{ID_FIELDS[at]}": world.history_rows(rows)[:, :, c] for c, at in enumerate(TAKEN)}
        columns["length"] = world.length_N
    return columns | {"label": world.labels}


def deepctr_esmm(name: str, world: World, rows: int, steps: int) -> Contestant:
    """deepctr-torch's ESMM."""
    inputs, multitask = deepctr("deepctr_torch.inputs"), deepctr("deepctr_torch.models.multitask")
    described = [inputs.SparseFeat(field, rows, WIDTH) for field in ID_FIELDS]
    described += [inputs.DenseFeat(f"number{place}") for place in range(2 * NUMBERS)]
    model = multitask.ESMM(described, TOWERS, l2_reg_linear=0, l2_reg_embedding=0)
    model.compile("adam", loss=["binary_crossentropy", "binary_crossentropy"])
    return fitted(name, columns_of(world, rows), steps, lambda part: _deepctr_fit(model, part, part["label"]))


def deepctr_din(name: str, world: World, rows: int, steps: int) -> Contestant:
    """deepctr-torch's DIN, which predicts clicks alone, with hidden units like ours."""
    inputs, models = deepctr("deepctr_torch.inputs"), deepctr("deepctr_torch.models")
    taken = [ID_FIELDS[at] for at in TAKEN]
    described = [inputs.SparseFeat(field, rows, WIDTH) for field in ID_FIELDS]
    described += [inputs.DenseFeat(f"number{place}") for place in range(2 * NUMBERS)]
    described += [
        inputs.VarLenSparseFeat(
            inputs.SparseFeat(f"hist_{field}", rows, WIDTH, embedding_name=field), STEPS, length_name="length"
        )
        for field in taken
    ]
    model = models.DIN(
        described, taken, dnn_hidden_units=TOWERS, att_hidden_size=(36,), att_activation="prelu", l2_reg_embedding=0
    )
    model.compile("adam", loss="binary_crossentropy")
    columns = columns_of(world, rows, history=True)
    return fitted(name, columns, steps, lambda part: _deepctr_fit(model, part, part["label"][:, :1]))


def _deepctr_fit(model: Any, part: Columns, label: NDArray[np.float32]) -> None:
    model.fit({key: part[key] for key in part if key != "label"}, label, batch_size=BATCH, epochs=1, verbose=0)


def nextrec_esmm(name: str, world: World, rows: int, steps: int, folder: Path) -> Contestant:
    """nextrec's ESMM; it writes its logs and a checkpoint after every fit."""
    os.environ["NEXTREC_LOG_DIR"] = str(folder)
    features = imported("nextrec.basic.features")
    esmm = imported("nextrec.models.multitask.esmm").ESMM
    logging.disable(logging.INFO)
    towers = {"hidden_dims": list(TOWERS), "activation": "relu", "dropout": 0.0}
    model = esmm(
        dense_features=[features.DenseFeature(f"number{place}") for place in range(2 * NUMBERS)],
        sparse_features=[features.SparseFeature(field, rows + 1, embedding_dim=WIDTH) for field in ID_FIELDS],
        sequence_features=[],
        ctr_mlp_params=dict(towers),
        cvr_mlp_params=dict(towers),
        target=["click", "conversion"],
        session_id=name.replace(" ", "-"),
    )
    model.compile(optimizer="adam", loss=["bce", "bce"])
    columns = columns_of(world, rows)

    def fit(part: Columns) -> None:
        clicked, converted = part["label"].T
        given = {key: part[key] for key in part if key != "label"} | {"click": clicked, "conversion": converted}
        with contextlib.redirect_stderr(io.StringIO()):
            model.fit(given, epochs=1, batch_size=BATCH, use_tensorboard=False, metrics=["auc"])

    return fitted(name, columns, steps, fit)


def fit_rounds(world: World, folder: Path, rounds: int, nextrec: bool) -> Rounds:
    """Ours and every `fit` at a batch of 1024; few steps with the large tables, which take seconds."""
    contestants = [
        ours("ours", world, BATCH, 32),
        deepctr_esmm("deepctr-torch", world, ROWS, 2),
        deepctr_esmm("deepctr-torch 50k", world, SMALL, 16),
    ]
    if nextrec:
        contestants += [
            nextrec_esmm("nextrec", world, ROWS, 2, folder),
            nextrec_esmm("nextrec 50k", world, SMALL, 8, folder),
        ]
    torch.use_deterministic_algorithms(False)
    return run_rounds(contestants, rounds)
