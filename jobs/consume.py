"""`streamctr consume`: the same pipeline as `replay`, fed by Kafka topics, from the newest snapshot on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from connectors.kafka.config import KafkaConfig
from connectors.kafka.deadletters import DeadLetterTopic
from connectors.kafka.source import KafkaSource
from jobs.console import Call, Result, say
from jobs.eventtask import Inputs
from jobs.owner import Owner, fenced
from jobs.replay import EventRun, Request
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from jobs.runner import moment
from jobs.wiring import Outputs
from streamctr.errors import ConfigError

OnGap = Literal["stop", "earliest", "latest"]
Until = Literal["end"] | int | None


def consume(call: Call, request: Request, on_gap: OnGap = "stop") -> Result:
    """Learn from topics until a signal, a moment, or up to what they hold now; always leaves a last snapshot.

    Whoever consumes a run takes it over from an older daemon, which then ends.

    Args:
        call: settings, and how to answer.
        request: the run; `until` may be `end`: stop where the topics end now.
        on_gap: where to go on when messages that are next are gone.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    config = load_run(request.run, call.sets).config
    kafka = kafka_of(config, request.run)
    directory = RunDirectory.of(request.run, request.directory)
    until = until_of(request.until)

    def open_topics(owner: Owner, log: Any) -> tuple[Inputs, Outputs]:
        inputs = topics(config, until, on_gap, teller(log))
        say(f"lag and all that happens: {directory.path / 'log.jsonl'}")
        return inputs, outputs_of(config, directory, owner)

    run = EventRun(config, directory, request, until if isinstance(until, int) else None)
    return run.to_the_end(call, lambda: fenced(directory, kafka, "consume"), open_topics)


def kafka_of(config: RunConfig, run: Path) -> KafkaConfig:
    """The brokers and topics of a run file.

    Raises:
        ConfigError: it names none.
    """
    if config.kafka is None:
        raise ConfigError(f"{run} names no topics: add kafka: {{servers: HOST:PORT, topic: NAME}}")
    return config.kafka


def until_of(text: str | None) -> Until:
    """What `--until` says: `end`, or a moment in ms.

    Raises:
        ConfigError: neither.
    """
    return "end" if text == "end" else moment("--until", text)


def teller(log: Any) -> Callable[[str], None]:
    """Words for who watches, and for the log."""

    def tell(text: str) -> None:
        say(text)
        log.warning(text)

    return tell


def topics(config: RunConfig, until: Until, on_gap: OnGap, tell: Callable[[str], None]) -> Inputs:
    """The topics of a run file, opened.

    Raises:
        StreamctrError: they cannot be read.
    """
    assert config.kafka is not None
    source = KafkaSource(config.kafka, config.tree, config.stage is not None, until, on_gap, tell)
    partitions = Counter(lag.place[0] for lag in source.lag())
    for stage in (config.tree.names[place] for place in config.tree.tellers):
        if config.kafka.topic is None and stage not in config.kafka.topics:
            say(f"no topic is of stage {stage}: it never happens in this run")
    say(f"reading {', '.join(f'{name} ({count} partitions)' for name, count in partitions.items())}")
    total = sum(lag.end - lag.next for lag in source.lag()) if until == "end" else 0
    return Inputs(source, topics=source, total=total)


def outputs_of(config: RunConfig, directory: RunDirectory, owner: Owner, joins_only: bool = False) -> Outputs:
    """Files of the owner's epoch, and a topic for dead letters where the run file names one."""
    outputs = Outputs.files(config, directory, owner.epoch, joins_only)
    if config.kafka is None or config.kafka.dead_letters is None or owner.fence is None:
        return outputs
    return replace(outputs, dead_letters=DeadLetterTopic(owner.fence, config.kafka.dead_letters, directory.run_id))
