"""The run file: one YAML document that says what the events are, what is learned and how it is judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from connectors.files import FilesConfig
from connectors.kafka.config import KafkaConfig
from connectors.kafka.topics import stages_of
from jobs.mistakes import mistakes_of
from jobs.runchecks import cross_checks
from jobs.yamlmarks import Document, Mistake, MistakesError, did_you_mean, load_document
from streamctr import feedback
from streamctr.errors import ConfigError
from streamctr.heads import heads
from streamctr.metrics import MetricsConfig
from streamctr.models import ModelConfig
from streamctr.schema import (
    Config,
    CsvConfig,
    DurationMs,
    FeaturesConfig,
    Funnel,
    MessagesConfig,
    RejectsConfig,
    StageConfig,
    Texts,
    TimeConfig,
)
from streamctr.snapshot import SnapshotsConfig
from streamctr.tables import TablesConfig
from streamctr.training import TrainingConfig

_MAY_DIFFER: Final = frozenset({"files", "kafka", "snapshots"})
"""Top-level keys that a resume may change: where events lie, and how often and how many snapshots are kept."""

_SHORT_FORMS: Final[dict[tuple[str | int, ...], str]] = {("model",): "name", ("time",): "field", ("files",): "paths"}
"""The key that a word in place of a mapping stands for: `--set model.towers=[64]` works behind `model: esmm`."""


class RunConfig(Config):
    """Everything that decides what a run does; each block is described where its owner is."""

    files: FilesConfig | None = Field(default=None, description="the event files; none where topics hold the events")
    key: Texts = Field(min_length=1, description="the field or fields with the root's id, in every stage's events")
    time: TimeConfig
    user: Texts = Field(default=(), description="the field or fields that say whose history an event belongs to")
    stage: str | None = Field(default=None, description="the field that says what stage a message is of")
    ignore: Texts = Field(default=(), description="values of the stage field whose messages are skipped")
    weight: str | None = Field(default=None, description="the field that says how much a root counts in learning")
    types: Mapping[str, Literal["text", "integer"]] = Field(
        default_factory=dict, description="integer: an id is a whole number, however it is written"
    )
    csv: CsvConfig = CsvConfig()
    rejects: RejectsConfig = RejectsConfig()
    lateness: DurationMs = Field(default=60_000, description="how far events of one stage may be out of order")
    orphan_wait: DurationMs = Field(default=10_000, description="how long an event waits for its parent")
    remember: DurationMs = Field(default=3_600_000, description="how long closed roots are remembered, to tell repeats")
    users: int = Field(default=100_000, ge=1, description="histories kept at most, the last touched ones")
    funnel: Mapping[str, StageConfig]
    features: FeaturesConfig
    outcomes: tuple[str, ...] = Field(default=(), description="fields known only later: refused as features")
    model: ModelConfig
    tables: TablesConfig = Field(default_factory=TablesConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    snapshots: SnapshotsConfig = Field(default_factory=SnapshotsConfig)
    kafka: KafkaConfig | None = Field(default=None, description="the brokers, and the topics of these events")
    samples: bool = Field(default=False, description="write the emission log to samples/")

    @field_validator("funnel", mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: Any) -> Any:
        """`impression:` with nothing behind it is `impression: {}`."""
        return {name: config or {} for name, config in value.items()} if isinstance(value, dict) else value

    @property
    def event_files(self) -> FilesConfig:
        """The event files.

        Raises:
            ConfigError: the run file names none.
        """
        if self.files is None:
            raise ConfigError("the run file names no event files; add files: PATHS, or read its topics with consume")
        return self.files

    @property
    def tree(self) -> Funnel:
        """The funnel, resolved."""
        return Funnel.from_mapping(self.funnel)

    @property
    def messages(self) -> MessagesConfig:
        """How the log's messages are read."""
        return MessagesConfig(**{name: getattr(self, name) for name in MessagesConfig.model_fields})


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run file that was read, typed and found without mistakes."""

    config: RunConfig

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> "RunFile":
        """Read, override with each `key=value`, type and check.

        Raises:
            ConfigError: there is no such file.
            MistakesError: all that is wrong with it.
        """
        return cls._typed(read_document(path, overrides))

    @classmethod
    def parse(cls, text: str, name: str, overrides: Sequence[str] = ()) -> "RunFile":
        """The same from a text that is to be called `name`."""
        return cls._typed(_overridden(text, name, overrides))

    @classmethod
    def _typed(cls, document: Document) -> "RunFile":
        config, mistakes = examine(document)
        if config is None or mistakes:
            raise MistakesError(mistakes)
        return cls(config)


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """A run file with its overrides, untyped.

    Raises:
        ConfigError: there is no such file.
        MistakesError: it is not YAML, or an override has not the form of one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no run file {path}; name one, or the directory of a run") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}; a run file is YAML in UTF-8") from None
    return _overridden(text, str(path), overrides)


def _overridden(text: str, name: str, overrides: Sequence[str]) -> Document:
    document = load_document(text, name)
    for override in overrides:
        document.override(override, _SHORT_FORMS)
    return document


def examine(document: Document) -> tuple[RunConfig | None, list[Mistake]]:
    """The config, where each value has its type, and all that is wrong with the document."""
    mistakes = cross_checks(document)
    try:
        config = RunConfig.model_validate(document.tree)
    except ValidationError as error:
        return None, mistakes + mistakes_of(error, document, RunConfig, [mistake.path for mistake in mistakes])
    if not any(mistake.path[:1] == ("funnel",) for mistake in mistakes):
        mistakes += _fit_checks(config, document)
    return config, mistakes


def _fit_checks(config: RunConfig, document: Document) -> list[Mistake]:
    """What a well-formed funnel does not have, the model does not take, or topics are not of."""
    names = [head.name for head in heads(config.tree)]
    mistakes = [
        document.mistake(("training", "base_rate", name), f'"{name}" is no head', did_you_mean(name, names), key=True)
        for name in config.training.base_rate
        if name not in names
    ]
    model = ("model", "name") if document.has(("model", "name")) else ("model",)
    kafka, mixed = config.kafka, config.stage is not None
    topics = ("kafka", "topics" if document.has(("kafka", "topics")) else "topic")
    checks: tuple[tuple[tuple[str, ...], Callable[[], Any]], ...] = (
        (model, lambda: config.model.rows(config.tree, config.tables.width, config.tables.init_std)),
        (model, lambda: config.model.check(config.features)),
        (("training", "delayed_feedback"), lambda: feedback.check(config.training.delayed_feedback, config.tree)),
        (topics, lambda: None if kafka is None else stages_of(kafka, config.tree, mixed)),
    )
    for path, check in checks:
        try:
            check()
        except ConfigError as error:
            mistakes.append(document.mistake(path, str(error)))
    return mistakes


def resolved(config: RunConfig) -> dict[str, Any]:
    """The config as plain values with every default filled in, durations and moments as texts."""
    return config.model_dump(mode="json", by_alias=True)


def resolved_yaml(config: RunConfig) -> str:
    """`resolved` as a run file that loads to the same config."""
    return yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True, width=120)


def config_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two `resolved` configs, one line a key, but for what a resume may change."""
    return [line for line in _diff(old, new, "") if line.split(".")[0].split(":")[0] not in _MAY_DIFFER]


def _diff(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in _diff(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if old == new else [f"{path}: {old} is now {new}"]
