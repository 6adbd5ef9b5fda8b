"""Partitions that come while a run is stopped are read from their beginning, as if they had been there all the time."""

from wire import line, partitions_of, wire

from connectors.memory import Partition
from streamctr.testing import frozen

ROWS = [(s, stage, s) for s in range(60) for stage in range(3) if s % (stage + 1) == 0]
NEW = Partition(0, tuple(line(s, f"n{s}", user="u1", item=s % 5, price=s) for s in range(30, 60)))
BROKEN = Partition(0, (b"[]", *NEW.lines))


def resumed(before, partitions):
    second = wire(partitions, block_lines=7)
    second.metrics.records += before.metrics.records
    second.samples.batches += before.samples.batches
    second.pipeline.restore(frozen(before.pipeline.state()))
    return second.run()


def test_a_partition_that_came_later_teaches_what_it_would_have_taught_from_the_start():
    whole = wire([*partitions_of(ROWS), NEW], block_lines=7).run()
    first = wire(partitions_of(ROWS), block_lines=7)
    for _ in range(6):
        first.pipeline.advance()
    assert 0 < first.pipeline.events_read < len(ROWS) / 2
    second = resumed(first, [*partitions_of(ROWS), NEW])
    assert second.pipeline.counts() == whole.pipeline.counts()
    assert second.pipeline.counts()["impression"]["joined"] == 90
    trainers = [wired.pipeline.parts.back.trainer for wired in (second, whole)]
    assert trainers[0].weights_sha256() == trainers[1].weights_sha256()


def test_what_was_released_before_a_partition_came_stays_so_and_its_malformed_messages_are_counted_too():
    first = wire(partitions_of(ROWS), block_lines=7).run()
    second = resumed(first, [*partitions_of(ROWS), BROKEN])
    counts = second.pipeline.counts()["impression"]
    # at the end of the input everything up to 59 s had been said
    assert (counts["read"], counts["joined"], counts["late"], counts["rejected"]) == (91, 60, 30, 1)
    assert [letter["path"] for letter in second.dead_letters.records] == ["memory-3"]
