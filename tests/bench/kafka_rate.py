"""What topics cost beside files and beside a client alone: `python -m tests.bench.kafka_rate` (`make bench-kafka`).

KuaiRand's events (else the synthetic world's) lie in files, and in 3 topics of 4 partitions on a broker that this
starts. Passes over all of them alternate, so that a busy machine slows all alike: a bare loop of each client that
takes messages and drops them, and one of the port that the source reads through; the front half (decode, order, join,
encode) fed by files and by each client; everything with learning, fed likewise. Connecting is not timed. Prints the
medians of all rounds but the first, which warms up, and one JSON line with the ratios; exit code 1 where one is not as
wanted.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import TopicPartition as ConfluentPartition
from kafka import KafkaConsumer, TopicPartition

from connectors.files import FileSource, find_files
from connectors.kafka.client import open_client
from connectors.kafka.source import KafkaSource
from jobs import wiring
from jobs.owner import tuned
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from streamctr.ports import Source
from tests.bench.kafka_world import PARTITIONS, STAGES, Bench, check, events_in, folder_and_broker, setting

CLIENTS = ("kafka-python", "confluent")
RECORDS = 5000
FETCH_BYTES = 1 << 20
SILENT_S = 30
WANTED = {
    "front_to_bare_kafka_python": (">=", 0.8),
    "front_confluent_to_front_files": (">=", 0.8),
    "cpu_to_replay_and_bare_kafka_python": ("<=", 1.1),
    "cpu_to_replay_and_bare_confluent": ("<=", 1.1),
}


class Cost(NamedTuple):
    """Of a pass: seconds of the clock and of all threads' work, and what it ended with."""

    seconds: float
    cpu: float
    weights: str = ""


def timed(work: Callable[[], Any]) -> Cost:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - clock, time.process_time() - cpu)


class Passes:
    """Passes over all events, each from the first to the last."""

    def __init__(self, bench: Bench, topics: list[str], kafka: dict[str, Any]) -> None:
        self._bench, self._topics = bench, topics
        sets = [bench.events.files, *bench.sets, setting(kafka)]
        self._config = load_run(bench.events.run_file, sets).config
        self.messages = 0

    def all(self) -> dict[str, Callable[[], Cost]]:
        """By name; those of a kind stand together."""
        found: dict[str, Callable[[], Cost]] = {
            "bare kafka-python": self.bare_kafka_python,
            "bare confluent": self.bare_confluent,
        }
        found |= {f"port, {client}": partial(self.port, client) for client in CLIENTS}
        for kind, learns in (("front", False), ("learning", True)):
            found[f"{kind}, files"] = partial(self.piped, self._files, learns)
            for client in CLIENTS:
                found[f"{kind}, {client}"] = partial(self.piped, partial(self._kafka, client), learns)
        return found

    def bare_kafka_python(self) -> Cost:
        """`poll` and nothing else."""
        consumer = KafkaConsumer(
            bootstrap_servers=self._bench.broker.servers,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_poll_records=RECORDS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        places = [TopicPartition(topic, number) for topic in self._topics for number in range(PARTITIONS)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        try:
            return timed(
                lambda: self._drained(
                    lambda: sum(map(len, consumer.poll(timeout_ms=300, max_records=RECORDS).values()))
                )
            )
        finally:
            consumer.close(autocommit=False, timeout_ms=3_000)

    def bare_confluent(self) -> Cost:
        """`consume` and nothing else."""
        consumer = ConfluentConsumer(
            {
                "bootstrap.servers": self._bench.broker.servers,
                "group.id": "bare",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 10,
                "max.partition.fetch.bytes": FETCH_BYTES,
            }
        )
        consumer.assign(
            [ConfluentPartition(topic, number, 0) for topic in self._topics for number in range(PARTITIONS)]
        )
        try:
            return timed(lambda: self._drained(lambda: len(consumer.consume(RECORDS, 0.3))))
        finally:
            consumer.close()

    def port(self, client: str) -> Cost:
        """`poll` of the port that the source reads through, which unpacks messages by other means than the client."""
        config = self._config.kafka.model_copy(update={"client": client})
        with closing(open_client(config, self._topics)) as opened:
            opened.go_to(opened.beginnings())
            return timed(lambda: self._drained(lambda: sum(len(some.offsets) for some in opened.poll(300))))

    def _drained(self, take: Callable[[], int]) -> None:
        taken, heard = 0, time.monotonic()
        while taken < self.messages:
            came = take()
            taken += came
            heard = time.monotonic() if came else heard
            check(time.monotonic() < heard + SILENT_S, f"{taken:,} of {self.messages:,} messages came, then none")

    def piped(self, opened: Callable[[RunConfig], Source], learns: bool) -> Cost:
        """Through the pipeline, to its end; nothing is kept."""
        with TemporaryDirectory() as name, closing(opened(self._config)) as source, tuned():  # as the program is
            outputs = replace(wiring.Outputs.files(self._config, RunDirectory(Path(name))), samples=None, scores=None)
            pipeline = wiring.build(self._config, source, outputs, wiring.Limits(joins_only=not learns))
            cost = timed(lambda: self._to_the_end(pipeline))
            check(pipeline.events_read == self.messages, f"{pipeline.events_read:,} events were read")
            back = pipeline.parts.back
            return cost if back is None else cost._replace(weights=back.trainer.weights_sha256())

    @staticmethod
    def _to_the_end(pipeline: Any) -> None:
        while pipeline.advance():
            pass
        pipeline.finish()

    @staticmethod
    def _files(config: RunConfig) -> Source:
        return FileSource(find_files(config.files, config.tree, mixed=False), config.files, config.csv)

    @staticmethod
    def _kafka(client: str, config: RunConfig) -> Source:
        return KafkaSource(config.kafka.model_copy(update={"client": client}), config.tree, False, "end")


def ratios(costs: dict[str, Cost]) -> dict[str, float]:
    """Of one round."""
    found = {
        "front_to_bare_kafka_python": costs["bare kafka-python"].seconds / costs["front, kafka-python"].seconds,
        "front_confluent_to_front_files": costs["front, files"].seconds / costs["front, confluent"].seconds,
    }
    for client in CLIENTS:
        apart = costs["learning, files"].cpu + costs[f"bare {client}"].cpu
        name = f"cpu_to_replay_and_bare_{client.replace('-', '_')}"
        found[name] = costs[f"learning, {client}"].cpu / apart
        # not judged: the same against the port's own poll, which may be cheaper than the client's
        by_port = costs["learning, files"].cpu + costs[f"port, {client}"].cpu
        found[name.replace("bare", "port")] = costs[f"learning, {client}"].cpu / by_port
        found[f"front_to_port_{client.replace('-', '_')}"] = (
            costs[f"port, {client}"].seconds / costs[f"front, {client}"].seconds
        )
    return found


def measured(passes: Passes, rounds: int) -> list[dict[str, Cost]]:
    """The costs of all passes, round by round, every other round backwards."""
    found = []
    for number in range(rounds + 1):
        turns = list(passes.all().items())
        costs = {name: work() for name, work in (turns if number % 2 else turns[::-1])}
        weights = {cost.weights for cost in costs.values()} - {""}
        check(len(weights) == 1, f"passes ended with different weights: {weights}")
        print(f"round {number}: {sum(cost.seconds for cost in costs.values()):.0f} s", file=sys.stderr, flush=True)
        found.append(costs)
    return found[1:]


def report(messages: int, rounds: list[dict[str, Cost]]) -> list[str]:
    """Print it; the ratios that are not as wanted."""
    print(f"{'':<24}{'messages/s':>12}{'CPU us/message':>17}")
    for name in rounds[0]:
        seconds, cpu = (statistics.median(costs[name][at] for costs in rounds) for at in (0, 1))
        print(f"{name:<24}{messages / seconds:>12,.0f}{1e6 * cpu / messages:>17.1f}")
    each = [ratios(costs) for costs in rounds]
    medians = {name: round(statistics.median(one[name] for one in each), 3) for name in each[0]}
    holds = {">=": float.__ge__, "<=": float.__le__}
    broken = [name for name, (sign, bound) in WANTED.items() if not holds[sign](medians[name], bound)]
    wanted = {name: f"{sign} {bound}" for name, (sign, bound) in WANTED.items()}
    line = {**medians, "wanted": wanted, "broken": broken, "messages": messages, "rounds": len(rounds)}
    print(orjson.dumps(line).decode())
    return broken


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with folder_and_broker() as (folder, broker):
        (folder / "events").mkdir()
        bench = Bench(folder, broker, events_in(folder / "events"))
        try:
            topics = {stage: f"rate-{stage}" for stage in STAGES}
            kafka = {"servers": broker.servers, "topics": topics, "max_poll_records": RECORDS}
            passes = Passes(bench, list(topics.values()), kafka | {"fetch_bytes": FETCH_BYTES})
            passes.messages = bench.produce(kafka)
            return 1 if report(passes.messages, measured(passes, asked.rounds)) else 0
        finally:
            bench.close()


if __name__ == "__main__":
    sys.exit(main())
