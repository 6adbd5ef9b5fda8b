"""From a run file to a pipeline: every part, built from its block of the config."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from connectors.files import FileSource
from connectors.logs import JsonLines, SampleLog
from jobs.rundir import RunDirectory
from jobs.runfile import RunConfig
from streamctr.decode import Decoder
from streamctr.events import EventBatch
from streamctr.features import Encoder
from streamctr.join import JoinConfig, Joiner
from streamctr.metrics import Judge
from streamctr.names import Names
from streamctr.order import Orderer
from streamctr.pipeline import OTHER, Parts, Pipeline
from streamctr.schema import FeaturesConfig
from streamctr.training import Recipe, Trainer


@dataclass(frozen=True, slots=True)
class Limits:
    """Moments from the command line: nothing is learned from `frozen_ms` on, nothing released from `until_ms` on."""

    frozen_ms: int | None = None
    until_ms: int | None = None


def decoder(config: RunConfig, names: Names) -> Decoder:
    """The decoder that a run file describes."""
    return Decoder(config.messages, config.tree, config.features, names)


def _no_events(features: FeaturesConfig) -> EventBatch:
    return EventBatch.empty(features.event_id_columns, features.event_number_columns)


def build(
    config: RunConfig, directory: RunDirectory, paths: Mapping[str, list[str]], limits: Limits = Limits()
) -> Pipeline:
    """A pipeline over event files that writes into `directory`, untouched by any event.

    Args:
        config: what the run file says.
        directory: the run's, owned.
        paths: event files of each stage.
        limits: where it stops learning and reading.

    Raises:
        ConfigError: parts do not fit one another.
    """
    funnel, features = config.tree, config.features
    names = Names(config.metrics.slices)
    source = FileSource(paths, funnel.names)
    judge = Judge(config.metrics, funnel, features, names)
    recipe = Recipe(config.model, config.tables, config.training, features, funnel)
    parts = Parts(
        source=source,
        decoder=decoder(config, names),
        orderer=Orderer(source.partitions, config.lateness, _no_events(features)),
        joiner=Joiner(JoinConfig(orphan_wait=config.orphan_wait, remember=config.remember), funnel),
        encoder=Encoder(features, funnel, ZoneInfo(config.time.zone), config.users, names),
        names=names,
        trainer=Trainer(recipe, judge, limits.frozen_ms),
        judge=judge,
        dead_letters=JsonLines(directory.dead_letters / "letters.jsonl"),
        metrics=JsonLines(directory.metrics),
        samples=SampleLog(directory.samples) if config.samples else None,
    )
    others = () if config.stage is None else (OTHER,)
    return Pipeline(parts, (*funnel.names, *others), limits.until_ms)
