"""Scores of raw root events by what a snapshot holds: the same decoding, encoding and model as in the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from jobs.runfile import RunConfig
from jobs.wiring import decoder, encoder, recipe
from streamctr.errors import DataError
from streamctr.events import EventBatch
from streamctr.features import Encoder
from streamctr.heads import heads
from streamctr.names import Names
from streamctr.ports import Arrays, RawBlock
from streamctr.samples import SampleBatch
from streamctr.schema import Funnel
from streamctr.training import Learner

_ENCODER = "encoder/"
_LEARNER = "trainer/learner/"


class Scorer:
    """Scores root events with the weights and histories of a snapshot; nothing that is scored changes them.

    Args:
        config: of the run.
        arrays: of the snapshot.

    Raises:
        ConfigError: the snapshot is of a run with other features, or another model.
    """

    def __init__(self, config: RunConfig, arrays: Arrays) -> None:
        self._config, self._names = config, Names(())
        self._encoder: Encoder = encoder(config, self._names)
        self._encoder.restore(_part(arrays, _ENCODER))
        self._learner = Learner(recipe(config))
        self._learner.restore(_part(arrays, _LEARNER))

    def score(self, messages: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Probabilities (N, heads) of messages of the root stage, given as mappings.

        Raises:
            DataError: a message is malformed.
        """
        return self.probabilities(self._encoder.encode_roots(self._decode(messages)))

    def probabilities(self, roots: SampleBatch) -> NDArray[np.float64]:
        """Probabilities (N, heads) of encoded roots."""
        return probabilities(self._learner.score(roots), self._config.tree)

    def _decode(self, messages: Sequence[Mapping[str, Any]]) -> EventBatch:
        lines = [_line(place, message) for place, message in enumerate(messages, start=1)]
        stage = 0 if self._config.stage is None else -1
        block = RawBlock(0, stage, "events", 1, b"\n".join(lines), False, False)
        decoded = decoder(self._config, self._names).decode(block)
        if decoded.letters:
            letter = decoded.letters[0]
            raise DataError(f"event {letter['line']} cannot be scored: {letter['reason']}")
        roots = set(decoded.lines[decoded.events.stage == 0].tolist())
        for place in range(1, len(messages) + 1):
            if place not in roots:
                raise DataError(f"event {place} is no {self._config.tree.names[0]}: only roots are scored")
        return decoded.events


def _line(place: int, message: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise DataError(f"event {place} cannot be scored: {error}; give texts, numbers, lists and mappings") from None


def probabilities(logits_NS: NDArray[np.float32], funnel: Funnel) -> NDArray[np.float64]:
    """Probabilities (N, heads) of conditional logits: along a head's path, the product of the conditional ones."""
    given_NS = 1.0 / (1.0 + np.exp(-logits_NS.astype(np.float64)))
    return np.stack([given_NS[:, [place - 1 for place in head.path]].prod(axis=1) for head in heads(funnel)], axis=1)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
