"""The promises of the design, on random events: malformed, late, repeated, orphaned, out of order."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import RUN, line, partitions_of, wire

from connectors.memory import Partition
from jobs.runfile import RunFile
from jobs.yamlmarks import MistakesError
from streamctr.errors import ConservationError
from streamctr.testing import frozen, same
from streamctr.training import Recipe, Trainer

ROWS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=60)
BROKEN = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 60), st.sampled_from([b"{", b'{"id": 1}', b"null", b'{"id":1,"t":-4}'])
    ),
    max_size=4,
)
CHUNKS = st.tuples(st.integers(1, 9), st.integers(3, 40), st.lists(st.integers(0, 2), min_size=1, max_size=40))


def shuffled(partitions, draw):
    """Swap some neighbours: disorder, some of it beyond the lateness."""
    swapped = []
    for partition in partitions:
        lines = list(partition.lines)
        for _ in range(draw(st.integers(0, 3)) if len(lines) > 1 else 0):
            place = draw(st.integers(0, len(lines) - 2))
            lines[place], lines[place + 1] = lines[place + 1], lines[place]
        swapped.append(Partition(partition.stage, tuple(lines)))
    return swapped


def all_malformed(partitions):
    """A partition whose every message is malformed stops the run, which is another test's business."""
    return any(p.lines and not any(text.startswith(b'{"id":"r') for text in p.lines) for p in partitions)


@given(ROWS, BROKEN, CHUNKS, st.data())
@settings(max_examples=60)
def test_any_chunking_and_interleaving_of_the_input_gives_the_identical_emission_log(rows, broken, chunks, data):
    partitions = shuffled(partitions_of(rows, broken), data.draw)
    if all_malformed(partitions):
        return
    block_lines, chunk_rows, turns = chunks
    whole = wire(partitions).run()
    parts = wire(partitions, block_lines=block_lines, chunk_rows=chunk_rows, turns=turns).run()
    assert same(parts.emission_log(), whole.emission_log())
    assert parts.pipeline.counts() == whole.pipeline.counts()
    assert parts.metrics.records == whole.metrics.records
    assert parts.pipeline.parts.back.trainer.weights_sha256() == whole.pipeline.parts.back.trainer.weights_sha256()


@given(ROWS, st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=40)
def test_any_chunking_of_the_emission_log_gives_the_identical_weights_scores_and_figures(rows, cuts):
    whole = wire(partitions_of([*rows, (0, 0, 0)])).run()
    log = whole.emission_log()
    again = wire(partitions_of([*rows, (0, 0, 0)])).pipeline.parts.back
    lines, bounds = [], [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    for begin, end in itertools.pairwise(bounds):
        lines += again.trainer.feed(log.take(slice(begin, end)))
    lines += again.trainer.finish(whole.pipeline.parts.orderer.newest_released_ms)
    judge = whole.pipeline.parts.back.judge
    assert again.judge.scores == judge.scores
    assert [judged_only(record) for record in lines] == [judged_only(record) for record in whole.metrics.records]
    assert again.trainer.weights_sha256() == whole.pipeline.parts.back.trainer.weights_sha256()


def judged_only(record):
    """A line without the texts of slices: those come from the front half."""
    return {name: value for name, value in record.items() if name != "buckets"}


@given(ROWS, BROKEN, CHUNKS, st.integers(0, 30), st.data())
@settings(max_examples=40)
def test_a_run_that_is_killed_anywhere_and_resumed_ends_as_if_it_had_not_been(rows, broken, chunks, stop, data):
    partitions = shuffled(partitions_of(rows, broken), data.draw)
    if all_malformed(partitions):
        return
    options = {"block_lines": chunks[0], "chunk_rows": chunks[1]}
    whole = wire(partitions, **options).run()
    first, second = wire(partitions, **options), wire(partitions, **options)
    for _ in range(stop):
        first.pipeline.advance()
    saved = frozen(first.pipeline.state())
    for log in ("dead_letters", "metrics"):
        getattr(second, log).records += [*getattr(first, log).records, {"written": "after the snapshot"}]
    second.samples.batches += first.samples.batches
    second.pipeline.restore(saved)
    second.run()
    assert same(second.emission_log(), whole.emission_log())
    assert second.metrics.records == whole.metrics.records
    assert second.dead_letters.records == whole.dead_letters.records
    assert second.pipeline.counts() == whole.pipeline.counts()
    assert second.pipeline.parts.back.trainer.weights_sha256() == whole.pipeline.parts.back.trainer.weights_sha256()


@given(ROWS, st.integers(0, 70))
@settings(max_examples=40)
def test_until_is_an_exact_seam(rows, until_s):
    until_s = min(until_s, max(row[0] for row in rows))  # timers between the newest event and T fire in the first alone
    whole = wire(partitions_of(rows)).run()
    first = wire(partitions_of(rows), block_lines=5, until_ms=1_650_000_000_000 + 1000 * until_s).run()
    assert all((batch.emit_ms <= 1_650_000_000_000 + 1000 * until_s).all() for batch in first.samples.batches)
    second = wire(partitions_of(rows), block_lines=5)
    second.samples.batches += first.samples.batches
    second.metrics.records += first.metrics.records
    second.pipeline.restore(frozen(first.pipeline.state()))
    second.run()
    assert same(second.emission_log(), whole.emission_log())
    assert second.metrics.records == whole.metrics.records
    assert second.pipeline.parts.back.trainer.weights_sha256() == whole.pipeline.parts.back.trainer.weights_sha256()


@given(ROWS, ROWS, st.integers(0, 60), st.integers(0, 5))
@settings(max_examples=60)
def test_nothing_of_the_future_reaches_a_row_or_a_score(rows, future, before_s, shift):
    """Two inputs that agree before t: what is later is shifted, deleted or invented."""
    past = [row for row in rows if row[0] < before_s] or [(0, 0, 0)]
    one = past + [row for row in rows if row[0] >= before_s]
    other = past + [(seconds + before_s + shift, stage, root) for seconds, stage, root in future]
    agree_ms = 1_650_000_000_000 + 1000 * min(before_s, max(row[0] for row in one), max(row[0] for row in other))
    said = []
    for rows_of_one in (one, other):
        wired = wire(partitions_of(rows_of_one)).run()
        assert sum(counts["late"] for counts in wired.pipeline.counts().values()) == 0
        log = wired.emission_log()
        scores = [score for score in wired.pipeline.parts.back.judge.scores if score[1] < agree_ms]
        said.append((log.take(log.emit_ms < agree_ms), scores))
    assert same(said[0][0], said[1][0])
    assert said[0][1] == said[1][1]


def test_an_outcome_listed_as_a_feature_is_refused_with_its_place():
    text = RUN.replace("features:", "outcomes: [item]\nfeatures:")
    with pytest.raises(MistakesError) as raised:
        RunFile.parse(text, "run.yaml")
    place = next(n for n, row in enumerate(text.splitlines(), start=1) if "id: [user, item]" in row)
    assert f"run.yaml:{place}:14" in str(raised.value)


def test_every_event_ends_in_exactly_one_outcome_in_known_numbers():
    rows = [(10 * r, 0, r) for r in range(10)]  # ten impressions
    rows += [(10 * r + 1, 1, r) for r in range(4)] + [(10 * r + 2, 1, r) for r in range(2)]  # 4 clicks, 2 repeats
    rows += [(39, 1, 3)]  # the click of root 3 again, 9 s after it: its window is over but it has happened
    rows += [(49, 1, 4)]  # 9 s after root 4, which was not clicked: expired
    rows += [(55, 2, 77), (3, 2, 0), (70, 2, 1)]  # an orphan; a conversion; one long after: its root is forgotten
    impressions, clicks, conversions = partitions_of(rows, [(0, 3, b"{"), (1, 1, b'{"id":"x"}')])
    late = line(1, "r50", user="u", item=1, price=1.0)
    impressions = Partition(0, (*impressions.lines, late))
    wired = wire([impressions, clicks, conversions]).run()
    counts = {stage: {k: n for k, n in c.items() if n} for stage, c in wired.pipeline.counts().items()}
    assert counts == {
        "impression": {"read": 12, "joined": 10, "late": 1, "rejected": 1},
        "click": {"read": 9, "joined": 4, "duplicate": 3, "expired": 1, "rejected": 1},
        "conversion": {"read": 3, "joined": 1, "orphan": 2},
    }
    assert [letter["stage"] for letter in wired.dead_letters.records] == ["impression", "click"]


def test_a_counter_that_is_tampered_with_is_noticed():
    wired = wire(partitions_of([(1, 0, 1), (2, 1, 1)])).run()
    wired.pipeline.parts.joiner.counts[1, 1] += 1
    with pytest.raises(ConservationError, match="click: 1 events were read but 2 outcomes counted"):
        wired.pipeline.check()
    with pytest.raises(ConservationError):
        wired.pipeline.state()


def test_frozen_training_scores_and_judges_on():
    wired = wire(partitions_of([(s, 0, s) for s in range(60)]))
    parts, config = wired.pipeline.parts, RunFile.parse(RUN, "run.yaml").config
    recipe = Recipe(config.model, config.tables, config.training, config.features, config.tree)
    still = Trainer(recipe, parts.back.judge, frozen_ms=0)
    before = still.weights_sha256()
    log = wire(partitions_of([(s, 0, s) for s in range(60)])).run().emission_log()
    still.feed(log)
    assert still.weights_sha256() == before
    assert still.scored_rows > 0
