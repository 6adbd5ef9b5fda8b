"""From a run file to a pipeline: every part, built from its block of the config."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from connectors.logs import JsonLines, SampleLog
from connectors.scores import ScoreLog
from jobs.lookups import read_lookups
from jobs.rundir import RunDirectory
from jobs.runfile import RunConfig
from streamctr.beside import Beside
from streamctr.decode import OTHER, Decoder
from streamctr.events import EventBatch
from streamctr.features import Encoder
from streamctr.join import JoinConfig, Joiner
from streamctr.metrics import Judge
from streamctr.names import Names
from streamctr.order import Orderer
from streamctr.pipeline import BackHalf, Parts, Pipeline
from streamctr.ports import SampleSink, ScoreSink, Sink, Source
from streamctr.schema import FeaturesConfig
from streamctr.training import HeldOut, Recipe, Trainer


@dataclass(frozen=True, slots=True)
class Limits:
    """From the command line: nothing is learned from `frozen_ms` on, nothing released from `until_ms` on."""

    frozen_ms: int | None = None
    until_ms: int | None = None
    joins_only: bool = False
    """The front half alone, which keeps its samples."""


def decoder(config: RunConfig, names: Names) -> Decoder:
    """The decoder that a run file describes."""
    return Decoder(config.messages, config.tree, config.features, names)


def encoder(config: RunConfig, names: Names) -> Encoder:
    """The encoder that a run file describes, with its lookup tables read.

    Raises:
        ConfigError: a lookup table is not the declared one, or its key is not known where it stands.
        DataError: a lookup table cannot be read, or holds what is no good.
    """
    zone = ZoneInfo(config.time.zone)
    return Encoder(config.features, config.tree, zone, config.users, names, read_lookups(config))


def joiner(config: RunConfig) -> Joiner:
    """The joiner that a run file describes."""
    return Joiner(JoinConfig(orphan_wait=config.orphan_wait, remember=config.remember), config.tree)


def recipe(config: RunConfig) -> Recipe:
    """What a run file says of learning."""
    return Recipe(config.model, config.tables, config.training, config.features, config.tree)


def no_events(features: FeaturesConfig) -> EventBatch:
    """An empty batch with the columns of a run's events."""
    return EventBatch.empty(features.event_id_columns, features.event_number_columns)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a run writes."""

    dead_letters: Sink
    metrics: Sink
    samples: SampleSink | None
    """The emission log; None where it is not kept."""
    scores: ScoreSink | None

    @classmethod
    def files(cls, config: RunConfig, directory: RunDirectory, epoch: int = 0, joins_only: bool = False) -> "Outputs":
        """The files of a run directory that owners of this epoch write."""
        return cls(
            dead_letters=JsonLines(directory.dead_letters / "letters.jsonl", epoch=epoch, most_bytes=1 << 32),
            metrics=JsonLines(directory.metrics, epoch=epoch),
            samples=SampleLog(directory.samples, epoch=epoch) if config.samples or joins_only else None,
            scores=ScoreLog(directory.samples, epoch=epoch) if config.samples else None,
        )


def back_half(
    config: RunConfig, outputs: Outputs, names: Names, frozen_ms: int | None = None, held_out: HeldOut | None = None
) -> BackHalf:
    """A back half that writes its lines of figures and its scores, untouched by any sample.

    Args:
        config: what the run file says.
        outputs: where it writes.
        names: texts of what figures are sliced by.
        frozen_ms: nothing is learned from here on.
        held_out: roots that teach nothing.

    Raises:
        ConfigError: parts do not fit one another.
    """
    judge = Judge(config.metrics, config.tree, config.features, names)
    trainer = Trainer(recipe(config), judge, frozen_ms, held_out, outputs.scores)
    return BackHalf(trainer, judge, outputs.metrics, outputs.scores)


def build(
    config: RunConfig, source: Source, outputs: Outputs, limits: Limits = Limits(), beside: bool = True
) -> Pipeline:
    """A pipeline, untouched by any event.

    Args:
        config: what the run file says.
        source: where the events come from.
        outputs: where it writes.
        limits: where it stops learning and reading, and whether it learns at all.
        beside: whether the back half has a thread of its own; what comes out is the same.

    Raises:
        ConfigError: parts do not fit one another.
    """
    funnel, features = config.tree, config.features
    names = Names(config.metrics.slices, parts=features.crosses)
    back = None if limits.joins_only else back_half(config, outputs, names, limits.frozen_ms)
    parts = Parts(
        source=source,
        decoder=decoder(config, names),
        orderer=Orderer(source.partitions, config.lateness, no_events(features)),
        joiner=joiner(config),
        encoder=encoder(config, names),
        names=names,
        dead_letters=outputs.dead_letters,
        samples=outputs.samples,
        back=Beside(back) if beside and back is not None else back,
    )
    others = () if config.stage is None else (OTHER,)
    return Pipeline(parts, (*funnel.names, *others), limits.until_ms)
