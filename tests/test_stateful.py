"""Every part that remembers something passes the battery of `Stateful`; those with tests of their own, there."""

import numpy as np
from wire import partitions_of, wire

from connectors.memory import MemorySource
from streamctr.names import Names
from streamctr.order import FIRST_MS
from streamctr.testing import check_stateful

ROWS = (
    [(s, 0, s) for s in range(40)] + [(s + 1, 1, s) for s in range(0, 40, 3)] + [(s + 4, 2, s) for s in range(0, 40, 6)]
)
ROWS += [(5, 0, 5), (6, 1, 0), (9, 1, 30), (33, 2, 99), (12, 1, 14)]  # repeats, orphans, early children
PARTITIONS = partitions_of(ROWS, [(0, 4, b"{"), (1, 2, b"[]")])


def released():
    """All events of the rows in order, in chunks of seven."""
    pipeline = wire(PARTITIONS).pipeline
    decoder, orderer = pipeline.parts.decoder, pipeline.parts.orderer
    for partition in range(3):
        orderer.push(partition, decoder.decode(pipeline.parts.source.poll(partition)).events)
        orderer.end(partition)
    events = orderer.release(orderer.watermark_ms())
    return [events.take(slice(begin, begin + 7)) for begin in range(0, len(events), 7)]


def test_decoder():
    source = MemorySource(PARTITIONS, block_lines=6)
    blocks = [source.poll(partition) for partition in (0, 1, 2, 0, 1, 0)]
    check_stateful(lambda: wire(PARTITIONS).pipeline.parts.decoder, [lambda d, b=b: d.decode(b) for b in blocks])


def test_names():
    steps = [
        lambda n: n.offer("tab", {1: "one", 2: "two", 3: "three"}),
        lambda n: n.claim("tab", np.array([2, 0], np.uint64)),
        lambda n: n.offer("tab", {4: "four"}),
        lambda n: n.claim("tab", np.array([4, 1], np.uint64)),
        lambda n: [n.text("tab", value) for value in (0, 1, 2, 3, 4)],
    ]
    check_stateful(lambda: Names(("tab",), limit=3), steps)


def test_joiner():
    def push(joiner, events):
        return [(joined.rows._asdict(), joined.joins._asdict()) for joined in joiner.push(events, FIRST_MS)]

    steps = [lambda j, e=e: [rows_only(chunk) for chunk in push(j, e)] for e in released()]
    check_stateful(lambda: wire(PARTITIONS, chunk_rows=5).pipeline.parts.joiner, steps)


def rows_only(chunk):
    """Rows without their slots, which are the joiner's own business."""
    return {name: column for name, column in chunk[0].items() if name != "slot"}


def test_encoder():
    joiner = wire(PARTITIONS, chunk_rows=5).pipeline.parts.joiner
    chunks = [joined for events in released() for joined in joiner.push(events, int(events.time_ms[-1]))]
    check_stateful(lambda: wire(PARTITIONS).pipeline.parts.encoder, [lambda e, c=c: e.encode(c) for c in chunks])


def test_trainer():
    log = wire(PARTITIONS).run().emission_log()
    batches = [log.take(slice(begin, begin + 11)) for begin in range(0, len(log), 11)]
    steps = [lambda t, b=b: (t.feed(b), t.steps, t.weights_sha256()) for b in batches]
    steps.append(lambda t: t.finish(int(log.emit_ms[-1])))
    check_stateful(lambda: wire(PARTITIONS).pipeline.parts.back.trainer, steps)
