"""`streamctr` in a process that ends itself, or watches itself: `-m tests.bench.kafka_child MOMENT ARGUMENTS...`.

MOMENT is `never`; `events:N` or `fault:PLACE:N` as in tests/jobs/crash_child.py; `encoded:N`, when samples are made
after N events were read; `rows:N`, before row N of the emission log is learned; or `peak:FILE`, which changes nothing
and writes to FILE how many bytes waited for their turn at most.
"""

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from jobs.cli import main
from streamctr.features import Encoder
from streamctr.pipeline import BackHalf, Pipeline
from tests.jobs import crash_child


def die(at: int) -> None:
    print(f"killed at {at}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_row(ordinal: int) -> None:
    feed = BackHalf.feed

    def wrapped(self: BackHalf, samples: Any) -> None:
        if len(samples) and samples.ordinal[-1] >= ordinal:
            die(int(samples.ordinal[0]))
        feed(self, samples)

    BackHalf.feed = wrapped


def die_encoding(events: int) -> None:
    crash_child.plant(f"events:{events}")  # it keeps the pipeline
    Encoder.encode = crash_child.before(Encoder.encode, events)


def held_bytes(pipeline: Pipeline) -> dict[str, int]:
    """Bytes that wait: messages in the source, and events for the watermark."""
    held = pipeline.parts.orderer.held
    return {
        "source": int(getattr(pipeline.parts.source, "waiting_bytes", 0)),
        "orderer": sum(getattr(held, name).nbytes for name in held.__slots__),
    }


def watch(file: Path) -> None:
    """Keep the most that ever waited, looked at after each block."""
    peak = {"source": 0, "orderer": 0, "together": 0}
    advance = Pipeline.advance

    def wrapped(self: Pipeline) -> bool:
        more = advance(self)
        now = held_bytes(self)
        for name, size in (now | {"together": sum(now.values())}).items():
            peak[name] = max(peak[name], size)
        return more

    Pipeline.advance = wrapped
    atexit.register(lambda: file.write_bytes(orjson.dumps(peak)))


def plant(moment: str) -> None:
    kind, _, where = moment.partition(":")
    match kind:
        case "never":
            pass
        case "rows":
            die_before_row(int(where))
        case "encoded":
            die_encoding(int(where))
        case "peak":
            watch(Path(where))
        case _:
            crash_child.plant(moment)


if __name__ == "__main__":
    plant(sys.argv.pop(1))
    main()
