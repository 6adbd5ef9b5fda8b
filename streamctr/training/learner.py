"""A model with its tables, moments and optimiser: what scores and what learns, batch by batch.

Legend: B rows, N rows of any number, S stages behind the root, F ids, M numbers, T steps, C columns, W width.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr import feedback
from streamctr.errors import ConfigError
from streamctr.heads import heads
from streamctr.models import InputShape, ModelInput, SequenceInput, build
from streamctr.ports import Arrays
from streamctr.samples import SampleBatch
from streamctr.schema import FeaturesConfig, Funnel
from streamctr.tables import FusedTable
from streamctr.training.config import Recipe
from streamctr.training.moments import Moments, defaults
from streamctr.training.optimizer import DenseOptimizer, finite

Looked = tuple[ModelInput, list[torch.Tensor], list[NDArray[np.int64]]]
"""A model's input, its table numbers as leaves, and the table rows (N, T, C) that they came from."""


class Learner:
    """Scores and learns batches of samples; what it gives is a function of the batches and the recipe alone.

    Sets torch's deterministic algorithms, and its number of threads where the recipe has one.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Build the model, its tables and its optimiser.

        Raises:
            ConfigError: model, funnel, features, tables or base rates do not fit one another.
        """
        torch.use_deterministic_algorithms(True)
        training, features = recipe.training, recipe.features
        if training.threads is not None:
            torch.set_num_threads(training.threads)
        feedback.check(training.delayed_feedback, recipe.funnel)
        width, init_std = recipe.model.rows(recipe.funnel, recipe.tables.width, recipe.tables.init_std)
        taken = _taken(features)
        histories = tuple((h.last, len(h.take)) for h in features.history.values())
        shape = InputShape(len(features.ids), len(features.numbers), width, histories)
        generator = torch.Generator().manual_seed(training.seed)
        self._columns = [np.arange(len(features.ids)), *taken]
        self._training = training
        self.block = min(256, training.batch)
        """Rows that are scored at once: a GEMM over another number of rows gives other last bits."""
        self.model = build(recipe.model, shape, start_logits(recipe.funnel, training.base_rate), generator)
        self.table = FusedTable(recipe.tables, features.ids, width, init_std, training.seed)
        self.moments = Moments(defaults(features))
        inner = [(len(features.ids),), *histories]
        self._buffers = [torch.zeros(max(self.block, training.batch), *sizes, width) for sizes in inner]
        self._parameters = dict(self.model.named_parameters())
        self._optimizer = DenseOptimizer(training, self._parameters)

    def score(self, rows: SampleBatch) -> NDArray[np.float32]:
        """Conditional logits (N, S) with the weights of this moment, in zero-padded blocks; changes nothing."""
        stages = rows.says.shape[1] - 1
        logits_NS = np.empty((len(rows), stages), np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), self.block):
                block = rows.take(slice(start, start + self.block))
                x, _, _ = self._look_up(block, pad_to=self.block)
                logits_NS[start : start + len(block)] = self.model(x).numpy()[: len(block)]
        return logits_NS

    def learn(self, rows: SampleBatch) -> bool:
        """One step on rows that train; the loss is divided by the nominal batch, however many rows there are.

        Returns:
            Whether the loss and all gradients were finite; where not, nothing was changed.
        """
        x, leaves, places = self._look_up(rows)
        for leaf in leaves:
            leaf.requires_grad_(True)
        targets = feedback.targets(self._training.delayed_feedback, rows.says, rows.label, rows.weight)
        loss = self.model.loss(self.model(x), targets) / self._training.batch
        parameters = list(self._parameters.values())
        grads = torch.autograd.grad(loss, [*parameters, *leaves])
        dense, looked = grads[: len(parameters)], grads[len(parameters) :]
        table_grads = [
            grad.numpy().reshape(*place.shape, self.table.width) if grad.ndim < 4 else grad.numpy()
            for grad, place in zip(looked, places, strict=True)
        ]
        row_gradients = self.table.sum_gradients(places, table_grads)
        if not (row_gradients.finite and math.isfinite(loss.item()) and finite(dense)):
            return False
        self._optimizer.step(dense)
        self.table.update(row_gradients)
        return True

    def _look_up(self, rows: SampleBatch, pad_to: int = 0) -> Looked:
        """A batch as a model sees it, in torch's own memory, zero-padded to `pad_to` rows."""
        size = max(len(rows), pad_to)
        numbers_BM, missing_BM = (_padded(part, size) for part in self.moments.standardise(rows.numbers_NM))
        numbers, places = [], []
        parts = [(rows.ids_NF, None), *((history.ids_NTC, history.length) for history in rows.histories)]
        for (ids, length), columns, buffer in zip(parts, self._columns, self._buffers, strict=True):
            places.append(self.table.rows(ids, columns, length))
            numbers.append(buffer[:size].detach())
            self.table.gather(places[-1], numbers[-1])
        histories = []
        for history, values_BTCW in zip(rows.histories, numbers[1:], strict=True):
            mask_NT = np.arange(history.ids_NTC.shape[1]) < history.length[:, None]
            histories.append(SequenceInput(values_BTCW, _padded(mask_NT, size)))
        return ModelInput(numbers[0], numbers_BM, missing_BM, tuple(histories)), numbers, places

    def weights_sha256(self) -> str:
        """Hex digest of all parameters, learned table rows with their places, and moments."""
        digest = hashlib.sha256()
        state = {name: array for name, array in self.state().items() if name.split(".")[0] in _WEIGHTS}
        del state["table.accumulator"]
        for name in sorted(state):
            array = np.ascontiguousarray(state[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def state(self) -> Arrays:
        """Parameters, table rows, moments and optimiser."""
        arrays = {f"model.{name}": parameter.detach().numpy() for name, parameter in self._parameters.items()}
        for part, stateful in (("table", self.table), ("moments", self.moments), ("optimizer", self._optimizer)):
            arrays |= {f"{part}.{name}": array for name, array in stateful.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        for name, parameter in self._parameters.items():
            parameter.detach().numpy()[...] = arrays[f"model.{name}"]
        for part, stateful in (("table", self.table), ("moments", self.moments), ("optimizer", self._optimizer)):
            stateful.restore({n[len(part) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{part}.")})


_WEIGHTS = frozenset({"model", "table", "moments"})


def start_logits(funnel: Funnel, base_rate: Mapping[str, float]) -> torch.Tensor:
    """Logit of each conditional head's base rate, (S,); .5 where nothing is said.

    Raises:
        ConfigError: `base_rate` names something else than a conditional head.
    """
    names = [head.name for head in heads(funnel) if len(head.path) == 1]
    for name in base_rate:
        if name not in names:
            raise ConfigError(f'training.base_rate: "{name}" is not a head with a bias of its own; these are {names}')
    rates = np.array([base_rate.get(name, 0.5) for name in names])
    return torch.tensor(np.log(rates) - np.log1p(-rates), dtype=torch.float32)


def _taken(features: FeaturesConfig) -> list[NDArray[np.int64]]:
    """Places of the ids that each history takes.

    Raises:
        ConfigError: a history takes what is no id feature.
    """
    for name, history in features.history.items():
        for field in history.take:
            if field not in features.ids:
                raise ConfigError(
                    f'features.history.{name}.take: "{field}" is not an id feature; the id features are {features.ids}'
                )
    return [np.array([features.ids.index(f) for f in h.take], np.int64) for h in features.history.values()]


def _padded(values_NX: NDArray[np.float32] | NDArray[np.bool_], size: int) -> torch.Tensor:
    """A copy in torch's own (aligned) memory with zero rows behind: views change the last bits of a GEMM."""
    padded = torch.zeros((size, values_NX.shape[1]), dtype=torch.float32)
    padded.numpy()[: len(values_NX)] = values_NX
    return padded
