"""READ THIS FIRST: poll, decode, order, join, encode, score, learn, judge.

One `advance` takes one block of messages through everything. What the outside does between two of them (a snapshot, a
progress bar, a signal) changes nothing in here.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamctr.decode import Decoder
from streamctr.errors import ConservationError
from streamctr.events import Outcome
from streamctr.features import Encoder
from streamctr.join import Joiner
from streamctr.metrics import Judge
from streamctr.names import Names
from streamctr.order import FIRST_MS, LAST_MS, Orderer
from streamctr.ports import Arrays, SampleSink, ScoreSink, Sink, Source, Stateful, pack_text, unpack_text
from streamctr.samples import SampleBatch
from streamctr.training import Judged, Trainer


class BackHalf:
    """Samples to a trained and judged model: scores, learns and judges what it is fed, and writes lines of figures."""

    def __init__(self, trainer: Trainer, judge: Judge, metrics: Sink, scores: ScoreSink | None = None) -> None:
        self.trainer, self.judge, self._metrics = trainer, judge, metrics
        self._logs: dict[str, Sink | ScoreSink] = {"metrics": metrics}
        if scores is not None:
            self._logs["scores"] = scores

    def feed(self, samples: SampleBatch) -> None:
        """Take the next rows of the emission log."""
        self.write(self.trainer.work(self.trainer.plan(samples)))

    def write(self, judged: list[Judged]) -> None:
        """Judge, and write the lines."""
        self._metrics.write(self.trainer.judge(judged))

    def finish(self, now_ms: int) -> None:
        """The input has ended at this event time: what waits for a full block is scored, learnt and judged as it is."""
        self._metrics.write(self.trainer.finish(now_ms))

    def state(self) -> Arrays:
        """The trainer, with the judge, whose figures follow from what it scored; and how far the logs go, on disk."""
        arrays = {f"trainer/{name}": array for name, array in self.trainer.state().items()}
        return arrays | {f"size.{name}": pack_text(log.flush()) for name, log in self._logs.items()}

    def restore(self, arrays: Arrays) -> None:
        """Become the half that gave `arrays`; lines and scores that came after are forgotten."""
        self.trainer.restore(_below("trainer/", arrays))
        for name, log in self._logs.items():
            log.truncate(unpack_text(arrays[f"size.{name}"]))

    def forget(self) -> None:
        """Write all lines and scores again: they left no snapshot."""
        for log in self._logs.values():
            log.truncate("")

    def close(self) -> None:
        """Give back files."""
        for log in self._logs.values():
            log.close()


class Back(Protocol):
    """A `BackHalf`, here or in a thread of its own."""

    @property
    def trainer(self) -> Trainer:
        """What learns."""
        ...

    @property
    def judge(self) -> Judge:
        """What makes figures."""
        ...

    def feed(self, samples: SampleBatch) -> None:
        """Take the next rows of the emission log."""
        ...

    def finish(self, now_ms: int) -> None:
        """The input has ended at this event time."""
        ...

    def state(self) -> Arrays:
        """As in `Stateful`."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """As in `Stateful`."""
        ...

    def forget(self) -> None:
        """Write all logs again."""
        ...

    def close(self) -> None:
        """Give back files."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of a run, built outside."""

    source: Source
    decoder: Decoder
    orderer: Orderer
    joiner: Joiner
    encoder: Encoder
    names: Names
    dead_letters: Sink
    samples: SampleSink | None
    """Where the emission log is kept; None where it only passes."""
    back: Back | None
    """None where others learn from the log."""


class Pipeline:
    """Events to samples, the front half, and with a back half to a trained and judged model.

    Args:
        parts: what it is made of.
        stages: their names, in the order of the funnel; where messages say theirs, `decode.OTHER` behind them.
        until_ms: release only what is older; the rest waits for a later run.
    """

    def __init__(self, parts: Parts, stages: tuple[str, ...], until_ms: int | None = None) -> None:
        self.parts, self.stages, self._until_ms = parts, stages, until_ms
        self._read = np.zeros(len(parts.joiner.counts) + 1, np.int64)
        self._finished_read = 0  # what had been read when the input last ended
        self._counts = np.zeros((len(self._read), len(Outcome)), np.int64)  # what the joiner does not count
        self._start_ms = FIRST_MS  # what happened before is skipped

    def advance(self) -> bool:
        """Take one block through everything; False when there is no more to take."""
        orderer = self.parts.orderer
        if orderer.all_ended or (self._until_ms is not None and orderer.watermark_ms() >= self._until_ms):
            return False
        block = self.parts.source.poll(orderer.behind())
        orderer.reach(self.parts.source.partitions)
        decoded = self.parts.decoder.decode(block)
        if self._start_ms > FIRST_MS:
            decoded = decoded.since(self._start_ms, self.stages)
        self._read += decoded.read
        self._counts[:, Outcome.REJECTED] += decoded.rejected
        self._counts[:, Outcome.SKIPPED] += decoded.skipped
        self.parts.dead_letters.write(decoded.letters)
        if decoded.read.any():
            orderer.wake(block.partition)
        late = orderer.push(block.partition, decoded.events, decoded.derived, decoded.line_of, decoded.lines)
        for events, late_N in ((decoded.events, late), (decoded.derived, late[decoded.line_of])):
            self._counts[:, Outcome.LATE] += np.bincount(events.stage[late_N], minlength=len(self._read))
        if block.ended:
            orderer.end(block.partition)
        elif block.idle:
            orderer.rest(block.partition)
        self._release()
        return True

    def finish(self) -> bool:
        """Nothing more is to come in this run: fire what is due by its end; the rest stays open.

        Returns:
            Whether this is a new end of the input, at which the back half finishes too; `until_ms` is none.
        """
        self._release()
        orderer = self.parts.orderer
        if not orderer.all_ended or self._until_ms is not None or self.events_read == self._finished_read:
            return False
        self._finished_read = self.events_read
        if self.parts.back is not None:
            self.parts.back.finish(orderer.newest_released_ms)
        return True

    @property
    def events_read(self) -> int:
        """Messages read so far, of all stages."""
        return int(self._read.sum())

    def counts(self) -> dict[str, dict[str, int]]:
        """By stage: events read, and how many ended in each outcome; `waiting` are held or wait for a parent."""
        table = self._counts.copy()
        table[:-1] += self.parts.joiner.counts
        table[:, Outcome.WAITING] += np.bincount(self.parts.orderer.held.stage, minlength=len(table))
        outcomes = {stage: {o.name.lower(): int(table[k, o]) for o in Outcome} for k, stage in enumerate(self.stages)}
        return {stage: {"read": int(self._read[k])} | outcomes[stage] for k, stage in enumerate(self.stages)}

    def roots(self) -> dict[str, int]:
        """Roots all of whose labels are final, and open ones."""
        return {"final": self.parts.joiner.roots_final, "open": self.parts.joiner.roots_open}

    def check(self) -> None:
        """Nothing lost, nothing twice.

        Raises:
            ConservationError: events read and counted outcomes differ.
        """
        for stage, counts in self.counts().items():
            counted = sum(counts.values()) - counts["read"]
            if counted != counts["read"]:
                raise ConservationError(
                    f"{stage}: {counts['read']:,} events were read but {counted:,} outcomes counted ({counts}); "
                    "this is a defect: keep the run directory and report it, the last snapshot is sound"
                )

    def state(self) -> Arrays:
        """Everything: of each part, and how far each appended file goes, on disk from here on."""
        self.check()
        moments = np.array([self._finished_read, self._start_ms])
        arrays: Arrays = {"read": self._read, "counts": self._counts, "moments": moments}
        arrays["positions"] = pack_text(self.parts.source.positions())
        for name, part in self._stateful().items():
            arrays |= {f"{name}/{key}": array for key, array in part.state().items()}
        arrays |= {f"size.{name}": pack_text(log.flush()) for name, log in self._logs().items()}
        return arrays if self.parts.back is None else arrays | self.parts.back.state()

    def restore(self, arrays: Arrays) -> None:
        """Become the pipeline that gave `arrays`; appended files forget what came after."""
        self.parts.source.seek(unpack_text(arrays["positions"]))
        self._restore(arrays)
        self.parts.orderer.resume()

    def splice(self, arrays: Arrays) -> None:
        """Become the pipeline that gave `arrays`, and go on at its watermark with another source of the same events.

        The source may begin earlier: what happened before the watermark is skipped. Events behind it that were read are
        taken out of what was read, for they come again.
        """
        self._restore(arrays)
        self.parts.decoder.forget()
        again = self.parts.orderer.splice(self.parts.source.partitions)
        self._read -= np.bincount(again.stage, minlength=len(self._read))
        self._start_ms = self.parts.orderer.released_ms

    def _restore(self, arrays: Arrays) -> None:
        self._read, self._counts = arrays["read"].copy(), arrays["counts"].copy()
        self._finished_read, self._start_ms = (int(value) for value in arrays["moments"])
        for name, part in self._stateful().items():
            part.restore(_below(f"{name}/", arrays))
        for name, log in self._logs().items():
            log.truncate(unpack_text(arrays[f"size.{name}"]))
        if self.parts.back is not None:
            self.parts.back.restore(arrays)

    def forget(self) -> None:
        """Write all logs again: they left no snapshot."""
        for log in self._logs().values():
            log.truncate("")
        if self.parts.back is not None:
            self.parts.back.forget()

    def close(self) -> None:
        """Give back files."""
        self.parts.source.close()
        for log in self._logs().values():
            log.close()
        if self.parts.back is not None:
            self.parts.back.close()

    def _release(self) -> None:
        orderer = self.parts.orderer
        watermark_ms = orderer.watermark_ms(self._until_ms)
        events = orderer.release(watermark_ms)
        fire_ms = orderer.newest_released_ms if watermark_ms == LAST_MS else watermark_ms
        for joined in self.parts.joiner.push(events, fire_ms):
            samples = self.parts.encoder.encode(joined)
            if self.parts.samples is not None:
                self.parts.samples.write(samples)
            if self.parts.back is not None:
                self.parts.back.feed(samples)

    def _stateful(self) -> dict[str, Stateful]:
        parts = self.parts
        return {
            "decoder": parts.decoder,
            "orderer": parts.orderer,
            "joiner": parts.joiner,
            "encoder": parts.encoder,
            "names": parts.names,
        }

    def _logs(self) -> dict[str, Sink | SampleSink]:
        logs: dict[str, Sink | SampleSink] = {"dead_letters": self.parts.dead_letters}
        return logs if self.parts.samples is None else logs | {"samples": self.parts.samples}


def _below(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
