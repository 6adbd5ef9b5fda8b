"""What a piece of state takes: `python -m tests.bench.pieces`, and part of `make bench-memory`.

Streams that let one kind of state grow (open impressions, users with a history, remembered roots, pending scores,
learned table rows) run until there are many, each in a process of its own. `resident` is by how much that process grew
for each piece, `arrays` the least and the most that the live arrays hold of each, room included, while they double;
`payload` is what the values themselves need.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from jobs import wiring
from streamctr.pipeline import Pipeline
from tests.bench.stages import built
from tests.bench.stream import Stream, StreamConfig
from tests.bench.timing import memory_of

FEW: Final = 100_000
MANY: Final = 400_000
"""Between which counts the process is weighed: rooms that double are as full at both."""
LAST: Final = 50
_LONG_MS: Final = 10**9
_KEY, _TIME, _COUNT, _NUMBER = 8, 8, 4, 4
_IDS, _NUMBERS, _STAGES, _WIDTH = 16, 8, 3, 16
_HISTORY: Final = LAST * 2 * _KEY


@dataclass(frozen=True, slots=True)
class Piece:
    """A kind of state: what makes it grow, how many there are, and what of the pipeline holds it."""

    payload: int
    stream: StreamConfig
    run: dict[str, Any]
    count: Callable[[Pipeline], int]
    arrays: Callable[[Pipeline], int]
    joins_only: bool = True
    besides: str = ""
    """A piece that comes with each: its own bytes are taken off those that the process grew by."""
    last: int = LAST


def _front(pipeline: Pipeline) -> tuple[Any, Any]:
    return pipeline.parts.joiner, pipeline.parts.encoder


def _open_bytes(pipeline: Pipeline) -> int:
    joiner, encoder = _front(pipeline)
    return int(joiner.size_bytes() + encoder.size_bytes()["open_features"])


def _users(pipeline: Pipeline) -> int:
    return len(pipeline.parts.encoder.state()["history.clicked.users.user"])


def _buffers(pipeline: Pipeline) -> int:
    encoder: Any = pipeline.parts.encoder
    return sum(size for _, size in memory_of(tuple(encoder._buffers["clicked"]._users)))


def _judge_bytes(pipeline: Pipeline) -> int:
    back: Any = pipeline.parts.back
    return int(back.judge.bytes())


def _rows(pipeline: Pipeline) -> int:
    back: Any = pipeline.parts.back
    return len(back.trainer.learner.table)


def _row_bytes(pipeline: Pipeline) -> int:
    back: Any = pipeline.parts.back
    return int(back.trainer.learner.table.bytes())


_LR: Final = {"model": {"name": "lr"}, "training": {"batch": 4096}}
_SHORT: Final = StreamConfig(window_ms=1000)
PIECES: Final = {
    "open impression": Piece(
        payload=_KEY + _STAGES * _TIME + _KEY + _NUMBER + _IDS * _KEY + _NUMBERS * _NUMBER + _HISTORY,
        stream=StreamConfig(window_ms=_LONG_MS),
        run=_LR,
        count=lambda pipeline: pipeline.roots()["open"],
        arrays=_open_bytes,
    ),
    "user history": Piece(
        payload=_KEY + _COUNT + _HISTORY,
        stream=replace(_SHORT, users=1_000_000, click_rate=0.9),
        run=_LR | {"users": 10**6},
        count=_users,
        arrays=_buffers,
    ),
    "remembered root": Piece(
        payload=_KEY + _TIME + 1,
        stream=_SHORT,
        run=_LR | {"remember": "1d"},
        count=lambda pipeline: pipeline.roots()["final"],
        arrays=lambda pipeline: int(_front(pipeline)[0].size_bytes()),
    ),
    "pending score": Piece(
        payload=_KEY + (_STAGES - 1) * _NUMBER,
        stream=StreamConfig(window_ms=_LONG_MS),
        run=_LR | {"metrics": {"bucket": "30d", "tick": "30d"}},
        count=lambda pipeline: pipeline.roots()["open"],
        arrays=_judge_bytes,
        joins_only=False,
        besides="open impression",
    ),
    "table row": Piece(
        payload=_WIDTH * _NUMBER + _NUMBER,
        stream=replace(_SHORT, values=15_000_000),
        run={"model": {"name": "esmm", "towers": [32]}, "training": {"batch": 1024}, "tables": {"rows": 2**20}},
        count=_rows,
        arrays=_row_bytes,
        joins_only=False,
        last=0,
    ),
}


def resident_bytes() -> int:
    """Of this process, now."""
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def grown(piece: Piece, most: int) -> Iterator[tuple[int, int, int]]:
    """Counts, bytes of arrays and resident bytes, block by block, until there are so many."""
    with tempfile.TemporaryDirectory() as name:
        config = piece.stream.run(piece.run, last=piece.last)
        limits = wiring.Limits(joins_only=piece.joins_only)
        pipeline = built(config, Path(name), Stream(piece.stream), limits=limits, beside=False)
        count = 0
        while count < most:
            pipeline.advance()
            count = piece.count(pipeline)
            yield count, piece.arrays(pipeline), resident_bytes()
        pipeline.close()


def weigh(name: str) -> dict[str, float]:
    """What a piece takes; first a few of them, so that everything is compiled."""
    piece = PIECES[name]
    for _ in grown(piece, 20_000):
        pass
    seen = [found for found in grown(piece, MANY) if found[0] > FEW]
    (few, _, light), (many, _, heavy) = seen[0], seen[-1]
    held = [size / count for count, size, _ in seen]
    resident = (heavy - light) / (many - few)
    return {"payload": piece.payload, "resident": resident, "arrays_least": min(held), "arrays_most": max(held)}


def pieces() -> dict[str, dict[str, float]]:
    """The figures of all, each from a process of its own, printed as a table too."""
    print(f"{'bytes of a':<18}{'payload':>9}{'resident':>10}{'arrays':>16}{'resident of payload':>22}")
    found = {}
    for name in PIECES:
        command = [sys.executable, "-m", "tests.bench.pieces", name]
        one = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        besides = PIECES[name].besides
        one["resident"] -= found[besides]["resident"] if besides else 0
        found[name] = {key: round(value, 1) for key, value in one.items()}
        arrays = f"{one['arrays_least']:,.0f} to {one['arrays_most']:,.0f}"
        share = one["resident"] / one["payload"]
        print(f"{name:<18}{one['payload']:9,.0f}{one['resident']:10,.0f}{arrays:>16}{share:22.2f}", flush=True)
    return found


def main() -> None:
    print(orjson.dumps(weigh(sys.argv[1]) if len(sys.argv) > 1 else pieces()).decode())


if __name__ == "__main__":
    main()
