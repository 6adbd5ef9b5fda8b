"""The loops of judging: first where each row's score and bucket are, then head by head in the order of the rows.

Legend: N rows, K stages, S = K - 1 stages behind the root, H heads, F sliced fields.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import U64
from streamctr.idmap import find
from streamctr.kernel import kernel
from streamctr.metrics.figures import NLL, POSITIVES, ROWS, P, bin_of, nll_and_p
from streamctr.metrics.groups import FROM, TOTAL, Groups, bucket_group
from streamctr.metrics.pending import Pending, release
from streamctr.samples import ABSENT, FINAL


class Plan(NamedTuple):
    """What is judged when."""

    stage_H: NDArray[np.int64]
    bits_H: NDArray[np.uint8]
    """The head is judged where one of these is said of its stage."""
    on_path_HS: NDArray[np.bool_]
    """The stages whose conditional logits make the head's."""
    bucket_ms: int
    from_ms: int


class Rows(NamedTuple):
    """The columns of `SampleBatch` that judging reads, and what `place` finds for them."""

    root_N: U64
    says_NK: NDArray[np.uint8]
    label_NK: NDArray[np.uint8]
    at_ms_NK: NDArray[np.int64]
    slot_N: NDArray[np.int64]
    """The slot of the row's score, -1 where there is nothing to judge."""
    group_N: NDArray[np.int64]
    """The group of the row's bucket."""


@kernel
def _spoken(says_NK: NDArray[np.uint8], row: int) -> int:
    """Bit s - 1: the row says of stage s that it is final or absent."""
    bits = 0
    for stage in range(1, says_NK.shape[1]):
        if says_NK[row, stage] & (FINAL | ABSENT) != 0:
            bits |= 1 << (stage - 1)
    return bits


@kernel
def place(pending: Pending, groups: Groups, plan: Plan, rows: Rows, start: int) -> int:
    """Find scores and buckets of rows from `start` on; where it stopped: the end, or a row without room for its bucket.

    Roots that have nothing more to hear are released here; their slots are not used again before the next `hold`.
    """
    everything = (1 << (rows.says_NK.shape[1] - 1)) - 1
    for row in range(start, len(rows.root_N)):
        rows.slot_N[row] = -1
        spoken = _spoken(rows.says_NK, row)
        if spoken == 0:
            continue
        slot = find(pending.ids, rows.root_N[row])
        if slot < 0:
            groups.unscored[0] += 1
            continue
        group = bucket_group(groups.buckets, groups.free_G, rows.at_ms_NK[row, 0] // plan.bucket_ms)
        if group < 0:
            return row
        pending.done_P[slot] |= spoken
        if pending.done_P[slot] == everything:
            release(pending.ids, pending.free_P, rows.root_N[row], slot)
        if math.isfinite(pending.logits_PS[slot].sum()):
            rows.slot_N[row], rows.group_N[row] = slot, group
        else:
            groups.unscored[0] += 1
    return len(rows.root_N)


@kernel
def _combined(logits_S: NDArray[np.float32], on_path_S: NDArray[np.bool_]) -> float:
    """logit(p_a p_b) = -logsumexp(-a, -b, -a-b), along the path in float64."""
    total = math.inf
    for stage in range(len(logits_S)):
        if not on_path_S[stage]:
            continue
        other = float(logits_S[stage])
        if total == math.inf:
            total = other
            continue
        top = max(-total, -other, -total - other)
        parts = math.exp(-total - top) + math.exp(-other - top) + math.exp(-total - other - top)
        total = -top - math.log(parts)
    return total


@kernel
def judge_head(pending: Pending, groups: Groups, plan: Plan, rows: Rows, head: int) -> None:
    """Add the rows that say something final of a head's stage: to the run, their bucket and what is judged apart."""
    stage, bits = plan.stage_H[head], plan.bits_H[head]
    for row in range(len(rows.root_N)):
        slot = rows.slot_N[row]
        if slot < 0 or rows.says_NK[row, stage] & bits == 0:
            continue
        logit, label = _combined(pending.logits_PS[slot], plan.on_path_HS[head]), int(rows.label_NK[row, stage])
        nll, p = nll_and_p(logit, label)
        bin_place = bin_of(logit)
        apart = FROM if rows.at_ms_NK[row, 0] >= plan.from_ms else -1
        for group in (TOTAL, rows.group_N[row], apart):
            if group < 0:
                continue
            groups.bins_GH2B[group, head, label, bin_place] += 1
            groups.sums_GH[group, head, ROWS] += 1
            groups.sums_GH[group, head, POSITIVES] += label
            groups.sums_GH[group, head, NLL] += nll
            groups.sums_GH[group, head, P] += p
            for field in range(pending.slices_PF.shape[1]):
                value = pending.slices_PF[slot, field]
                groups.slices_GFVH[group, field, value, head, ROWS] += 1
                groups.slices_GFVH[group, field, value, head, POSITIVES] += label
                groups.slices_GFVH[group, field, value, head, NLL] += nll
                groups.slices_GFVH[group, field, value, head, P] += p


@kernel
def judge_all(pending: Pending, groups: Groups, plan: Plan, rows: Rows, start: int) -> int:
    """`place` from `start` on and, if it came to the end, judge every head; where it stopped."""
    stopped = place(pending, groups, plan, rows, start)
    if stopped == len(rows.root_N):
        for head in range(len(plan.stage_H)):
            judge_head(pending, groups, plan, rows, head)
    return stopped
