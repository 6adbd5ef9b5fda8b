"""`streamctr consume`: the same pipeline as `replay`, fed by Kafka topics, from the newest snapshot on."""

from typing import Any, Literal

from connectors.kafka.source import KafkaSource
from jobs.console import Call, Result, say
from jobs.eventtask import Inputs
from jobs.replay import Request, run
from jobs.runfile import RunConfig
from streamctr.errors import ConfigError

Until = Literal["end"]
OnGap = Literal["stop", "earliest", "latest"]


def consume(call: Call, request: Request, until: Until | None = None, on_gap: OnGap = "stop") -> Result:
    """Learn from topics until a signal, or up to what they hold now; always leaves a last snapshot.

    Args:
        call: settings, and how to answer.
        request: the run; without a moment to stop at.
        until: `end`: stop where the topics end now.
        on_gap: where to go on when messages that are next are gone.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """

    def topics(config: RunConfig, log: Any) -> Inputs:
        def tell(text: str) -> None:
            say(text)
            log.warning(text)

        if config.kafka is None:
            raise ConfigError(f"{request.run} names no topics: add kafka: {{servers: HOST:PORT, topic: NAME}}")
        source = KafkaSource(config.kafka, config.tree, config.stage is not None, until, on_gap, tell)
        return Inputs("consume", source, None, source.gaps)

    return run(call, request, topics)
