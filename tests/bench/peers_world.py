"""The samples that all learn from: 16 ids, 8 numbers, a history of up to 50, clicks and conversions.

Ids are Zipf over 10 to 1e6 values a field, in 16 tables of 2^18 rows: 2^22 rows in all. Ours is given hashed ids, which
it looks up within its step; peers are given tensors made beforehand, with ids as rows. Labels follow from the ids and
numbers (about 5 % clicked, 8 % of those converted), so that an AUC means something.
Legend: N samples, F ids, M numbers, T steps, C columns of a history.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.demo import RUN_FILE
from jobs.rundir import load_run
from streamctr.hashing import mix
from streamctr.samples import ABSENT, FINAL, OBSERVED, History, SampleBatch
from streamctr.training import Recipe
from tests.bench.peers_rounds import THREADS

FIELDS: Final = 16
NUMBERS: Final = 8
STEPS: Final = 50
TAKEN: Final = (1, 8)
"""Places of the fields that a behaviour consists of: item_id and category."""
WIDTH: Final = 16
TOWERS: Final = (256, 128)
ROWS: Final = 2**18
"""Of each of the 16 tables: 2^22 in all."""
INPUTS: Final = FIELDS * WIDTH + 2 * NUMBERS
"""What a tower reads: ids, numbers, flags of missing ones."""
VALUES: Final = np.geomspace(1e6, 10, FIELDS).astype(np.int64)
ZIPF: Final = 1.05
CLICK_RATE: Final = 0.05
CONVERSION_RATE: Final = 0.08
_SALT: Final = np.arange(1, FIELDS + 1, dtype=np.uint64) << np.uint64(40)


@dataclass(frozen=True, slots=True)
class World:
    """Columns of samples; `history_NTC` are the hashed ids of behaviours, oldest first, zeros behind `length_N`."""

    ids_NF: NDArray[np.uint64]
    numbers_NM: NDArray[np.float32]
    history_NTC: NDArray[np.uint64]
    length_N: NDArray[np.int32]
    clicked_N: NDArray[np.bool_]
    converted_N: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids_NF)

    def rows(self, size: int = ROWS) -> NDArray[np.int64]:
        """Ids as rows (N, F) of tables of one size; the same value is the same row."""
        return (mix(self.ids_NF) % np.uint64(size)).astype(np.int64)

    def history_rows(self, size: int = ROWS) -> NDArray[np.int64]:
        """Behaviours as rows (N, T, C)."""
        return (mix(self.history_NTC) % np.uint64(size)).astype(np.int64)

    @property
    def dense(self) -> NDArray[np.float32]:
        """Numbers and flags of missing ones (none is), as a tower reads them (N, 2 M)."""
        return np.concatenate([self.numbers_NM, np.zeros_like(self.numbers_NM)], axis=1)

    @property
    def labels(self) -> NDArray[np.float32]:
        """Clicked, and clicked and converted (N, 2)."""
        return np.stack([self.clicked_N, self.converted_N], axis=1).astype(np.float32)

    def samples(self, history: bool) -> SampleBatch:
        """The same as rows of the emission log, every label said at once."""
        n = len(self)
        says = np.zeros((n, 3), np.uint8)
        says[:, 1] = OBSERVED | FINAL
        says[:, 2] = np.where(self.clicked_N, OBSERVED | FINAL, ABSENT | FINAL)
        label = np.zeros((n, 3), np.uint8)
        label[:, 1], label[:, 2] = self.clicked_N, self.converted_N
        return SampleBatch(
            ordinal=np.arange(n),
            emit_ms=np.zeros(n, np.int64),
            root=np.arange(n).astype(np.uint64),
            says=says,
            label=label,
            at_ms=np.zeros((n, 3), np.int64),
            ids_NF=self.ids_NF,
            numbers_NM=self.numbers_NM,
            value_NV=np.zeros((n, 0)),
            weight=np.ones(n, np.float32),
            histories=(History.of_padded(self.history_NTC, self.length_N),) if history else (),
        )


def make_world(count: int, histories: bool = False) -> World:
    """So many samples, always the same; without `histories` they have none."""
    generator = np.random.default_rng(0)
    ranks_NF = _zipf(generator.random((count, FIELDS)), VALUES)
    ids_NF = mix(ranks_NF.astype(np.uint64) ^ _SALT)
    numbers_NM = generator.standard_normal((count, NUMBERS)).astype(np.float32)
    length_N = generator.integers(0, STEPS + 1, count if histories else 0).astype(np.int32)
    history_NTC = _behaviours(generator, length_N)
    clicked_N = _happened(generator, ids_NF, numbers_NM, CLICK_RATE)
    converted_N = clicked_N & _happened(generator, mix(ids_NF), numbers_NM[:, ::-1], CONVERSION_RATE)
    return World(ids_NF, numbers_NM, history_NTC, length_N, clicked_N, converted_N)


def make_recipe(batch: int, model: str = "esmm", *settings: str) -> Recipe:
    """The run file of the synthetic world, of which this one has the fields, with the sizes above."""
    sizes = [f"model={model}", f"tables.rows={ROWS}", f"tables.width={WIDTH}", f"training.batch={batch}"]
    config = load_run(RUN_FILE, [*sizes, f"training.threads={THREADS}", *settings]).config
    return Recipe(config.model, config.tables, config.training, config.features, config.tree)


def slices(count: int, batch: int) -> list[slice]:
    """Places of all full batches."""
    return [slice(start, start + batch) for start in range(0, count - batch + 1, batch)]


def _zipf(uniform_NX: NDArray[np.float64], values_X: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks from 1 on whose frequency falls with rank^-ZIPF, by the inverse of the continuous law."""
    power = 1.0 - ZIPF
    return ((1.0 + uniform_NX * ((values_X + 1.0) ** power - 1.0)) ** (1.0 / power)).astype(np.int64)


def _behaviours(generator: np.random.Generator, length_N: NDArray[np.int32]) -> NDArray[np.uint64]:
    taken = np.array(TAKEN)
    ranks_NTC = _zipf(generator.random((len(length_N), STEPS, len(TAKEN))), VALUES[taken])
    ids_NTC = mix(ranks_NTC.astype(np.uint64) ^ _SALT[taken])
    ids_NTC[np.arange(STEPS) >= length_N[:, None]] = 0
    return ids_NTC


def _happened(
    generator: np.random.Generator, ids_NF: NDArray[np.uint64], numbers_NM: NDArray[np.float32], rate: float
) -> NDArray[np.bool_]:
    """Drawn with a logit that every id and number moves a little, at about this rate."""
    parts_NF = (mix(ids_NF ^ np.uint64(7)) >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5
    logit_N = 0.9 * parts_NF.sum(axis=1) + 0.2 * numbers_NM.sum(axis=1)
    logit_N += np.log(rate / (1 - rate)) - 0.3 * logit_N.var()
    return np.asarray(generator.random(len(ids_NF)) < 1.0 / (1.0 + np.exp(-logit_N)))
