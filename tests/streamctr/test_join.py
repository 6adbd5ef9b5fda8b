"""The joiner against the written cases and against the plain joiner, compiled and as plain Python."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_joiner import join

from streamctr.events import EventBatch, Outcome
from streamctr.join import JoinConfig, Joiner
from streamctr.samples import NEVER_MS
from streamctr.schema import Funnel, Stage

CASES = Path(__file__).parents[3] / "shared" / "cases" / "funnel.json"
WORDS = ((1, "observed"), (2, "late"), (4, "final"), (8, "absent"))


def batch(events):
    """Columns of (time, stage, root) triples."""
    n = len(events)
    time_ms, stage, root = (np.array([event[k] for event in events], np.int64) for k in range(3))
    return EventBatch(
        time_ms, stage, root.astype(np.uint64), np.zeros(n, np.uint64), np.zeros((n, 0), np.uint64), np.zeros((n, 0)),
        np.zeros(n, np.uint64), np.zeros(n), np.ones(n),
    )  # fmt: skip


def run(stages, chunks, orphan_wait_ms, remember_ms, chunk_rows):
    """What the joiner says of (events, advance_ms) chunks, in the plain joiner's form."""
    funnel = Funnel(stages=tuple(Stage(name=n, parent=p, observe_ms=o, window_ms=w) for n, p, o, w in stages))
    config = JoinConfig(orphan_wait=f"{orphan_wait_ms}ms", remember=f"{remember_ms}ms")
    joiner = Joiner(config, funnel, chunk_rows=chunk_rows)
    rows = []
    for events, advance_ms in chunks:
        for joined in joiner.push(batch(events), advance_ms):
            saved, joiner_state = joined.rows, joiner.state()
            assert joiner_state["counts"].sum() <= sum(len(c[0]) for c in chunks)
            for i in range(len(saved.emit_ms)):
                spoken = range(len(stages))
                says = {k: sorted(w for bit, w in WORDS if saved.says[i, k] & bit) for k in spoken if saved.says[i, k]}
                at = {k: int(saved.at_ms[i, k]) for k in spoken if saved.at_ms[i, k] != NEVER_MS}
                label = {k: int(saved.label[i, k]) for k in says}
                rows.append((int(saved.emit_ms[i]), int(saved.root[i]), says, label, at))
    totals = joiner.counts.sum(axis=0)
    return rows, {o.name.lower(): int(totals[o]) for o in Outcome if totals[o]}, joiner.roots_open


def cases():
    """The written cases as (name, stages, events, rows, ...), roots numbered in the order of their names."""
    for case in json.loads(CASES.read_text()):
        names = list(case["funnel"])
        stages = [
            (name, names.index(f["after"]) if f else -1, f.get("observe", 0), f.get("window", f.get("observe", 0)))
            for name, f in case["funnel"].items()
        ]
        code = {root: place for place, root in enumerate(sorted({e["root"] for e in case["events"]}))}
        events = sorted((e["t"], names.index(e["stage"]), code[e["root"]]) for e in case["events"])
        advance_ms = events[-1][0] if case["advance_to_ms"] == "newest" else case["advance_to_ms"]
        rows = [
            (
                row["emit"],
                code[row["root"]],
                {names.index(k): sorted(words) for k, words in row["says"].items()},
                {names.index(k): label for k, label in row["label"].items()},
                {names.index(k): t for k, t in row["at"].items()},
            )
            for row in case["rows"]
        ]
        expected = (rows, case["outcomes"], case["open_roots"])
        yield case["name"], stages, events, advance_ms, case["orphan_wait_ms"], case["remember_ms"], expected


def check_cases():
    """Every case, for any room that a chunk has; how many there are."""
    all_cases = list(cases())
    for name, stages, events, advance_ms, orphan_ms, remember_ms, expected in all_cases:
        assert join(stages, events, advance_ms, orphan_ms, remember_ms) == expected, f"plain joiner: {name}"
        for chunk_rows in (2, 3, 64):
            assert run(stages, [(events, advance_ms)], orphan_ms, remember_ms, chunk_rows) == expected, name
    return len(all_cases)


@pytest.mark.skipif(not CASES.exists(), reason="../shared/cases is absent")
def test_every_written_case_compiled():
    assert check_cases() >= 28


@pytest.mark.skipif(not CASES.exists(), reason="../shared/cases is absent")
def test_every_written_case_as_plain_python():
    here = Path(__file__)
    code = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import test_join; print(test_join.check_cases())"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=here.parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 28


@st.composite
def trees(draw):
    """Random trees of up to five stages, with windows that are often equal to one another."""
    stages = [("s0", -1, 0, 0)]
    for k in range(1, draw(st.integers(2, 5))):
        observe = draw(st.integers(0, 6))
        window = draw(st.sampled_from([max(observe, 1), observe + 3, observe + 1]))
        stages.append((f"s{k}", draw(st.integers(0, k - 1)), observe, window))
    return stages


@st.composite
def worlds(draw):
    """A tree, ordered events with ties, gaps and repeats, waits, and a way to cut the events into chunks."""
    stages = draw(trees())
    event = st.tuples(st.integers(0, 30), st.integers(0, len(stages) - 1), st.integers(0, 3))
    events = sorted(draw(st.lists(event, max_size=40)))
    waits = draw(st.integers(0, 8)), draw(st.integers(0, 12))
    cuts = draw(st.lists(st.integers(0, len(events)), max_size=5))
    return stages, events, waits, sorted(cuts), draw(st.integers(0, 25)), draw(st.sampled_from([2, 3, 7, 100]))


@given(worlds())
@settings(max_examples=400)
def test_random_funnels_give_what_the_plain_joiner_gives_in_any_chunks(world):
    stages, events, (orphan_ms, remember_ms), cuts, beyond_ms, chunk_rows = world
    end_ms = (events[-1][0] if events else 0) + beyond_ms
    expected = join(stages, events, end_ms, orphan_ms, remember_ms)
    bounds = [0, *cuts, len(events)]
    chunks = []
    for a, b in itertools.pairwise(bounds):
        advance_ms = events[b][0] if b < len(events) else end_ms  # the watermark never passes what is to come
        chunks.append((events[a:b], advance_ms))
    assert run(stages, chunks, orphan_ms, remember_ms, chunk_rows) == expected
    assert run(stages, [(events, end_ms)], orphan_ms, remember_ms, 100) == expected


def test_what_an_event_carries_stays_with_it_however_many_wait():
    stages = (("view", -1, 0, 0), ("order", 0, 1, 50))
    funnel = Funnel(stages=tuple(Stage(name=n, parent=p, observe_ms=o, window_ms=w) for n, p, o, w in stages))
    joiner = Joiner(JoinConfig(orphan_wait="1m"), funnel)
    orders, more = batch([(0, 1, root) for root in range(5)]), batch([(1, 1, root) for root in range(5, 40)])
    views = batch([(2, 0, root) for root in range(40)] + [(3, 1, 40), (3, 1, 0)])
    found = {}
    for events, first in ((orders, 0.0), (more, 5.0), (views, 100.0)):  # the second chunk needs a larger ring
        carried = dataclasses.replace(events, value=first + np.arange(len(events)))
        for joined in joiner.push(carried, int(events.time_ms[-1])):
            joins = joined.joins
            roots = joiner.state()["slots.root"][joins.slot]
            found |= dict(zip(roots[joins.stage == 1].tolist(), joins.value[joins.stage == 1].tolist(), strict=True))
    assert found == {root: float(root) for root in range(40)}
