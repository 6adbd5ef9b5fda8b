"""The first lines of each stage: which fields they have, what can be decoded of them, what finds its root."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from connectors.files import FileSource
from jobs.runchecks import stages
from jobs.yamlmarks import Document, Mistake, Path, did_you_mean
from streamctr.decode import Decoder
from streamctr.events import EventBatch
from streamctr.ports import RawBlock


@dataclass(frozen=True, slots=True)
class Sample:
    """The beginning of a stage's events."""

    stage: str
    block: RawBlock
    messages: int
    fields: frozenset[str]
    """Those that any of them has."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What could be read of a sample."""

    events: EventBatch
    accepted: int
    rejected: int
    reasons: dict[str, int]
    """Of what was rejected, the commonest first."""
    behind_ms: NDArray[np.int64]
    """How much older each event is than the newest one before it."""

    @property
    def disorder_ms(self) -> int:
        """The worst of `behind_ms`."""
        return int(self.behind_ms.max(initial=0))


def read_samples(paths: dict[str, list[str]], lines: int) -> list[Sample]:
    """The first `lines` lines of each stage.

    Raises:
        DataError: a file cannot be read.
    """
    source = FileSource(paths, tuple(paths), block_bytes=1 << 16)
    samples = [_read(source, partition, stage, lines) for partition, stage in enumerate(paths)]
    source.close()
    return samples


def _read(source: FileSource, partition: int, stage: str, lines: int) -> Sample:
    blocks = [source.poll(partition)]
    while not blocks[-1].ended and sum(block.payload.count(b"\n") for block in blocks) < lines:
        blocks.append(source.poll(partition))
    text = b"".join(block.payload if block.payload.endswith(b"\n") else block.payload + b"\n" for block in blocks)
    first = [line for line in text.splitlines()[:lines] if line.strip()]
    fields = frozenset(key for line in first for key in _keys(line))
    block = RawBlock(partition, partition, blocks[0].path, 1, b"".join(line + b"\n" for line in first), False, False)
    return Sample(stage, block, len(first), fields)


def _keys(line: bytes) -> list[str]:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return []
    return list(message) if isinstance(message, dict) else []


def decode_sample(decoder: Decoder, sample: Sample) -> Decoded:
    """What could be read of a sample, by the decoder of the run."""
    decoded = decoder.decode(sample.block)
    time_ms = decoded.events.time_ms
    behind_ms = np.maximum.accumulate(time_ms) - time_ms
    reasons = dict(Counter(letter["reason"] for letter in decoded.letters).most_common())
    return Decoded(decoded.events, len(decoded.events), int(decoded.rejected.sum()), reasons, behind_ms)


def absent_fields(document: Document, samples: list[Sample]) -> list[Mistake]:
    """Fields that the run file names and no event of the sample has: what looks like a slip of the pen."""
    seen = [sample for sample in samples if sample.messages]
    return [
        _absent(document, path, name, sample)
        for sample in seen
        for path, name in _named(document, is_root=sample.stage == stages(document)[0])
        if name not in sample.fields
    ]


def all_rejected(document: Document, decoded: dict[str, Decoded], known: list[Mistake]) -> list[Mistake]:
    """Stages of whose sample nothing could be read, where no `known` mistake says why: a replay would stop there."""
    stages_of: dict[str, list[str]] = {}
    for stage, of in decoded.items():
        if of.rejected and not of.accepted:
            stages_of.setdefault(next(iter(of.reasons)), []).append(stage)
    found = []
    for reason, those in stages_of.items():
        place = next((place for place in ("time", "key") if reason.startswith(place)), "files")
        path: Path = ("time", "unit") if place == "time" and document.has(("time", "unit")) else (place,)
        if not any(mistake.path[:1] == (place,) for mistake in known):
            found.append(document.mistake(path, f"no {' and no '.join(those)} event can be read: {reason}"))
    return found


def _absent(document: Document, path: Path, name: str, sample: Sample) -> Mistake:
    message = f'field "{name}" is in none of {sample.messages:,} {sample.stage} events'
    hint = did_you_mean(name, sorted(sample.fields))
    return document.mistake(path, message, hint, key="number" in path[1:2])


def _named(document: Document, is_root: bool) -> Iterator[tuple[Path, str]]:
    """Where the run file names fields of the root's events, or of any stage's."""
    paths: list[Path] = [("key",), ("time", "field") if document.has(("time", "field")) else ("time",)]
    ids, numbers = (document.get(("features", kind)) for kind in ("id", "number"))
    if is_root:
        paths += [("user",), *(("features", "id", place) for place in range(len(ids or [])))]
        yield from ((("features", "number", name), name) for name in (numbers if isinstance(numbers, dict) else {}))
    for path in paths:
        name: Any = document.get(path)
        if isinstance(name, str):
            yield path, name


def named_roots(child: EventBatch, root: EventBatch) -> tuple[int, int]:
    """Of the child events up to the last root of the sample: how many name a root in it, and how many there are."""
    if len(root) == 0:
        return 0, 0
    due = child.time_ms <= root.time_ms.max()
    return int(np.isin(child.root[due], root.root).sum()), int(due.sum())
