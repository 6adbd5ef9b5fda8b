import math
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streamctr.errors import ConfigError
from streamctr.hashing import combine
from streamctr.metrics import Judge, MetricsConfig
from streamctr.metrics.pending import lives
from streamctr.names import Names
from streamctr.samples import ABSENT, FINAL, LATE, NEVER_MS, OBSERVED, SampleBatch
from streamctr.schema import FeaturesConfig, Funnel, StageConfig
from streamctr.testing import check_stateful

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
CHAIN = Funnel.from_mapping({"view": None, "click": StageConfig(observe="10s"), "buy": StageConfig(observe="30s")})
FEATURES = FeaturesConfig(id=("user", "tab"))
MINUTE = 60_000
UNCLICKED = {1: (OBSERVED | FINAL, 0), 2: (ABSENT, 0)}
CLICKED = {1: (OBSERVED | FINAL, 1)}


def batch(rows, stages=3):
    """Rows as (root, root time, {stage: (says, label)}, ids of user and tab)."""
    n = len(rows)
    says, label = np.zeros((n, stages), np.uint8), np.zeros((n, stages), np.uint8)
    at_ms, ids = np.full((n, stages), NEVER_MS), np.zeros((n, 2), np.uint64)
    for place, (_, time_ms, said, values) in enumerate(rows):
        at_ms[place, 0], ids[place] = time_ms, values
        for stage, (bits, y) in said.items():
            says[place, stage], label[place, stage] = bits, y
    root = np.array([row[0] for row in rows], np.uint64)
    numbers = np.zeros((n, 0), np.float32)
    return SampleBatch(
        np.arange(n),
        at_ms[:, 0].copy(),
        root,
        says,
        label,
        at_ms,
        ids,
        numbers,
        np.zeros((n, 0)),
        np.ones(n, np.float32),
        (),
    )


def arrived(*roots, at=0, tab=0):
    return batch([(root, at, {}, (0, tab)) for root in roots])


def said(root, what, at=0):
    return batch([(root, at, what, (0, 0))])


def judge(funnel=CHAIN, **config):
    config = MetricsConfig.model_validate({"bucket": "1m", **config})
    return Judge(config, funnel, FEATURES, Names(config.slices))


def logits(*rows):
    return np.array(rows, np.float32)


def rows_of(judge):
    return [figure["rows"] for figure in judge.summary()["judged"].values()]


def test_each_head_is_judged_by_what_is_final_for_it():
    held = judge()
    held.scored(arrived(1, 2), logits((0, 0), (0, 0)))
    assert list(held.summary()["judged"]) == ["click", "buy|click", "click&buy"]
    held.judge(said(1, UNCLICKED))  # the absent buy is masked in the conditional head
    assert rows_of(held) == [1, 0, 1]
    held.judge(said(2, CLICKED))
    assert rows_of(held) == [2, 0, 1]
    held.judge(said(2, {2: (OBSERVED, 0)}))
    held.judge(said(2, {2: (LATE, 1)}))
    assert rows_of(held) == [2, 0, 1]
    held.judge(said(2, {2: (FINAL, 1)}))
    assert rows_of(held) == [2, 1, 2]
    assert held.tick(0, 0, 0)["open_roots"] == 0


def test_the_entire_space_probability_is_the_product_along_the_path():
    held = judge()
    held.scored(arrived(1), logits((math.log(3), 0)))  # 3/4 x 1/2 = 3/8
    held.judge(said(1, {1: (FINAL, 1)}))
    held.judge(said(1, {2: (FINAL, 0)}))
    judged = held.summary()["judged"]
    assert judged["click"]["nll"] == pytest.approx(math.log(4 / 3), abs=1e-7)
    assert judged["buy|click"]["nll"] == pytest.approx(math.log(2), abs=1e-7)
    assert judged["click&buy"]["nll"] == pytest.approx(-math.log(5 / 8), abs=1e-7)


def test_a_product_of_four_stages_is_exact_where_one_minus_p_would_round():
    stage = StageConfig(observe="1s")
    held = judge(Funnel.from_mapping({"a": None, "b": stage, "c": stage, "d": stage}))
    held.scored(arrived(1), logits((20, 20, 20)))
    held.judge(batch([(1, 0, dict.fromkeys((1, 2, 3), (FINAL, 1)), (0, 0))], stages=4))
    assert held.summary()["judged"]["b&c&d"]["nll"] == pytest.approx(3 * math.exp(-20), rel=1e-6)


def test_stages_that_share_a_parent_are_judged_by_their_own_logits():
    fork = Funnel.from_mapping(
        {"view": None, "click": StageConfig(observe="1s"), "like": StageConfig(after="view", observe="2s")}
    )
    held = judge(fork)
    held.scored(arrived(1), logits((math.log(3), 0)))
    held.judge(said(1, {1: (FINAL, 1), 2: (FINAL, 0)}))
    judged = held.summary()["judged"]
    assert {name: round(figure["nll"], 6) for name, figure in judged.items()} == {
        "click": round(math.log(4 / 3), 6),
        "like": round(math.log(2), 6),
    }


def test_a_bucket_is_written_out_once_when_every_label_in_it_is_final():
    held = judge()
    held.scored(arrived(1, at=MINUTE - 1), logits((0, 0)))
    held.scored(arrived(2, at=MINUTE), logits((0, 0)))
    held.judge(said(1, UNCLICKED, at=MINUTE - 1))
    held.judge(said(2, UNCLICKED, at=MINUTE))
    assert held.tick(MINUTE + 40_000 - 1, 0, 0)["buckets"] == []  # 10 s and 30 s after its end
    (bucket,) = held.tick(MINUTE + 40_000, 7, 1)["buckets"]
    assert (bucket["bucket_ms"], bucket["final"], bucket["slices"]) == (0, True, {})
    assert bucket["judged"]["click"]["rows"] == 1
    line = held.tick(3 * MINUTE, 7, 1)
    assert [bucket["bucket_ms"] for bucket in line["buckets"]] == [MINUTE]
    assert held.tick(4 * MINUTE, 7, 1)["buckets"] == []
    assert (line["event_ms"], line["steps"], line["skipped_steps"]) == (3 * MINUTE, 7, 1)
    assert line["judged"]["click"]["rows"] == 2
    assert line["judged_from"] is None


def test_buckets_before_the_epoch_and_their_order_are_by_time():
    held = judge()
    for root, at in enumerate((MINUTE, -1, 0)):
        held.scored(arrived(root, at=at), logits((0, 0)))
        held.judge(said(root, UNCLICKED, at=at))
    assert [bucket["bucket_ms"] for bucket in held.tick(10 * MINUTE, 0, 0)["buckets"]] == [-MINUTE, 0, MINUTE]


def test_memory_of_closed_roots_and_final_buckets_is_used_again_and_clean():
    held = judge(slices=("tab",))
    held_bytes = held.bytes()
    for minute in range(300):
        roots = range(1000 * minute, 1000 * minute + (10 if PLAIN else 1000))
        held.scored(arrived(*roots, at=minute * MINUTE), logits(*[(0, 0)] * len(roots)))
        held.judge(batch([(root, minute * MINUTE, UNCLICKED, (0, 0)) for root in roots]))
        for bucket in held.tick(minute * MINUTE, 0, 0)["buckets"]:
            assert bucket["judged"]["click"]["rows"] == len(roots)
            assert bucket["slices"]["tab"]["#0000000000000000"]["click"]["rows"] == len(roots)
    assert held.bytes() == held_bytes


def test_more_open_buckets_than_there_is_room_for_make_room():
    held = judge()
    held_bytes, n = held.bytes(), 100  # room for the 61 that a tick of 1h and a span of 40s keep open
    scores = logits(*[(root / 100, 0) for root in range(n)])
    held.scored(batch([(root, root * MINUTE, {}, (0, 0)) for root in range(n)]), scores)
    held.judge(batch([(root, root * MINUTE, UNCLICKED, (0, 0)) for root in range(n)]))
    assert held.bytes() > held_bytes
    assert rows_of(held) == [n, 0, n]
    buckets = held.tick(n * MINUTE + MINUTE, 0, 0)["buckets"]
    assert [bucket["bucket_ms"] for bucket in buckets] == [root * MINUTE for root in range(n)]
    expected = [pytest.approx(math.log1p(math.exp(root / 100)), rel=1e-6) for root in range(n)]
    assert [bucket["judged"]["click"]["nll"] for bucket in buckets] == expected


def test_the_first_32_values_are_slices_and_the_rest_is_other():
    held = judge(slices=("tab",))
    names = Names(("tab",))
    names.offer("tab", {value: f"t{value}" for value in range(100, 140)} | {131: "other"})
    names.claim("tab", np.arange(100, 140, dtype=np.uint64))
    held = Judge(MetricsConfig(slices=("tab",)), CHAIN, FEATURES, names)
    for value in range(100, 140):
        held.scored(arrived(value, tab=value), logits((0, 0)))
    for value in [*range(139, 99, -1)]:  # judged in another order than scored
        held.judge(said(value, UNCLICKED))
    tabs = held.summary()["slices"]["tab"]
    assert list(tabs) == [f"t{value}" for value in range(100, 131)] + [f"other #{131:016x}", "other"]
    assert tabs["t100"]["click"] == {"rows": 1, "base_rate": 0.0, "nll": pytest.approx(math.log(2)), "pcoc": None}
    assert tabs["t100"]["buy|click"] == {"rows": 0, "base_rate": None, "nll": None, "pcoc": None}
    assert tabs["other"]["click&buy"]["rows"] == 8


def test_from_a_stated_moment_on_roots_are_also_judged_apart():
    held = judge(**{"from": "1970-01-01T00:01Z", "slices": ("tab",)})
    for root, at in [(1, MINUTE - 1), (2, MINUTE), (3, MINUTE + 1)]:
        held.scored(arrived(root, at=at, tab=7), logits((root, 0)))
        held.judge(said(root, UNCLICKED, at=at))
    got = held.summary()
    assert got["judged"]["click"]["rows"] == 3
    assert got["judged_from"]["click"]["rows"] == 2
    expected = (math.log1p(math.exp(2)) + math.log1p(math.exp(3))) / 2
    assert got["judged_from"]["click"]["nll"] == pytest.approx(expected, rel=1e-7)
    assert got["slices_from"]["tab"]["#0000000000000007"]["click"]["rows"] == 2
    assert got["slices"]["tab"]["#0000000000000007"]["click"]["rows"] == 3


def test_without_such_a_moment_nothing_is_said_of_it():
    got = judge().summary()
    assert (got["judged_from"], got["slices_from"], got["slices"]) == (None, None, {})


def test_a_row_without_a_finite_score_is_counted_and_not_judged():
    held = judge()
    held.judge(said(1, UNCLICKED))
    held.scored(arrived(2, 3), logits((math.nan, 0), (0, math.inf)))
    held.judge(said(2, UNCLICKED))
    held.judge(said(3, UNCLICKED))
    line = held.tick(0, 0, 0)
    assert (line["unscored"], line["open_roots"], rows_of(held)) == (3, 0, [0, 0, 0])


def test_a_root_that_comes_again_after_it_was_closed_is_a_new_one():
    held = judge()
    for logit in (0, math.log(3)):
        held.scored(arrived(1), logits((logit, 0)))
        held.judge(said(1, UNCLICKED))
    assert held.summary()["judged"]["click"]["nll"] == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-7)


# A log: per root its time, tab, score, whether it clicked and bought, and how much later than others it speaks
roots = st.lists(
    st.tuples(
        st.integers(0, 5 * MINUTE),
        st.integers(0, 40),
        st.tuples(*[st.floats(-30, 30, width=32)] * 2),
        st.booleans(),
        st.booleans(),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=40,
)


def log_of(roots):
    """Rows in order, each with its logits: what is said of a root stands somewhere behind its arrival."""
    spoken = []
    for place, (at, tab, scores, clicked, bought, later) in enumerate(roots):
        root = (place * 2**59) % 2**64
        steps = [{}, CLICKED if clicked else UNCLICKED, *([{2: (FINAL, int(bought))}] if clicked else [])]
        spoken += [(place + later * k, k, (root, at, what, (0, tab)), scores) for k, what in enumerate(steps)]
    return [(row, scores) for _, _, row, scores in sorted(spoken, key=lambda entry: entry[:2])]


def feed(held, log):
    rows, scores = batch([row for row, _ in log]), logits(*[scores for _, scores in log])
    held.scored(rows.take(rows.arrived), scores[rows.arrived])
    held.judge(rows.take(~rows.arrived))


def run(log, cuts, restored=False):
    held, lines = judge(slices=("tab",), **{"from": "1970-01-01T00:02Z"}), []
    for start, end in pairwise(cuts):
        if restored:
            saved = {name: array.copy() for name, array in held.state().items()}
            held = judge(slices=("tab",), **{"from": "1970-01-01T00:02Z"})
            held.restore(saved)
        feed(held, log[start:end])
        if end in (len(log) // 2, len(log)):
            lines.append(orjson.dumps(held.tick(2 * MINUTE if end < len(log) else 20 * MINUTE, 0, 0)))
    return lines, orjson.dumps(held.summary()), {name: array.tobytes() for name, array in held.state().items()}


@given(roots, st.data())
@settings(max_examples=10 if PLAIN else 60)
def test_any_chunking_and_any_restart_give_the_same_lines_summary_and_state(roots, data):
    log = log_of(roots)
    always = {0, len(log) // 2, len(log)}
    whole = run(log, sorted(always))
    cuts = sorted(always | data.draw(st.sets(st.integers(0, len(log)), max_size=8)))
    assert run(log, cuts) == whole
    assert run(log, cuts, restored=True) == whole
    assert b"NaN" not in whole[1]


def test_stopped_anywhere_it_goes_on_as_if_nothing_had_been():
    random = np.random.default_rng(3)
    log = log_of(
        [(at * 9_000, at % 40, tuple(random.normal(size=2)), at % 3 == 0, at % 6 == 0, at % 5) for at in range(60)]
    )
    chunks = [log[start : start + 25] for start in range(0, len(log), 25)]
    steps = [lambda held, chunk=chunk: feed(held, chunk) for chunk in chunks]
    ticks = [lambda held, at=at: held.tick(at * MINUTE, at, 0) for at in range(len(chunks))]
    script = [step for pair in zip(steps, ticks, strict=True) for step in pair]
    check_stateful(lambda: judge(slices=("tab",)), [*script, lambda held: held.summary()])


def test_the_config_reads_its_moment_with_an_offset_only():
    config = MetricsConfig.model_validate({"from": "2022-04-26T00:00Z", "tick": "10m"})
    assert (config.from_ms, config.tick, config.bucket) == (1650931200000, 600_000, 3_600_000)
    assert judge(tick="10m").tick_ms == 600_000
    with pytest.raises(ValidationError, match="has no offset; add Z"):
        MetricsConfig.model_validate({"from": "2022-04-26T00:00"})
    with pytest.raises(ValidationError, match="0 is no width"):
        MetricsConfig.model_validate({"bucket": "0"})


def test_a_slice_that_is_no_id_feature_is_refused():
    with pytest.raises(ConfigError, match='"age" is no id feature; take one of user, tab'):
        judge(slices=("age",))


def test_as_plain_python_all_of_this_holds_without_a_warning():
    if PLAIN:
        return
    command = [sys.executable, "-m", "pytest", __file__]
    plain = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    ended = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**40), 2**60)), max_size=9))
def test_a_root_is_known_by_the_hash_of_its_id_and_time(rows):
    root_N = np.array([root for root, _ in rows], np.uint64)
    root_ms_N = np.array([time_ms for _, time_ms in rows], np.int64).view(np.uint64)
    life_N = np.empty(len(rows), np.uint64)
    lives(root_N, root_ms_N, life_N)
    assert life_N.tolist() == combine([root_N, root_ms_N]).tolist()
