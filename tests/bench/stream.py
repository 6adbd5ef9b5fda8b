"""A stream without end, made as it is read: nothing in it grows but what is asked to.

Roots come evenly in event time; every id field but the user draws from as many values, each as likely as the others,
which is the worst that caches can meet. Lines are of one length whatever the sizes. Legend: N roots.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from jobs.runfile import RunConfig, RunFile
from jobs.synthetic_data import _hex, _lines, _quoted
from streamctr.hashing import mix
from streamctr.ports import RawBlock
from streamctr.synthetic import ID_FIELDS, NUMBER_FIELDS

BLOCK: Final = 2_500
"""Roots of a block: about 1 MiB."""
START_MS: Final = 1_767_571_200_000
DELAY_MS: Final = 10_000
STAGES: Final = ("impression", "click", "conversion")
CLICKED: Final = {"of": "click", "take": ["item_id", "category"]}
_DIGITS: Final = 10_000_000
"""Ids begin here, so that all have as many digits."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What the stream is like."""

    values: int = 100_000
    """Distinct ids of all fields but the user."""
    users: int = 100
    window_ms: int = 10_000
    """How long a click is waited for; and then a conversion. They come within `DELAY_MS` if at all."""
    roots_per_s: int = 1_000
    click_rate: float = 0.06
    conversion_rate: float = 0.1

    def run(self, blocks: dict[str, Any], *, last: int = 10) -> RunConfig:
        """A run over it with a history of so many; `blocks` come in place of, or besides, those of its run file."""
        window = f"{self.window_ms}ms"
        document = {
            **{"files": "none.jsonl", "key": "id", "time": "time_ms", "user": "user_id", "lateness": "1s"},
            **{"remember": "10s", "metrics": {"bucket": "100s", "tick": "100s"}},
            "funnel": {"impression": {}, "click": {"observe": window}, "conversion": {"observe": window}},
            "features": {
                "id": list(ID_FIELDS),
                "number": dict.fromkeys(NUMBER_FIELDS, "none"),
                "history": {"clicked": CLICKED | {"last": last}} if last else {},
            },
            **blocks,
        }
        return RunFile.parse(orjson.dumps(document).decode(), "stream.yaml").config


class Stream:
    """The source of such a stream: a partition a stage, block by block of the same stretch of event time."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._made = 0
        self._blocks: list[deque[bytes]] = [deque(), deque(), deque()]
        self._waiting = [(np.zeros(0, np.uint64), np.zeros(0, np.int64)) for _ in STAGES[1:]]

    @property
    def partitions(self) -> int:
        """One a stage."""
        return len(STAGES)

    def poll(self, partition: int) -> RawBlock:
        """The next block of a stage."""
        if not self._blocks[partition]:
            self._make()
        return RawBlock(partition, partition, STAGES[partition], 1, self._blocks[partition].popleft(), False, False)

    def positions(self) -> str:
        """How many roots were made."""
        return str(self._made)

    def seek(self, positions: str) -> None:
        """It is read once.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to give back."""

    def _make(self) -> None:
        config = self._config
        rng = np.random.default_rng(self._made)
        place = self._made + np.arange(BLOCK)
        self._made += BLOCK
        root = mix(place.astype(np.uint64))
        at_ms = START_MS + place * 1000 // config.roots_per_s
        self._blocks[0].append(_text(root, at_ms, self._features(rng)))
        until_ms = START_MS + self._made * 1000 // config.roots_per_s
        for stage, rate in enumerate((config.click_rate, config.conversion_rate)):
            happens = rng.random(len(root)) < rate
            root = root[happens]
            at_ms = at_ms[happens] + rng.integers(1, min(DELAY_MS, config.window_ms), len(root))
            waiting = (np.concatenate(both) for both in zip(self._waiting[stage], (root, at_ms), strict=True))
            roots, times = waiting
            order = np.argsort(times, kind="stable")
            due = int(np.searchsorted(times[order], until_ms))
            self._blocks[1 + stage].append(_text(roots[order[:due]], times[order[:due]], {}))
            self._waiting[stage] = roots[order[due:]], times[order[due:]]

    def _features(self, rng: np.random.Generator) -> dict[str, Any]:
        values = max(1, self._config.values // (len(ID_FIELDS) - 1))
        columns: dict[str, Any] = {"user_id": _DIGITS + rng.integers(self._config.users, size=BLOCK)}
        for name in ID_FIELDS[1:]:
            columns[name] = _DIGITS + rng.integers(values, size=BLOCK)
        for name in NUMBER_FIELDS:
            columns[name] = rng.integers(1000, 9999, size=BLOCK) / 1000
        return columns


def _text(root: Any, at_ms: Any, columns: dict[str, Any]) -> bytes:
    """Lines of events."""
    if not len(root):
        return b""
    arrays = {name: pa.array(column) for name, column in columns.items()}
    lines: bytes = _lines({"id": _quoted(_hex(root)), "time_ms": pa.array(at_ms), **arrays}).to_pybytes()
    return lines
