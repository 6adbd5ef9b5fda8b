"""Of which stage each topic's messages are."""

from connectors.kafka.config import KafkaConfig
from streamctr.errors import ConfigError
from streamctr.schema import Funnel


def stages_of(config: KafkaConfig, funnel: Funnel, mixed: bool) -> dict[str, int]:
    """The place of its stage by topic; -1 where a field of the messages says it.

    Raises:
        ConfigError: a stage is unknown or has no messages of its own, a topic is of two, or the root has none.
    """
    root, tellers = funnel.tellers[0], funnel.tellers
    if config.topic is not None:
        if mixed:
            return {config.topic: -1}
        if len(tellers) > 1:
            names = ", ".join(funnel.names[place] for place in tellers)
            raise ConfigError(
                f"kafka.topic: {config.topic} holds {names}: say with `stage:` which field tells what a message is, or "
                "give each its own in kafka.topics"
            )
        return {config.topic: root}
    stages: dict[str, int] = {}
    for name, topic in config.topics.items():
        place = funnel.names.index(name) if name in funnel.names else -1
        if place not in tellers:
            names = ", ".join(funnel.names[place] for place in tellers)
            raise ConfigError(f'kafka.topics: "{name}" is no stage that has messages; those are {names}')
        if topic in stages:
            other = funnel.names[stages[topic]]
            raise ConfigError(f"kafka.topics: {topic} is given to {other} and to {name}; {_ONE}")
        stages[topic] = place
    if root not in stages.values():
        raise ConfigError(f"kafka.topics: none is of the root stage {funnel.names[root]}; {_ROOT}")
    return stages


_ONE = "name it as kafka.topic, and say with `stage:` which field tells what a message is"
_ROOT = "nothing can be joined without its events"
