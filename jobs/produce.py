"""`streamctr produce`: event files, or a synthetic world, to topics, message by message in the order of event time.

Legend: N messages.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.text import Text

from connectors.files import FilesConfig, find_files
from connectors.kafka.config import KafkaConfig
from connectors.kafka.producer import Producer, Topic, ensure_topics
from connectors.kafka.topics import stages_of
from jobs.console import Call, Result, say
from jobs.interrupts import Stop
from jobs.messages import MessageReader, Messages
from jobs.mistakes import configured
from jobs.progress import Progress
from jobs.rundir import load_run
from jobs.runfile import RunConfig
from jobs.summary import figures_table
from jobs.synthetic_data import STAGES, WORLD, apart, write
from streamctr.errors import ConfigError
from streamctr.kernel import first_use
from streamctr.order import FIRST_MS
from streamctr.schema import Config
from streamctr.synthetic import WorldConfig

I64 = NDArray[np.int64]

_STEP_S: Final = 0.02
"""Sleep between two looks at what is due; also how soon a signal is seen."""
_SENT_AT_ONCE: Final = 5_000
"""Messages between two looks at whether to stop."""


class _Settings(Config):
    """A world under the name by which it is set, so that mistakes are told in the words that were typed."""

    world: WorldConfig = WorldConfig()


@dataclass(frozen=True, slots=True)
class Request:
    """What `produce` is asked for, as it was typed."""

    run: Path
    speed: str | None = None
    """How much faster than they happened events are sent, such as `10x`; else as fast as possible."""
    partitions: int = 4
    """Of topics that have to be created."""
    synthetic: bool = False
    """Send a synthetic world in place of the run's files; settings of it are named `world.KEY`."""
    now: bool = False
    """Its events begin now."""
    once: bool = False
    """Send nothing where a topic holds messages already."""


def produce(call: Call, request: Request) -> Result:
    """Send every message of the run's event files, or of a synthetic world, to the topic of its stage.

    Messages are sent as they are, each keyed by the 8 bytes of its root's hash, so that all of a root's are in the
    partitions of one number; the record's timestamp is the event's.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    world, own = apart(call.sets)
    if world and not request.synthetic:
        raise ConfigError(f"--set {WORLD}{world[0]} describes a synthetic world; add --synthetic, or leave it out")
    config = load_run(request.run, own).config
    kafka, pace = _kafka(config, request.run), Pace(request.speed)
    topic_of = topics_of(config, kafka)
    began = time.monotonic()
    if first_use():
        say("compiling kernels (first use, about half a minute)")
    with _files(config, request, world) as files, closing(_reader(config, files)) as reader, Stop() as stop:
        topics = ensure_topics(kafka, sorted(set(topic_of.values())), request.partitions)
        with closing(Producer(kafka, topics)) as producer, Progress("produce", reader.size_bytes) as progress:
            sender = _Sender(producer, topic_of, pace, stop, {topic.name: _Sent() for topic in topics})
            full = [topic.name for topic in topics if not topic.empty] if request.once else []
            warnings = _left_alone(full, progress) if full else _send_all(sender, reader, topics, progress)
            producer.flush()
    result = {
        "topics": {topic.name: _described(topic, sender.sent[topic.name]) for topic in topics},
        "warnings": warnings,
        "seconds": round(time.monotonic() - began, 3),
    }
    call.show(*_summary(result))
    return result, stop.exit_code


@contextmanager
def _files(config: RunConfig, request: Request, world: Sequence[str]) -> Iterator[FilesConfig]:
    """The event files that are to be sent: the run's, or those of a world, made in a folder that goes away again."""
    if not request.synthetic:
        if request.now:
            raise ConfigError("--now moves the events of a synthetic world, never those of a log; add --synthetic")
        if config.files is None:
            raise ConfigError(f"{request.run} names no event files to send; add files: PATHS, or --synthetic")
        yield config.files
        return
    stages = {config.tree.names[place] for place in config.tree.tellers}
    if config.stage is not None or not stages.issuperset(STAGES):
        raise ConfigError(
            f"--synthetic sends {', '.join(STAGES)}, each to a topic of its own; {request.run} reads "
            f"{', '.join(sorted(stages))}{' from messages that say their stage' if config.stage is not None else ''}; "
            "start from jobs/examples/synthetic.yaml"
        )
    described = configured(_Settings, [f"{WORLD}{setting}" for setting in world]).world
    if request.now:
        described = described.model_copy(update={"start": time.time_ns() // 1_000_000})
    with TemporaryDirectory(prefix="streamctr-") as folder:
        with Progress("making the world", described.roots) as progress:
            write(folder, described, progress.advance)
        yield FilesConfig(paths=(folder,))


def _reader(config: RunConfig, files: FilesConfig) -> MessageReader:
    of_files = config.model_copy(update={"files": files})
    return MessageReader(of_files, find_files(files, config.tree, config.stage is not None))


def _kafka(config: RunConfig, run: Path) -> KafkaConfig:
    if config.kafka is None:
        raise ConfigError(
            f"{run} names no brokers; write a block such as kafka: {{servers: [host:9092], topic: events}}"
        )
    return config.kafka


def topics_of(config: RunConfig, kafka: KafkaConfig) -> dict[int, str]:
    """The topic of each stage that has messages of its own.

    Raises:
        ConfigError: a stage has none, or the topics are not of these stages.
    """
    funnel = config.tree
    stages = stages_of(kafka, funnel, config.stage is not None)
    if kafka.topic is not None:
        return dict.fromkeys(funnel.tellers, kafka.topic)
    found = {place: topic for topic, place in stages.items()}
    for place in funnel.tellers:
        if place not in found:
            raise ConfigError(f"kafka.topics: none is of {funnel.names[place]}; name one for its messages to go to")
    return found


def _send_all(sender: "_Sender", reader: MessageReader, topics: Sequence[Topic], progress: Progress) -> list[str]:
    """Send until there is no more, or somebody asks to stop; what people were warned of."""
    warnings: list[str] = []
    oldest_ms: int | None = None

    def tell() -> None:
        progress.reach(reader.read_bytes, f"{sender.messages:,} messages")

    for batch in reader.batches():
        if oldest_ms is None and batch.readable.any():
            oldest_ms = int(batch.time_ms[batch.readable].min())
            warnings = _warnings(topics, oldest_ms)
            for warning in warnings:
                progress.say(f"warning: {warning}")
        sender.send(batch, tell)
        if sender.stop.asked:
            progress.say(f"{sender.stop.name}: what was sent is being confirmed; a second start would send it again")
            break
    return warnings


def _left_alone(full: Sequence[str], progress: Progress) -> list[str]:
    why = f"nothing is sent: {', '.join(full)} {'hold' if full[1:] else 'holds'} messages already"
    progress.say(why)
    return [why]


def _warnings(topics: Sequence[Topic], oldest_ms: int) -> list[str]:
    now_ms = time.time_ns() // 1_000_000
    found = [warning for topic in topics for warning in topic.warnings(oldest_ms, now_ms)]
    counts = {topic.name: topic.partitions for topic in topics}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        found.append(f"the topics have not as many partitions each ({listed}): a root's are not of one number in all")
    return found


def _described(topic: Topic, sent: "_Sent") -> dict[str, Any]:
    return {"partitions": topic.partitions, "created": topic.created, **asdict(sent)}


def _summary(result: dict[str, Any]) -> list[RenderableType]:
    drawn = figures_table("topics", ["messages", "unreadable", "bytes", "partitions", ""])
    for name, sent in result["topics"].items():
        figures = (f"{sent[column]:,}" for column in ("messages", "unreadable", "size_bytes", "partitions"))
        drawn.add_row(name, *figures, "created" if sent["created"] else "")
    total = sum(sent["messages"] for sent in result["topics"].values())
    return [drawn, Text(f"{total:,} messages sent and confirmed in {result['seconds']:.1f} s")]


class Pace:
    """Says how many of the next messages are due: all of them, or by event time from the first one on.

    >>> pace = Pace("10x", clock=iter([100.0, 100.5, 101.0]).__next__)
    >>> [pace.due(np.array([0, 4_000, 9_000])) for _ in range(2)]
    [2, 3]

    Args:
        speed: seconds of event time in a second, such as `10x`; None for as fast as possible.
        clock: seconds, from whenever.

    Raises:
        ConfigError: the speed is none.
    """

    def __init__(self, speed: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed, self._clock = _times(speed), clock
        self._zero_ms: float | None = None

    def due(self, order_ms_N: I64) -> int:
        """How many of the next messages, in order, may be sent by now; those without any time at once."""
        if self._speed is None:
            return len(order_ms_N)
        now_ms = self._clock() * 1000 * self._speed
        undated = int(np.searchsorted(order_ms_N, FIRST_MS, side="right"))
        if self._zero_ms is None and undated < len(order_ms_N):
            self._zero_ms = float(order_ms_N[undated]) - now_ms
            now_ms = self._clock() * 1000 * self._speed
        if self._zero_ms is None:
            return undated
        return int(np.searchsorted(order_ms_N, self._zero_ms + now_ms, side="right"))


def _times(speed: str | None) -> float | None:
    if speed is None:
        return None
    try:
        times = float(speed.removesuffix("x"))
    except ValueError:
        times = 0.0
    if not (math.isfinite(times) and times > 0):
        raise ConfigError(f"--speed {speed} is no speed; write how many times faster, such as 10x, or 1x for real time")
    return times


@dataclass(slots=True)
class _Sent:
    """What went into one topic."""

    messages: int = 0
    size_bytes: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Sender:
    """Sends batches to the topics of their stages."""

    producer: Producer
    topic_of: Mapping[int, str]
    """By stage."""
    pace: Pace
    stop: Stop
    sent: dict[str, _Sent]
    """By topic."""

    def send(self, batch: Messages, tell: Callable[[], None]) -> None:
        """Send a batch as its messages become due, and `tell` so; less of it where it is asked to stop."""
        begin = 0
        while begin < len(batch) and not self.stop.asked:
            end = begin + min(self.pace.due(batch.order_ms[begin:]), _SENT_AT_ONCE)
            if end == begin:
                time.sleep(_STEP_S)
                continue
            self._send(batch.take(slice(begin, end)))
            tell()
            begin = end

    @property
    def messages(self) -> int:
        """Sent to all topics so far."""
        return sum(sent.messages for sent in self.sent.values())

    def _send(self, batch: Messages) -> None:
        keys = batch.key.astype(">u8").tobytes()
        stamps = np.maximum(batch.time_ms, 0).tolist()  # of messages that stand before any time: the epoch
        topics = [self.topic_of[stage] for stage in batch.stage.tolist()]
        self.producer.send(zip(topics, _eights(keys), batch.value.tolist(), stamps, strict=True))
        for stage in np.unique(batch.stage).tolist():
            of_stage, sent = batch.stage == stage, self.sent[self.topic_of[stage]]
            sent.messages += int(of_stage.sum())
            sent.size_bytes += sum(map(len, batch.value[of_stage]))
            sent.unreadable += int((of_stage & ~batch.readable).sum())


def _eights(data: bytes) -> list[bytes]:
    return [data[at : at + 8] for at in range(0, len(data), 8)]
