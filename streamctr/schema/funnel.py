"""The funnel: a tree of stages, and by which messages each of them is told of."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from streamctr.schema.units import Config, DurationMs, Texts


class StageConfig(Config):
    """One stage: the windows of its label, which are half-open and counted from its parent's time, and its messages.

    The root has no windows. A stage has messages of its own, or it is told of by fields of another stage's messages:
    by `when`, by `at`, or by both.
    """

    after: str | None = Field(default=None, description="the stage it follows; default: the one above")
    observe: DurationMs | None = Field(default=None, description="how long its first label is waited for")
    window: DurationMs | None = Field(default=None, description="how long it may still happen; default: observe")
    key: Texts | None = Field(default=None, description="where the root's id stands, if not as in the others")
    time: str | None = Field(default=None, description="where its time stands, if not as in the others")
    called: Texts = Field(default=(), description="values of the stage field that mean it; default: its name")
    value: str | None = Field(default=None, description="a number of its messages that its rows carry")
    when: Mapping[str, Texts] = Field(
        default_factory=dict,
        description="it happens where all these flags are set; a field may also have one of some values, or >= 4",
    )
    at: str | None = Field(default=None, description="the field with the time at which it happened, if it did")
    delay: DurationMs = Field(default=0, description="behind the time of the message with the flags")
    told_by: str | None = Field(default=None, description="the stage whose messages have these fields")

    @property
    def derived(self) -> bool:
        """Whether fields of another stage's messages tell of it."""
        return bool(self.when) or self.at is not None

    @field_validator("when", mode="before")
    @classmethod
    def _flags(cls, value: Any) -> Any:
        """`when: flag` and `when: [flag, flag]` are short for fields that must be set."""
        flags = [value] if isinstance(value, str) else value
        return {flag: () for flag in flags} if isinstance(flags, list | tuple) else flags

    @model_validator(mode="after")
    def _window_holds_observe(self) -> "StageConfig":
        window_ms = self.observe if self.window is None else self.window
        if self.observe is not None and window_ms is not None and window_ms < self.observe:
            raise ValueError("window is shorter than observe: the label would be final before it is observed")
        if window_ms == 0:
            raise ValueError("window is 0: nothing can happen in it; set window, or a longer observe")
        return self


class Stage(Config):
    """A stage of the resolved funnel; `parent` and `told_by` are places in `Funnel.stages`."""

    name: str
    parent: int
    """-1 for the root."""
    observe_ms: int
    window_ms: int
    told_by: int = 0
    """The stage whose messages tell of it: its own place, but where it is derived."""
    config: StageConfig = StageConfig()


class Funnel(Config):
    """The tree of stages, parents before children; stage 0 is the root, the event that is scored."""

    stages: tuple[Stage, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, StageConfig | None]) -> "Funnel":
        """Resolve `after`, `window` and `told_by`.

        Raises:
            ValueError: a stage follows, or is told of by, one that does not stand above it; or it has no `observe`.
        """
        places = {name: place for place, name in enumerate(mapping)}
        stages: list[Stage] = []
        for place, (name, given) in enumerate(mapping.items()):
            config = given or StageConfig()
            if place == 0:
                stages.append(Stage(name=name, parent=-1, observe_ms=0, window_ms=0, config=config))
                continue
            parent = place - 1 if config.after is None else places.get(config.after, place)
            if parent >= place:
                raise ValueError(f'{name}.after: "{config.after}" is not a stage above {name}')
            if config.observe is None:
                raise ValueError(f"{name} has no observe")
            told_by = place
            if config.derived:  # by default: the parent's messages, or those that tell of the parent
                teller = parent if config.told_by is None else places.get(config.told_by, place)
                if teller >= place:
                    raise ValueError(f'{name}.told_by: "{config.told_by}" is not a stage above {name}')
                told_by = stages[teller].told_by
            window_ms = config.observe if config.window is None else config.window
            stage = Stage(name=name, parent=parent, observe_ms=config.observe, window_ms=window_ms, told_by=told_by)
            stages.append(stage.model_copy(update={"config": config}))
        return cls(stages=tuple(stages))

    @property
    def names(self) -> tuple[str, ...]:
        """Stage names in the run file's order."""
        return tuple(stage.name for stage in self.stages)

    @property
    def tellers(self) -> tuple[int, ...]:
        """Places of the stages that have messages of their own."""
        return tuple(place for place, stage in enumerate(self.stages) if stage.told_by == place)

    @property
    def valued(self) -> tuple[int, ...]:
        """Places of the stages that carry a value: the columns of `SampleBatch.value_NV`."""
        return tuple(place for place, stage in enumerate(self.stages) if stage.config.value is not None)

    def path(self, place: int) -> tuple[int, ...]:
        """Places from the first stage behind the root down to `place`."""
        return () if place == 0 else (*self.path(self.stages[place].parent), place)

    def span_ms(self) -> int:
        """From a root's time until every label of it is final, at most."""
        return max(sum(self.stages[p].window_ms for p in self.path(s)) for s in range(len(self.stages)))
