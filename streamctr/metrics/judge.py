"""Score when served, judge when final: scores wait under their root's id and are judged in the bucket of root time.

Legend: N rows, K stages, S = K - 1 stages behind the root, H heads, F id features.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.hashing import MISSING_ID, U64
from streamctr.heads import heads
from streamctr.idmap import insert
from streamctr.metrics.config import MetricsConfig
from streamctr.metrics.figures import Figure, figures, sum_figures
from streamctr.metrics.groups import (
    FIRST_BUCKET,
    FROM,
    TOTAL,
    close_bucket,
    new_groups,
    open_buckets,
    with_more_buckets,
)
from streamctr.metrics.judging import Plan, Rows, judge_all
from streamctr.metrics.pending import SLICES, Seen, hold, lives, new_pending, with_room
from streamctr.names import Names
from streamctr.ports import Arrays
from streamctr.samples import ABSENT, FINAL, SampleBatch
from streamctr.schema import FeaturesConfig, Funnel

OTHER: Final = "other"
_FEW_BUCKETS: Final = 64
_NEVER: Final = np.iinfo(np.int64).max


class Judge:
    """Holds the scores of open roots and accumulates the figures of every head once labels are final."""

    def __init__(self, config: MetricsConfig, funnel: Funnel, features: FeaturesConfig, names: Names) -> None:
        for field in config.slices:
            if field not in features.ids:
                raise ConfigError(f'metrics.slices: "{field}" is no id feature; take one of {", ".join(features.ids)}')
        self._config, self._names = config, names
        self._heads = heads(funnel)
        self._span_ms, self._stages = funnel.span_ms(), len(funnel.stages) - 1
        on_path = [[place in head.path for place in range(1, len(funnel.stages))] for head in self._heads]
        self._plan = Plan(
            np.array([head.stage for head in self._heads], np.int64),
            np.array([FINAL | ABSENT if head.entire else FINAL for head in self._heads], np.uint8),
            np.array(on_path, np.bool_),
            config.bucket,
            _NEVER if config.from_ms is None else config.from_ms,
        )
        self._columns_F = np.array([features.ids.index(field) for field in config.slices], np.int64)
        self._forget()

    def _forget(self) -> None:
        fields = len(self._config.slices)
        n_buckets = min((self._span_ms + self._config.tick) // self._config.bucket + 2, _FEW_BUCKETS)
        self._pending = new_pending(1024, self._stages, fields)
        self._seen = Seen(self._columns_F, np.zeros((fields, SLICES), np.uint64), np.zeros(fields, np.int64))
        self._groups = new_groups(n_buckets, len(self._heads), fields)

    @property
    def tick_ms(self) -> int:
        """Event time between two calls of `tick`."""
        return self._config.tick

    def scored(self, rows: SampleBatch, logits_NS: NDArray[np.float32]) -> None:
        """Keep the conditional logits of stages 1.. for these arrived rows, until their labels are final."""
        self._pending = with_room(self._pending, len(rows))
        hold(self._pending, self._seen, _lives(rows), rows.ids_NF, logits_NS)

    def judge(self, rows: SampleBatch) -> None:
        """Judge what is final or absent in these rows; what is merely observed or late is passed over."""
        places = np.empty((2, len(rows)), np.int64)
        columns = Rows(_lives(rows), rows.says, rows.label, rows.at_ms, places[0], places[1])
        stopped = judge_all(self._pending, self._groups, self._plan, columns, 0)
        while stopped < len(rows):
            self._groups = with_more_buckets(self._groups, 1 + len(self._groups.free_G) // 4)
            stopped = judge_all(self._pending, self._groups, self._plan, columns, stopped)

    def tick(self, now_ms: int, steps: int, skipped: int) -> dict[str, Any]:
        """The line of metrics.jsonl at this event time; buckets that became final are written out and freed."""
        final = []
        for number, group in open_buckets(self._groups):
            start_ms = number * self._config.bucket
            if start_ms + self._config.bucket + self._span_ms <= now_ms:
                judged, slices = self._figures(group), self._slices(group)
                final.append({"bucket_ms": start_ms, "final": True, "judged": judged, "slices": slices})
                close_bucket(self._groups, number, group)
        return {
            "event_ms": now_ms,
            "steps": steps,
            "skipped_steps": skipped,
            "judged": self._figures(TOTAL),
            "judged_from": self._since(self._figures),
            "open_roots": int(self._pending.ids.n_keys[0]),
            "unscored": int(self._groups.unscored[0]),
            "buckets": final,
        }

    def summary(self) -> dict[str, Any]:
        """`judged` and `slices` over the whole run, and the same from `metrics.from` on (None where it is not set)."""
        return {
            "judged": self._figures(TOTAL),
            "judged_from": self._since(self._figures),
            "slices": self._slices(TOTAL),
            "slices_from": self._since(self._slices),
        }

    def _since(self, of: Callable[[int], dict[str, Any]]) -> dict[str, Any] | None:
        return None if self._config.from_ms is None else of(FROM)

    def _figures(self, group: int) -> dict[str, Figure]:
        sums_H, bins_H2B = self._groups.sums_GH[group], self._groups.bins_GH2B[group]
        return {head.name: figures(sums_H[place], bins_H2B[place]) for place, head in enumerate(self._heads)}

    def _slices(self, group: int) -> dict[str, dict[str, dict[str, Figure]]]:
        """Per field and value that was judged in the group, in the order in which values were seen; `other` last."""
        found: dict[str, dict[str, dict[str, Figure]]] = {}
        for field, name in enumerate(self._config.slices):
            sums_VH = self._groups.slices_GFVH[group, field]
            values = self._seen.values_FV[field, : self._seen.count_F[field]].tolist()
            texts = {place: self._text(name, value) for place, value in enumerate(values)}
            texts[SLICES] = OTHER
            found[name] = {
                text: {head.name: sum_figures(sums_VH[place, h]) for h, head in enumerate(self._heads)}
                for place, text in texts.items()
                if sums_VH[place].any()
            }
        return found

    def _text(self, field: str, value: int) -> str:
        text = self._names.text(field, value)
        taken = text == OTHER or (text == "missing" and value != MISSING_ID)
        return f"{text} #{value:016x}" if taken else text  # told from the rest, and from those without a value

    def bytes(self) -> int:
        """Memory of all arrays, room included."""
        parts: list[Any] = [
            *self._pending[1:],
            *self._pending.ids,
            *self._seen,
            *self._groups[1:],
            *self._groups.buckets,
        ]
        return sum(array.nbytes for array in parts)

    def state(self) -> Arrays:
        """Scores by root id, buckets by time, and what is not 0 of the curves: it depends on the rows alone."""
        ids, open_now = self._pending.ids, open_buckets(self._groups)
        taken = np.flatnonzero(ids.values >= 0)
        taken = taken[np.argsort(ids.keys[taken])]
        slots, groups = ids.values[taken], [TOTAL, FROM, *(group for _, group in open_now)]
        bins = self._groups.bins_GH2B[groups].reshape(-1)
        return {
            "pending.root": ids.keys[taken],
            "pending.logits": self._pending.logits_PS[slots],
            "pending.slices": self._pending.slices_PF[slots],
            "pending.done": self._pending.done_P[slots],
            "seen.values": self._seen.values_FV,
            "seen.count": self._seen.count_F,
            "groups.bucket": np.array([number for number, _ in open_now], np.int64),
            "groups.sums": self._groups.sums_GH[groups],
            "groups.slices": self._groups.slices_GFVH[groups],
            "groups.bins_at": np.flatnonzero(bins),
            "groups.bins": bins[bins != 0],
            "unscored": self._groups.unscored,
        }

    def restore(self, arrays: Arrays) -> None:
        """Become the judge that gave `arrays`."""
        self._forget()
        self._restore_pending(arrays)
        self._restore_groups(arrays)
        self._seen.values_FV[:], self._seen.count_F[:] = arrays["seen.values"], arrays["seen.count"]
        self._groups.unscored[:] = arrays["unscored"]

    def _restore_pending(self, arrays: Arrays) -> None:
        roots, n_roots = arrays["pending.root"], len(arrays["pending.root"])
        self._pending = with_room(self._pending, n_roots)
        no_slices = Seen(self._columns_F[:0], self._seen.values_FV, self._seen.count_F)
        hold(self._pending, no_slices, roots, np.zeros((n_roots, 0), np.uint64), arrays["pending.logits"])
        self._pending.slices_PF[:n_roots] = arrays["pending.slices"]  # nothing was held: slots are taken in order
        self._pending.done_P[:n_roots] = arrays["pending.done"]

    def _restore_groups(self, arrays: Arrays) -> None:
        numbers = arrays["groups.bucket"]
        self._groups = with_more_buckets(self._groups, max(0, len(numbers) - len(self._groups.free_G)))
        for place, number in enumerate(numbers):
            insert(self._groups.buckets, number.astype(np.uint64), FIRST_BUCKET + place)
        used = slice(0, FIRST_BUCKET + len(numbers))
        self._groups.sums_GH[used] = arrays["groups.sums"]
        self._groups.slices_GFVH[used] = arrays["groups.slices"]
        self._groups.bins_GH2B.reshape(-1)[arrays["groups.bins_at"]] = arrays["groups.bins"]


def _lives(rows: SampleBatch) -> U64:
    """Of each row, by what its root is known here, (N,)."""
    life_N = np.empty(len(rows), np.uint64)
    lives(rows.root, rows.at_ms[:, 0].view(np.uint64), life_N)
    return life_N
