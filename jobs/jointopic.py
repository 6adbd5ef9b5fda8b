"""The emission log as a topic, on the side of `streamctr join`: published while it is made, for a `learn` beside it."""

from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from typing import Any, Literal, Protocol

from connectors.kafka.config import KafkaConfig
from connectors.kafka.producer import ensure_topics
from connectors.kafka.rounds import Silence
from connectors.kafka.samples import Cuts, Said, SampleTopic
from jobs.consume import outputs_of, teller, topics, until_of
from jobs.eventtask import EventTask
from jobs.joined import JoinEnd, end_of
from jobs.owner import Owner
from jobs.rundir import RunDirectory
from jobs.runfile import RunConfig
from jobs.wiring import Limits
from streamctr.errors import ConfigError
from streamctr.order import FIRST_MS


class Asked(Protocol):
    """What of a request is needed here."""

    @property
    def until(self) -> str | None:
        """A moment, or `end`."""
        ...

    @property
    def on_gap(self) -> Literal["stop", "earliest", "latest"]:
        """Where to go on when messages that are next are gone."""
        ...

    @property
    def partitions(self) -> int:
        """Of a samples topic that is not there yet."""
        ...


class Publisher:
    """Keeps a `SampleTopic` in step with the pipeline that writes to it: a `Follower`.

    What was published stays true when the join goes on from an older snapshot: rows that the topic has are made again
    and dropped; ends of the input stay ends; and what a partition brings that was not waited for is late again.
    """

    def __init__(self, config: RunConfig, task: EventTask, topic: SampleTopic) -> None:
        self._config, self._task, self._topic = config, task, topic
        self._orderer = task.pipeline.parts.orderer
        self._ended = False
        self._published: list[list[int]] = []  # ends of the input that the topic has
        self._known = 0  # partitions of events
        topic.describe = self._describe

    def resumed(self) -> None:
        """Be bound by what was published behind the snapshot.

        Raises:
            ConfigError: it was joined with another config.
        """
        places = self._places()
        self._known = len(places)
        if self._topic.last is None:
            return
        facts = self._topic.facts
        JoinEnd.of(facts).refuse_others(self._config, f"topic {self._topic.topic.name}")
        new = [place for place in places if list(place) not in facts["partitions"]]
        for place in new:  # what was published did not wait for it
            self._topic.note(Silence(*place, 0, self._topic.last.watermark_ms))
        for one in self._topic.silences:
            if (one.topic, one.partition) in places:
                self._orderer.promise(places[one.topic, one.partition], one.number, one.watermark_ms)
        self._published = facts["ends"]
        self._task.ends = self._published + self._task.ends[len(self._published) :]

    def advanced(self) -> None:
        """Note which partitions are not waited for, and publish what is due."""
        self._ended = False
        released_ms, quiet = self._orderer.released_ms, self._orderer.quiet
        if released_ms > FIRST_MS and (quiet.any() or len(quiet) > self._known):
            for partition, (place, number) in enumerate(self._task.offsets().items()):
                if quiet[partition]:
                    self._topic.note(Silence(*place, number, released_ms))
                elif partition >= self._known:
                    self._topic.note(Silence(*place, 0, released_ms))
        self._known = len(quiet)
        self._topic.pulse()

    def finished(self) -> None:
        """The input has ended: also where an owner before said so already."""
        ends = self._task.ends
        if len(ends) > len(self._published) and ends[-1] in self._published:
            ends.pop()
        self._ended = self._orderer.all_ended

    def _places(self) -> dict[tuple[str, int], int]:
        return {place: partition for partition, place in enumerate(self._task.offsets())}

    def _describe(self) -> Said:
        facts = asdict(end_of(self._task)) | {"ended": self._ended, "partitions": list(self._places())}
        return Said(self._orderer.released_ms, facts)


def open_task(config: RunConfig, directory: RunDirectory, asked: Asked, owner: Owner, log: Any) -> EventTask:
    """A join from topics to a topic.

    Raises:
        StreamctrError: the topics cannot be read or written.
    """
    assert owner.fence is not None
    until = until_of(asked.until)
    limits = Limits(until_ms=until if isinstance(until, int) else None, joins_only=True)
    with ExitStack() as opened:
        topic = opened.enter_context(closing(SampleTopic(owner.fence, directory.run_id, Cuts(asked.partitions))))
        inputs = topics(config, until, asked.on_gap, teller(log))
        opened.enter_context(closing(inputs.source))
        task = EventTask(config, inputs, replace(outputs_of(config, directory, owner), samples=topic), limits)
        opened.pop_all()  # from here on the task closes them
    task.follower = Publisher(config, task, topic)
    return task


def refuse_published(kafka: KafkaConfig, partitions: int) -> None:
    """To say everything from the start, behind what a topic has of an earlier log.

    Raises:
        ConfigError: the topic is not empty.
        StreamctrError: the brokers cannot be reached, or refuse.
    """
    assert kafka.samples is not None
    if not ensure_topics(kafka, [kafka.samples], partitions)[0].empty:
        raise ConfigError(
            f"--fresh would write a second emission log behind the one in topic {kafka.samples}; delete the topic, "
            "or name another as kafka.samples"
        )
