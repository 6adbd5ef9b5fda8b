"""The promises once more on a log of another shape: mixed partitions, stages from fields, bags, crosses, a lag."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import START_MS, wire

from connectors.memory import Partition
from streamctr.testing import frozen, same

RUN = """
files: unused
stage: kind
key: [id, part]
time: t
user: user
weight: w
lateness: 5s
orphan_wait: 3s
remember: 20s
ignore: [beat]
rejects: {share: 1}
funnel:
  view: {}
  click: {when: clicked, delay: 2s, observe: 4s, window: 8s}
  cart: {after: view, key: [ref, part], called: [basket], value: worth.sum, observe: 5s}
  buy: {after: cart, at: paid_at, observe: 1s, window: 10s, value: worth.sum}
features:
  id: [user, item]
  bag: {tags: sum}
  number: {price: {transform: log1p, clip: [1, 5]}}
  vector: {place: 2}
  bucket: {band: {of: price, at: [1, 3]}}
  cross: [[user, band]]
  time: [hour]
  history:
    clicked: {of: click, take: [item], last: 3, lag: 2s}
    carted: {of: cart, take: [item, band], last: 2, pool: max}
model: lr
tables: {rows: 64, width: 2}
training: {batch: 8, threads: 1}
metrics: {bucket: 10s, tick: 10s, slices: [item, band]}
"""
KINDS = ("view", "basket", "beat", "odd", "broken")
ROWS = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(KINDS), st.integers(0, 9), st.integers(-2, 12)),
    min_size=1,
    max_size=60,
)
CHUNKS = st.tuples(st.integers(1, 9), st.integers(3, 40), st.lists(st.integers(0, 1), min_size=1, max_size=40))


def message(seconds, kind, root, later):
    """One line; `later` decides whether and when what follows from it happens, perhaps too early."""
    if kind == "broken":
        return b'{"kind": "view", "id": '
    common = {"kind": kind, "t": START_MS + 1000 * seconds, "part": root % 2, "worth": {"sum": str(later)}}
    if kind == "view":
        tags = [root, "x"][: later % 3]
        more = {"user": f"u{root % 3}", "item": root % 5, "price": later * 0.5, "w": 1 + root % 2}
        flags = {"clicked": later % 2 == 0, "tags": tags, "place": [0.5, root] if root % 4 else None}
        return orjson.dumps({"id": root} | common | more | flags)
    paid_at = None if later > 9 else START_MS + 1000 * (seconds + later)
    return orjson.dumps({"ref": root, "paid_at": paid_at} | common)


def partitions_of(rows):
    """Two partitions of mixed lines, each in order of time but for a few; a good line first, or the run would stop."""
    lines = ([message(0, "view", 98, 1)], [message(0, "view", 99, 1)])
    for place, row in enumerate(sorted(rows, key=lambda row: row[0] + 4 * (row[2] == 7))):
        lines[place % 2].append(message(*row))
    return [Partition(-1, tuple(part)) for part in lines]


def judged(wired):
    return wired.pipeline.parts.back.trainer.weights_sha256(), wired.pipeline.counts(), wired.metrics.records


@given(ROWS, CHUNKS)
@settings(max_examples=60)
def test_chunks_and_interleaving_change_nothing(rows, chunks):
    block_lines, chunk_rows, turns = chunks
    whole = wire(partitions_of(rows), RUN).run()
    parts = wire(partitions_of(rows), RUN, block_lines=block_lines, chunk_rows=chunk_rows, turns=turns).run()
    if whole.samples.batches:
        assert same(parts.emission_log(), whole.emission_log())
    assert judged(parts) == judged(whole)


@given(ROWS, CHUNKS, st.integers(0, 30))
@settings(max_examples=40)
def test_a_kill_anywhere_changes_nothing(rows, chunks, stop):
    options = {"block_lines": chunks[0], "chunk_rows": chunks[1]}
    whole = wire(partitions_of(rows), RUN, **options).run()
    first, second = wire(partitions_of(rows), RUN, **options), wire(partitions_of(rows), RUN, **options)
    for _ in range(stop):
        first.pipeline.advance()
    saved = frozen(first.pipeline.state())
    for log in ("dead_letters", "metrics"):
        getattr(second, log).records += getattr(first, log).records
    second.samples.batches += first.samples.batches
    second.pipeline.restore(saved)
    second.run()
    if whole.samples.batches:
        assert same(second.emission_log(), whole.emission_log())
    assert judged(second) == judged(whole)
    assert second.dead_letters.records == whole.dead_letters.records


@given(ROWS, ROWS, st.integers(5, 60))
@settings(max_examples=60)
def test_what_is_later_than_a_moment_reaches_no_row_before_it(rows, future, before_s):
    """Two logs that agree before t. Fields of a line that tell of a later stage belong to the future of that line."""
    past = [row for row in rows if row[0] < before_s] or [(0, "view", 0, 0)]
    logs = []
    for later in ([row for row in rows if row[0] >= before_s], [(s + before_s, *rest) for s, *rest in future]):
        wired = wire(partitions_of([*past, *later]), RUN).run()
        if wired.pipeline.counts()["view"]["late"] or not wired.samples.batches:
            return
        reached_ms = wired.pipeline.parts.orderer.newest_released_ms
        logs.append((wired.emission_log(), reached_ms))
    until_ms = min(START_MS + 1000 * before_s, *(reached for _, reached in logs))
    said = [log.take(log.emit_ms < until_ms) for log, _ in logs]
    assert same(*said)


def test_a_known_log_has_known_outcomes():
    rows = [(0, "view", 1, 0), (1, "view", 2, 1), (3, "basket", 1, 2), (4, "basket", 2, -1), (5, "basket", 3, 11)]
    rows += [(6, "beat", 0, 0), (7, "odd", 0, 0), (8, "broken", 0, 0), (40, "view", 4, 3)]
    wired = wire(partitions_of(rows), RUN).run()
    counts = {stage: {k: n for k, n in c.items() if n} for stage, c in wired.pipeline.counts().items()}
    assert counts == {
        "view": {"read": 5, "joined": 5},
        "click": {"read": 1, "joined": 1},
        "cart": {"read": 3, "joined": 2, "orphan": 1},
        "buy": {"read": 2, "joined": 1, "rejected": 1},
        "(other)": {"read": 3, "rejected": 2, "skipped": 1},
    }
    log = wired.emission_log()
    root = log.root[log.label[:, 3] == 1][0]
    bought = log.take((log.root == root) & (log.says[:, 3] != 0))
    assert bought.label[:, 3].tolist() == [0, 1, 1]  # observed before it, late, final
    assert log.value_NV[log.label[:, 3] == 1].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert set(log.weight[log.root == root].tolist()) == {2.0}


def test_a_late_line_takes_along_what_it_tells_of_and_nothing_ahead_makes_a_line_late():
    rows = [(20, "view", 1, 0), (21, "basket", 1, 9), (14, "view", 2, 0), (15, "view", 3, 1), (16, "basket", 4, 5)]
    lines = (message(0, "view", 98, 1), *(message(*row) for row in rows))
    for block_lines in (1, 2, 9):
        wired = wire([Partition(-1, lines)], RUN, block_lines=block_lines).run()
        counts = {stage: {k: n for k, n in c.items() if n} for stage, c in wired.pipeline.counts().items()}
        assert counts == {
            "view": {"read": 4, "joined": 2, "late": 2},  # those of 14 and 15 s are older than 21 s - 5 s
            "click": {"read": 2, "joined": 1, "late": 1},
            "cart": {"read": 2, "joined": 1, "orphan": 1},  # that of 16 s is not, though 21 s tells of 30 s
            "buy": {"read": 2, "joined": 1, "orphan": 1},
            "(other)": {},
        }
