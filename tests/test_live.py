"""What only a log that goes on has: silent partitions, partitions that come later, and files that go before it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from wire import START_MS, line, partitions_of, wire

from connectors.memory import MemorySource, Partition
from streamctr.ports import RawBlock
from streamctr.testing import frozen, same

ROWS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=60)


class Pausing(MemorySource):
    """Whose last partition says once, before the line `silent_at`, that it is silent; it goes on when others ended."""

    def __init__(self, partitions, silent_at):
        super().__init__(partitions, block_lines=1)
        self._silent_at = silent_at

    def poll(self, partition):
        last = self.partitions - 1
        if partition == last and self._next[last] == self._silent_at:
            self._silent_at = -1
            return RawBlock(last, 0, "silent", 0, b"", False, False, idle=True)
        others_ended = self._next[0] == len(self._partitions[0].lines)
        return super().poll(last if others_ended and self._silent_at == -1 else partition)


def views(seconds):
    return tuple(line(s, f"r{s}", user="u", item=1, price=1.0) for s in seconds)


def paused(first, last, silent_at):
    partitions = [Partition(0, views(first)), Partition(0, views(last))]
    return wire(partitions, source=Pausing(partitions, silent_at))


def test_a_silent_partition_holds_nobody_up_and_what_it_brings_later_than_that_is_late():
    wired = paused(first=range(0, 40, 2), last=(1, 3, 21, 39), silent_at=2)
    wired.run()
    counts = wired.pipeline.counts()["impression"]
    # silent at 3 s, the first partition went on to its end at 38 s: 33 s had been said (lateness 5 s)
    assert (counts["read"], counts["late"], counts["joined"]) == (24, 1, 23)
    assert wired.pipeline.parts.orderer.newest_released_ms == START_MS + 39_000


def test_a_silent_partition_that_comes_back_in_time_loses_nothing():
    wired = paused(first=range(0, 40, 2), last=(1, 3, 39), silent_at=2)
    assert wired.run().pipeline.counts()["impression"]["late"] == 0


def test_where_all_partitions_are_silent_the_newest_event_says_how_far_time_has_come():
    wired = wire([Partition(0, views([10])), Partition(0, views([20]))])
    orderer = wired.pipeline.parts.orderer
    for _ in range(2):
        wired.pipeline.advance()
    assert orderer.all_ended
    orderer.resume()
    orderer.rest(0)
    assert orderer.watermark_ms() == START_MS + 15_000
    orderer.rest(1)
    assert orderer.watermark_ms() == START_MS + 15_000
    orderer.wake(0)
    assert orderer.watermark_ms() == START_MS + 5_000


def halves(partitions):
    """The same events in twice as many partitions, by the parity of the root."""
    parted = []
    for partition in partitions:
        for parity in (0, 1):
            lines = [text for text in partition.lines if int(text.split(b'"')[3][1:]) % 2 == parity]
            parted.append(Partition(partition.stage, tuple(lines)))
    return parted


@given(ROWS, st.integers(0, 70), st.integers(1, 9))
@settings(max_examples=60)
def test_files_up_to_a_moment_and_topics_from_there_on_are_one_run_without_gap_or_overlap(rows, until_s, block_lines):
    until_s = min(until_s, max(row[0] for row in rows))
    whole = wire(partitions_of(rows)).run()
    first = wire(partitions_of(rows), block_lines=5, until_ms=START_MS + 1000 * until_s).run()
    live = wire(halves(partitions_of(rows)), block_lines=block_lines)
    live.samples.batches += first.samples.batches
    live.metrics.records += first.metrics.records
    live.pipeline.splice(frozen(first.pipeline.state()))
    live.pipeline.check()
    live.run()
    assert same(live.emission_log(), whole.emission_log())
    assert live.metrics.records == whole.metrics.records
    assert live.pipeline.parts.back.trainer.weights_sha256() == whole.pipeline.parts.back.trainer.weights_sha256()
    again = sum(row[0] < until_s for row in rows)
    found, wanted = live.pipeline.counts(), whole.pipeline.counts()
    assert sum(counts.pop("skipped") for counts in found.values()) == again
    assert sum(counts.pop("read") for counts in found.values()) == len(rows) + again
    assert found == {k: {o: n for o, n in c.items() if o not in ("read", "skipped")} for k, c in wanted.items()}


def test_a_splice_is_remembered_by_the_next_snapshot():
    rows = [(s, 0, s) for s in range(40)]
    first = wire(partitions_of(rows), until_ms=START_MS + 20_000).run()
    second = wire(halves(partitions_of(rows)), block_lines=3)
    second.pipeline.splice(frozen(first.pipeline.state()))
    second.pipeline.advance()
    third = wire(halves(partitions_of(rows)), block_lines=3)
    third.samples.batches += second.samples.batches
    third.metrics.records += second.metrics.records
    third.pipeline.restore(frozen(second.pipeline.state()))
    assert third.run().pipeline.counts()["impression"] | {"skipped": 0} == {
        **dict.fromkeys(("waiting", "duplicate", "expired", "late", "orphan", "rejected", "skipped"), 0),
        "read": 60,
        "joined": 40,
    }
