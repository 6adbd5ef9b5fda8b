"""A daemon for a while, with everything that happens to one: `python -m tests.bench.soak [--minutes 20]` (`make soak`).

The synthetic world is sent over and over (new ids, time going on) to 3 topics of 4 partitions at a rate that varies,
with pauses and bursts. In the first part of the time the daemon is killed (SIGKILL, SIGTERM) and started again at
random moments, and so is the broker; in the rest one daemon lives on, so that its memory can be looked at. At the end
what is left is consumed with `--until end`. Prints a line every half minute, then what must hold: every message sent
was read once and ended in one outcome, every exit was as it should be, and the memory is flat. Exit code 1 otherwise.
"""

import argparse
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from jobs.demo import RUN_FILE
from jobs.synthetic_data import write
from streamctr.order import LAST_MS
from streamctr.schema import instant_text
from streamctr.synthetic import WorldConfig
from tests.bench.kafka_world import (
    PARTITIONS,
    STAGES,
    WAIT_S,
    Bench,
    BrokenError,
    Daemon,
    Events,
    check,
    folder_and_broker,
    newest,
    partition_of,
    setting,
    snapshots,
    wait_for,
)
from tests.kafka_broker import Broker

ROOTS = 40_000
"""Of one world; it lasts 1/50 of a day, so that every window of the run passes within a minute."""
AGO_MS = 86_400_000
"""How long ago the first world begins. A broker that starts forgets producers whose last record is stamped long ago,
and would take what they send again for new."""
TROUBLE = 0.6
"""The part of the time in which things are killed."""
RATES = (0, 300, 1_000, 2_000, 6_000)
"""Messages a second, drawn for so many seconds:"""
STRETCH_S = (5, 25)
LIFE_S = (10, 60)
"""Of a daemon that will be killed."""
DEAD_S = (2, 15)
"""Of the broker."""
NO_BROKER = 69
TERMINATED = 143
GROWTH, GROWTH_MB = 0.05, 30
"""How much more memory than in the beginning one daemon may hold in the end."""
SETS = ("users=200", "remember=30m", "funnel.click.observe=1m", "funnel.conversion.observe=10m")
SETS += ("funnel.conversion.window=30m", "tables.rows=2^12", "metrics.bucket=10m", "metrics.tick=10m")
SETS += ("model.towers=[32]", "training.threads=1", "snapshots.keep=3")
SNAPSHOTS = ("snapshots.every=5s", "snapshots.every_events=20000")


def worlds(folder: Path) -> Iterator[tuple[str, int, str, bytes]]:
    """Messages without end in the order of their times: stage, time, the root's id, line."""
    delays = {"click_delay": "10s", "click_window": "1m", "conversion_delay": "5m", "conversion_window": "30m"}
    seed, start_ms = 0, time.time_ns() // 1_000_000 - AGO_MS
    while True:
        world = {"seed": seed, "start": instant_text(start_ms), "roots": ROOTS, "days": 0.02, "users": 1000}
        write(str(folder), WorldConfig(**world, items=1000, rhythm=0, **delays), lambda _: None, compress=False)
        found = []
        for place, stage in enumerate(STAGES):
            for line in (folder / f"{stage}.jsonl").read_bytes().splitlines():
                message = orjson.loads(line)
                found.append((message["time_ms"], place, message["id"], line))
        found.sort(key=lambda event: event[:2])
        for time_ms, place, root, line in found:
            yield STAGES[place], time_ms, root, line
        seed, start_ms = seed + 1, found[-1][0] + 1000


class Feed(threading.Thread):
    """Sends worlds until it is told to stop; each message once, as long as it takes."""

    def __init__(self, servers: str, topics: dict[str, str], folder: Path, draw: Random) -> None:
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20, "log_level": 0}
        settings |= {"compression.type": "zstd", "message.timeout.ms": 1_800_000, "reconnect.backoff.max.ms": 1000}
        self._producer = Producer(settings)
        self._topics, self._folder, self._draw = topics, folder, draw
        self._over = threading.Event()
        self.sent = dict.fromkeys(topics.values(), 0)
        """Acknowledged, by topic."""
        self.given = 0
        self.rate = 0
        self.faults: list[str] = []

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - a thread that died would be taken for a pause
            self.faults.append(f"the producer failed: {error!r}")

    def stop(self) -> None:
        """No more; all that was sent is acknowledged on return."""
        self._over.set()
        self.join(timeout=WAIT_S)
        if left := self._producer.flush(WAIT_S):
            self.faults.append(f"{left} messages were never acknowledged")

    def _run(self) -> None:
        messages, until, due = worlds(self._folder), 0.0, 0.0
        at = time.monotonic()
        while not self._over.is_set():
            now = time.monotonic()
            if now >= until:
                self.rate, until = self._draw.choice(RATES), now + self._draw.uniform(*STRETCH_S)
            due, at = min(due + self.rate * (now - at), 2.0 * max(RATES)), now
            for _ in range(int(due)):
                self._send(*next(messages))
            due -= int(due)
            self._producer.poll(0.05)

    def _send(self, stage: str, time_ms: int, root: str, line: bytes) -> None:
        while not self._over.is_set():
            try:
                place = partition_of(root)
                self._producer.produce(
                    self._topics[stage], line, root.encode(), place, timestamp=time_ms, on_delivery=self._delivered
                )
                self.given += 1
                return
            except BufferError:  # the broker is away
                self._producer.poll(0.2)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.sent[message.topic()] += 1
        else:
            self.faults.append(f"a message was not taken: {error}")


@dataclass(frozen=True)
class Sample:
    """How it is at a moment."""

    second: float
    pid: int
    rss_mb: float
    lag: int
    """Messages that were sent and are in no snapshot yet."""


@dataclass
class Watch:
    """Keeps the daemon going, does what is planned, and looks at it."""

    bench: Bench
    feed: Feed
    run: Path
    sets: tuple[str, ...]
    draw: Random
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    """How often a daemon ended how."""
    faults: list[str] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    """Snapshots."""
    daemon: Daemon | None = None
    broker_back: float = 0.0
    """Second at which a broker that was killed is started again, or was."""

    @property
    def second(self) -> float:
        return time.monotonic() - self.began

    def keep_up(self) -> None:
        """Start the daemon where it does not run; an end that nobody asked for is right only without a broker."""
        if self.daemon is not None and not self.daemon.runs:
            self._ended(self.daemon, NO_BROKER)
        if self.daemon is None or not self.daemon.runs:
            check(len(self.faults) < 5, f"too much goes wrong: {self.faults}")
            self.daemon = self.bench.start("consume", self.run, self.sets)

    def stop(self, number: int) -> None:
        """End the daemon by a signal."""
        daemon = self.daemon
        if daemon is None or not daemon.runs:
            return
        daemon.send(number)
        self._ended(daemon, -number if number == signal.SIGKILL else TERMINATED)
        self.daemon = None

    def _ended(self, daemon: Daemon, wanted: int) -> None:
        code = daemon.wait(WAIT_S)
        self.ends[str(code)] = self.ends.get(str(code), 0) + 1
        away = self.second < self.broker_back + WAIT_S / 2
        if code == NO_BROKER:
            print(f"{self.second:7.0f} s  it gave up and is started again: {daemon.said(200)}", flush=True)
        if code != wanted and not (code == NO_BROKER and away):
            self.faults.append(f"{self.second:.0f} s: exit code {code}, not {wanted}: {daemon.said(300)}")
        elif code == NO_BROKER and not away:
            self.faults.append(f"{self.second:.0f} s: it gave up on a broker that is there: {daemon.said(300)}")

    def kill_broker(self) -> None:
        """And start it some time later."""
        self.bench.broker.kill()
        self.broker_back = self.second + self.draw.uniform(*DEAD_S)

    def look(self) -> None:
        """Once a second."""
        if self.samples and self.second < self.samples[-1].second + 1:
            return
        self.seen.update(snapshots(self.run))
        taken = newest(self.run)
        pid = self.daemon.pid if self.daemon is not None else 0
        self.samples.append(Sample(self.second, pid, rss_mb(pid), sum(self.feed.sent.values()) - taken))


def rss_mb(pid: int) -> float:
    """Resident memory of a process; 0 of none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmRSS")), "VmRSS: 0 kB")
    return int(line.split()[1]) / 1024


def plan(draw: Random, seconds: float, times: int) -> list[float]:
    """When the broker dies, in the part of the time in which things are killed."""
    span = seconds * TROUBLE / times
    return [place * span + draw.uniform(0.2, 0.9) * span for place in range(times)]


def soak(watch: Watch, seconds: float, broker_kills: int) -> None:
    """Until the time is over."""
    draw, broker = watch.draw, watch.bench.broker
    left = plan(draw, seconds, broker_kills)
    dies, said = draw.uniform(*LIFE_S), 0.0
    while watch.second < seconds:
        now = watch.second
        if broker.process is None and now >= watch.broker_back:
            broker.start()
            watch.broker_back = watch.second
        elif left and now >= left[0] and broker.process is not None:
            left.pop(0)
            watch.kill_broker()
        if now >= dies and now < seconds * TROUBLE:
            watch.stop(draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
            dies = now + draw.uniform(*LIFE_S)
        if broker.process is not None:
            watch.keep_up()
        watch.look()
        if now >= said:
            said += 30
            tell(watch)
        time.sleep(0.1)


def tell(watch: Watch) -> None:
    one, sent = watch.samples[-1], sum(watch.feed.sent.values())
    print(
        f"{one.second:7.0f} s  {watch.feed.rate:5,} /s  {sent:10,} sent  {one.lag:9,} behind  {one.rss_mb:6.0f} MB  "
        f"{sum(watch.ends.values()):3} ends",
        flush=True,
    )


def memory(samples: list[Sample]) -> dict[str, float]:
    """Of the last daemon, once it was warm: its memory in the beginning and the end of that time, and its slope."""
    pid = samples[-1].pid
    life = [sample for sample in samples if sample.pid == pid and sample.rss_mb]
    warm = life[len(life) // 3 :]
    part = max(1, len(warm) // 4)
    first, last = (statistics.median(s.rss_mb for s in some) for some in (warm[:part], warm[-part:]))
    slope = np.polyfit([s.second / 60 for s in warm], [s.rss_mb for s in warm], 1)[0] if len(warm) > 2 else 0.0
    return {
        "max_mb": round(max(sample.rss_mb for sample in samples)),
        "warm_minutes": round((warm[-1].second - warm[0].second) / 60, 1),
        "first_mb": round(first),
        "last_mb": round(last),
        "mb_a_minute": round(float(slope), 2),
    }


def ends_of(broker: Broker, topics: list[str]) -> dict[str, int]:
    """How many messages the topics hold, as the broker says."""
    consumer = KafkaConsumer(bootstrap_servers=broker.servers, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        ends = consumer.end_offsets(places, timeout_ms=10_000)
        return {topic: sum(end for place, end in ends.items() if place.topic == topic) for topic in topics}
    finally:
        consumer.close(autocommit=False, timeout_ms=3_000)


def wrong(
    watch: Watch, topics: dict[str, str], events: dict[str, dict[str, int]], memory_: dict[str, float]
) -> list[str]:
    """What does not hold, in words."""
    faults, held = [*watch.faults, *watch.feed.faults], ends_of(watch.bench.broker, list(topics.values()))
    for stage, counts in events.items():
        sent, in_topic = watch.feed.sent[topics[stage]], held[topics[stage]]
        if not sent == in_topic == counts["read"]:
            faults.append(f"{stage}: {sent:,} sent, {in_topic:,} in the topic, {counts['read']:,} read")
        if sum(counts.values()) != 2 * counts["read"]:
            faults.append(f"{stage}: the outcomes do not add up to what was read: {counts}")
        if counts["duplicate"] or counts["rejected"]:
            faults.append(f"{stage}: nothing was sent twice or malformed: {counts}")
    if memory_["last_mb"] > (1 + GROWTH) * memory_["first_mb"] + GROWTH_MB:
        faults.append(f"the memory grows: {memory_}")
    return faults


def report(watch: Watch, topics: dict[str, str], final: Callable[[], dict[str, Any]]) -> list[str]:
    """Consume what is left, and print what came of it; what does not hold."""
    told = memory(watch.samples)
    lags = [sample.lag for sample in watch.samples]
    watch.stop(signal.SIGTERM)
    result = final()
    faults = wrong(watch, topics, result["events"], told)
    last = snapshots(watch.run)[-1]
    print(f"exit codes of the daemon: {watch.ends}; {len(watch.seen)} snapshots seen, the newest {last}")
    print(f"lag: median {statistics.median(lags):,.0f}, at most {max(lags):,} messages")
    print(f"memory: {told}")
    for stage, counts in result["events"].items():
        print(f"{stage:<12}{', '.join(f'{count:,} {name}' for name, count in counts.items() if count)}")
    print("\n".join(f"WRONG: {fault}" for fault in faults) or "all holds")
    ends = {"ends": watch.ends, "snapshots": len(watch.seen), "lag_max": max(lags), **told, "wrong": faults}
    print(orjson.dumps({"events": result["events"], **ends}).decode())
    return faults


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--client", default="kafka-python")
    asked = parser.parse_args()
    draw = Random(asked.seed)
    with folder_and_broker() as (folder, broker):
        (folder / "world").mkdir()
        bench = Bench(folder, broker, Events(RUN_FILE, folder / "world", "the synthetic world"), ())
        topics = {stage: broker.topic(PARTITIONS, stage, message_timestamp_after_max_ms=LAST_MS) for stage in STAGES}
        kafka = {"servers": broker.servers, "topics": topics, "client": asked.client, "buffer_bytes": 1 << 23}
        sets = (*SETS, *SNAPSHOTS, setting(kafka | {"idle": "10s", "silence": "3s"}))
        feed = Feed(broker.servers, topics, folder / "world", Random(asked.seed + 1))
        try:
            feed.start()
            wait_for(lambda: sum(feed.sent.values()) or feed.faults, "the first messages")
            watch = Watch(bench, feed, folder / "run", sets, draw)
            soak(watch, 60 * asked.minutes, max(2, int(asked.minutes / 4)))
            feed.stop()
            faults = report(watch, topics, lambda: bench.consume(watch.run, sets).ended())
        except BrokenError as error:
            faults = [str(error)]
            print(f"WRONG: {error}")
        finally:
            bench.close()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
