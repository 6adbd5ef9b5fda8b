"""A model with its tables, moments and optimiser: what scores and what learns, batch by batch.

Legend: B rows, N rows of any number, S stages behind the root.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr import feedback
from streamctr.cores import use_cores
from streamctr.errors import ConfigError
from streamctr.heads import heads
from streamctr.kernel import keep_memory
from streamctr.layers import HAS_BF16, HAS_FP32, SumsGradients, Towers
from streamctr.layers.dense import ROWS
from streamctr.layers.tape import Tape, UnnotedError
from streamctr.models import InputShape, Targets, build
from streamctr.ports import Arrays
from streamctr.samples import SampleBatch
from streamctr.schema import Funnel
from streamctr.tables import FusedTable
from streamctr.training.config import Recipe, TrainingConfig
from streamctr.training.inputs import Inputs, Looked
from streamctr.training.optimizer import DenseOptimizer


class Learner:
    """Scores and learns batches of samples; what it gives is a function of the batches and the recipe alone.

    Sets, for the process, torch's deterministic algorithms, that its products run in the thread that asks for them, how
    many cores loops over parts may have, and that freed memory is kept.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Build the model, its tables and its optimiser.

        Raises:
            ConfigError: model, funnel, features, tables or base rates do not fit one another.
        """
        torch.use_deterministic_algorithms(True)
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False  # nothing reads what was not written
        torch.set_num_threads(1)  # a batch is shared out in parts, not product by product
        keep_memory()
        use_cores(recipe.training.threads)
        training, features = recipe.training, recipe.features
        feedback.check(training.delayed_feedback, recipe.funnel)
        _check_precision(training.precision)
        recipe.model.check(features)
        width, init_std = recipe.model.rows(recipe.funnel, recipe.tables.width, recipe.tables.init_std)
        shape = InputShape.of(features, width)
        generator = torch.Generator().manual_seed(training.seed)
        self._training, self._share_of_a_row = training, torch.tensor(1.0 / training.batch)
        self.block = training.batch
        """Rows that are scored at once."""
        self.model = build(recipe.model, shape, start_logits(recipe.funnel, training.base_rate), generator)
        self.table = FusedTable(recipe.tables, features.tables, width, init_std, training.seed)
        self.table.share_out(training.threads)
        self._inputs = Inputs(features, shape, self.table, padded(training.batch))
        self.moments = self._inputs.moments
        self._parameters = dict(self.model.named_parameters())
        self._optimizer = DenseOptimizer(training, self._parameters)
        self._asked, layers = self._share_gradients(training)
        self._noted = HAS_FP32 and len(self._asked) == layers
        """Whether nothing but layers with a backward of their own learns, as far as is known."""

    def _share_gradients(self, training: TrainingConfig) -> tuple[dict[str, torch.Tensor], int]:
        """Let layers that can, add their gradients to the optimiser's; what autograd is asked of; how many can."""
        asked: dict[str, torch.Tensor] = {**self._parameters}
        layers = 0
        for name, module in self.model.named_modules():
            if isinstance(module, Towers):
                module.bf16 = training.precision == "bf16"
            if isinstance(module, SumsGradients) and HAS_FP32:
                names = [f"{name}.{parameter}".removeprefix(".") for parameter, _ in module.named_parameters()]
                optimizer = self._optimizer
                module.sums_into(optimizer.grads_QN, optimizer.largest_Q16, optimizer.places[names[0]].start)
                layers += 1
                for other in names[1:]:
                    del asked[other]
        return asked, layers

    def score(self, rows: SampleBatch) -> NDArray[np.float32]:
        """Conditional logits (N, S) with the weights of this moment; changes nothing.

        Zero-padded: a product over another number of rows gives other last bits.
        """
        logits_NS = np.empty((len(rows), rows.says.shape[1] - 1), np.float32)
        with torch.no_grad():
            for start in range(0, len(rows), self.block):
                block = rows if len(rows) <= self.block else rows.take(slice(start, start + self.block))
                x = self._inputs.look(block, pad_to=padded(len(block))).x
                logits_NS[start : start + len(block)] = self.model(x).numpy()[: len(block)]
        return logits_NS

    def learn(self, rows: SampleBatch) -> bool:
        """One step on rows that train; the loss is divided by the nominal batch, however many rows there are.

        Returns:
            Whether the loss and all gradients were finite; where not, nothing was changed.
        """
        looked, optimizer = self._inputs.look(rows), self._optimizer
        targets = feedback.targets(self._training.delayed_feedback, rows.says, rows.label, rows.weight)
        loss, of_leaves = self._gradients(looked, targets)
        if not (math.isfinite(loss.item()) and optimizer.finite()):
            optimizer.drop()
            return False
        self.table.admit([places for places, _, _ in looked.places])
        if not self.table.update(looked.gradients(of_leaves)):
            optimizer.drop()
            return False
        optimizer.step()
        return True

    def _gradients(self, looked: Looked, targets: Targets) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """The loss, and the gradients of the leaves; those of the parameters go to the optimiser."""
        if self._noted:
            tape = Tape(looked.leaves, [looked.x.dense_BM])
            try:
                with torch.no_grad(), tape:
                    loss = self.model.loss(self.model(looked.x), targets)
                return loss, tape.gradients(loss, self._share_of_a_row)
            except UnnotedError:
                self._noted = False
        loss = self.model.loss(self.model(looked.x), targets)
        asked = [*self._asked.values(), *looked.leaves]
        grads = torch.autograd.grad(loss, asked, self._share_of_a_row, allow_unused=True)
        for name, grad in zip(self._asked, grads, strict=False):
            if grad is not None:
                self._optimizer.add(name, grad.numpy())
        return loss, grads[len(self._asked) :]

    def weights_sha256(self) -> str:
        """Hex digest of all parameters, learned table rows by their places, and moments."""
        digest = hashlib.sha256()
        state = {name: array for name, array in self.state().items() if name.split(".")[0] in _WEIGHTS}
        del state["table.accumulator"]
        order = np.argsort(state["table.rows"])  # in whatever order they were first learned
        state |= {name: state[name][order] for name in ("table.rows", "table.weights")}
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

    def adopt(self, arrays: Arrays) -> None:
        """Start from what another run's learner gave as its `state`, of the same features, tables and model.

        Shapes are compared, not names of features: that the two runs mean the same by a column is for the caller.

        Raises:
            ConfigError: a part is missing, unknown or of another shape; nothing was changed.
        """
        wanted = {name: array.shape for name, array in self.state().items()}
        learned = len(arrays["table.rows"]) if "table.rows" in arrays else 0
        wanted |= {f"table.{name}": (learned,) for name in ("rows", "accumulator")}
        wanted["table.weights"] = (learned, self.table.width)
        for name in dict.fromkeys([*wanted, *arrays]):
            there, here = (arrays[name].shape if name in arrays else "absent"), wanted.get(name, "absent")
            if there != here:
                raise ConfigError(_unfit(name, f"{there}", f"{here}"))
        if learned and arrays["table.rows"].max() >= self.table.places:
            raise ConfigError(_unfit("table.rows", f"up to {arrays['table.rows'].max()}", f"{self.table.places} rows"))
        self.restore(arrays)


_WEIGHTS = frozenset({"model", "table", "moments"})


def _unfit(name: str, there: str, here: str) -> str:
    return (
        f"a learner to start from does not fit this run: {name} is {there} there and {here} here; "
        "give both runs the same features, tables, model and training.optimizer, or start without it"
    )


def _check_precision(precision: str) -> None:
    """Refuse bf16 where the CPU would only act as if it had it.

    Raises:
        ConfigError: it has not.
    """
    if precision == "bf16" and not (HAS_BF16 and torch.cpu._is_avx512_bf16_supported()):
        raise ConfigError("training.precision: this CPU multiplies no bf16 numbers (avx512_bf16); set fp32")


def padded(rows: int) -> int:
    """So many rows or more, a multiple of what is multiplied at a time."""
    return -(-rows // ROWS) * ROWS


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
