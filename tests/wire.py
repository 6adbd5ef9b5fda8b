"""A small pipeline over memory, with a log of all that it says."""

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from connectors.memory import MemoryLog, MemorySamples, MemorySource, Partition
from jobs.runfile import RunFile
from streamctr.beside import Beside
from streamctr.decode import OTHER, Decoder
from streamctr.events import EventBatch
from streamctr.features import Encoder
from streamctr.join import JoinConfig, Joiner
from streamctr.metrics import Judge
from streamctr.names import Names
from streamctr.order import Orderer
from streamctr.pipeline import BackHalf, Parts, Pipeline
from streamctr.samples import SampleBatch
from streamctr.training import Recipe, Trainer

RUN = """
files: unused
key: id
time: t
user: user
lateness: 5s
orphan_wait: 3s
remember: 20s
funnel:
  impression: {}
  click: {observe: 4s, window: 8s}
  conversion: {observe: 0s, window: 10s}
features:
  id: [user, item]
  number: {price: log1p}
  time: [hour]
  history: {clicked: {of: click, take: [item], last: 3}}
model: {name: esmm, towers: [4]}
tables: {rows: 64, width: 2}
training: {batch: 8, threads: 1}
metrics: {bucket: 10s, tick: 10s, slices: [item]}
"""
START_MS = 1_650_000_000_000


class RecordingJudge(Judge):
    """Also keeps every score, by root and time."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.scores = []

    def scored(self, rows, logits_NS):
        self.scores += zip(rows.root.tolist(), rows.emit_ms.tolist(), map(tuple, logits_NS.tolist()), strict=True)
        super().scored(rows, logits_NS)


class DrawnOrderer(Orderer):
    """Reads partitions in a drawn order instead of the oldest first."""

    turns = ()

    def behind(self):
        going = np.flatnonzero(~self._ended)
        turn, self.turns = (self.turns[0], self.turns[1:]) if self.turns else (0, ())
        return int(going[turn % len(going)])


@dataclass
class Wired:
    """A pipeline and the logs that it writes."""

    pipeline: Pipeline
    dead_letters: MemoryLog = field(default_factory=MemoryLog)
    metrics: MemoryLog = field(default_factory=MemoryLog)
    samples: MemorySamples = field(default_factory=MemorySamples)

    def run(self):
        while self.pipeline.advance():
            self.pipeline.check()
        self.pipeline.finish()
        self.pipeline.check()
        assert self.pipeline.parts.back.trainer  # which waits until the other thread has had everything
        return self

    def emission_log(self):
        return SampleBatch.concat(self.samples.batches)


def wire(partitions, run=RUN, block_lines=1000, chunk_rows=1000, turns=(), until_ms=None, frozen_ms=None, source=None):  # noqa: PLR0913
    """A `Wired` pipeline over memory."""
    config = RunFile.parse(run, "run.yaml").config
    funnel, features = config.tree, config.features
    names = Names(config.metrics.slices, parts=features.crosses)
    empty = EventBatch.empty(features.event_id_columns, features.event_number_columns)
    orderer = DrawnOrderer if turns else Orderer
    logs = MemoryLog(), MemoryLog(), MemorySamples()
    judge = RecordingJudge(config.metrics, funnel, features, names)
    recipe = Recipe(config.model, config.tables, config.training, features, funnel)
    parts = Parts(
        source=source or MemorySource(partitions, block_lines),
        decoder=Decoder(config.messages, funnel, features, names),
        orderer=orderer(len(partitions), config.lateness, empty),
        joiner=Joiner(JoinConfig(orphan_wait=config.orphan_wait, remember=config.remember), funnel, chunk_rows),
        encoder=Encoder(features, funnel, ZoneInfo(config.time.zone), config.users, names),
        names=names,
        dead_letters=logs[0],
        samples=logs[2],
        back=Beside(BackHalf(Trainer(recipe, judge, frozen_ms), judge, logs[1])),
    )
    parts.orderer.turns = tuple(turns)
    others = () if config.stage is None else (OTHER,)
    return Wired(Pipeline(parts, (*funnel.names, *others), until_ms), *logs)


def line(seconds, root, **values):
    """One event as JSON."""
    return orjson.dumps({"id": root, "t": START_MS + round(1000 * seconds)} | values)


def partitions_of(rows, broken=()):
    """Three partitions of (seconds, stage, root) rows, in order of time; a root decides its features."""
    lines = ([], [], [])
    for seconds, stage, root in sorted(rows):
        values = {"user": f"u{root % 3}", "item": root % 5, "price": root * 1.5} if stage == 0 else {}
        lines[stage].append(line(seconds, f"r{root}", **values))
    for stage, place, text in broken:
        lines[stage].insert(place % (len(lines[stage]) + 1), text)
    return [Partition(stage, tuple(lines[stage])) for stage in range(3)]
