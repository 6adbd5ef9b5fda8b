"""Malformed messages of ten kinds among good ones, and a run with them that another daemon takes over."""

import signal
from functools import cached_property
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition

from tests.bench.kafka_world import (
    PARTITIONS,
    Bench,
    Broker,
    Record,
    check,
    logged,
    newest,
    partition_of,
    same,
    send,
    setting,
    snapshots,
    wait_for,
)

EVERY = 100
"""Good messages between two malformed ones."""
MOST_BYTES = 20_000
SAME = ("weights_sha256", "roots", "judged", "judged_from", "slices", "steps")
"""What a run with malformed messages and one without agree in; the numbers read differ."""
FENCED = 79
OWN = "streamctr-"
"""What the names of a dead letter's own headers begin with."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""
Letter = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]
"""Value, key, headers."""


def malformed(kind: int, line: bytes) -> bytes | None:
    """An impression's line, spoilt in one of ten ways."""
    good = orjson.loads(line)
    number = "duration_ms" if "duration_ms" in good else "price"
    values: tuple[bytes | None, ...] = (
        b"nothing of the kind",
        orjson.dumps(good | {number: "cheap"}),
        orjson.dumps({name: value for name, value in good.items() if name != "id"}),
        orjson.dumps(good | {"pad": "x" * (MOST_BYTES + 10_000)}),
        None,
        line.replace(b'"id":"', b'"id":"\xff\xfe'),
        orjson.dumps(good | {"time_ms": good["time_ms"] // 1000}),
        orjson.dumps(good | {"time_ms": -1}),
        orjson.dumps(good | {"type": "view"}),
        line[: len(line) // 2],
    )
    return values[kind]


class Poisoned:
    """One mixed topic with the events and 1 % malformed messages, and the events in a file; made when first used."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._topic = ""
        self.file = bench.folder / "mixed.jsonl"
        self._events = 0

    @cached_property
    def malformed(self) -> dict[Place, Letter]:
        """Those messages by their places; sends everything."""
        events = self._bench.events.mixed()
        self.file.write_bytes(b"\n".join(line for *_, line in events) + b"\n")
        impression = next(line for *_, line in events if line.startswith(b'{"type":"impression"'))
        records, bad = [], {}
        for number, (time_ms, root, line) in enumerate(events):
            records.append(Record(line, root.encode(), partition_of(root), time_ms))
            if line.startswith(b'{"type":"impression"'):
                impression = line
            if number % EVERY == EVERY // 2:
                kind = number // EVERY % 10
                headers = (("kind", str(kind).encode()), ("trace", number.to_bytes(4, "big")))
                key = b"\x00key %d" % number
                bad[len(records)] = kind
                records.append(Record(malformed(kind, impression), key, number // EVERY % PARTITIONS, time_ms, headers))
        self._topic = self._bench.broker.topic(PARTITIONS, "mixed")
        offsets = send(self._bench.broker, self._topic, records)
        self._events = len(events)
        return {
            (self._topic, records[at].partition, offsets[at]): (records[at].value, records[at].key, records[at].headers)
            for at in bad
        }

    @cached_property
    def replayed(self) -> dict[str, Any]:
        """What the events alone teach."""
        check(self.malformed, "nothing was sent")
        sets = ("stage=type", f"files={self.file}")
        return self._bench.start("replay", self._bench.run("clean"), sets).ended()

    def sets(self, client: str, letters: str) -> list[str]:
        """Settings by which to consume them, dead letters going to a topic."""
        check(self.malformed, "nothing was sent")
        kafka = {"servers": self._bench.broker.servers, "topic": self._topic, "client": client}
        kafka |= {"max_message_bytes": MOST_BYTES, "dead_letters": letters, "max_poll_records": 500}
        return ["stage=type", f"files={self.file}", setting(kafka), "snapshots.every_events=3000"]

    def verify(self, result: dict[str, Any]) -> None:
        """The model is that of the events alone, and each malformed message was counted.

        Raises:
            BrokenError: it is not.
        """
        same(result, self.replayed, SAME)
        counts, clean = result["events"], self.replayed["events"]
        for stage in clean:
            check(counts[stage]["joined"] == clean[stage]["joined"], f"{stage}: other events were joined")
        rejected = sum(stage["rejected"] for stage in counts.values())
        check(rejected == len(self.malformed), f"{rejected} messages were rejected, not {len(self.malformed)}")
        read = sum(stage["read"] for stage in counts.values())
        check(read == self._events + rejected, f"{read:,} messages were read, not {self._events + rejected:,}")


def letters_of(broker: Broker, topic: str) -> list[tuple[Place, Letter]]:
    """All committed dead letters of a topic, by the places of their messages."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
    place, found = TopicPartition(topic, 0), []
    consumer.assign([place])
    consumer.seek(place, 0)
    end = consumer.end_offsets([place], timeout_ms=10_000)[place]
    while consumer.position(place, timeout_ms=10_000) < end:
        for record in consumer.poll(timeout_ms=500, max_records=1000).get(place, []):
            about = dict(record.headers)
            message = (about[f"{OWN}topic"].decode(), int(about[f"{OWN}partition"]), int(about[f"{OWN}offset"]))
            headers = tuple(header for header in record.headers if not header[0].startswith(OWN))
            found.append((message, (record.value, record.key, headers)))
    consumer.close(autocommit=False, timeout_ms=3_000)
    return found


def _all_there(found: list[tuple[Place, Letter]], wanted: dict[Place, Letter]) -> str:
    """In words, that each malformed message is there as it was.

    Raises:
        BrokenError: it is not.
    """
    by_place = dict(found)
    missing, strange = wanted.keys() - by_place.keys(), by_place.keys() - wanted.keys()
    check(not missing, f"{len(missing)} malformed messages are lost, such as {min(missing, default=None)}")
    check(not strange, f"{len(strange)} letters are of good messages, such as {min(strange, default=None)}")
    changed = sorted({place for place, letter in found if letter != wanted[place]})
    check(not changed, f"{len(changed)} letters are not as their message was, such as {changed[:1]}")
    return f"{len(by_place):,} malformed messages kept, {len(found) - len(by_place)} of them twice"


def poison(bench: Bench, poisoned: Poisoned, client: str, number: int) -> str:
    """Killed so many times, all malformed messages are in the dead-letter topic, and none taught anything."""
    run, letters = bench.run("poisoned"), bench.broker.topic(1, "letters")
    sets = poisoned.sets(client, letters)
    read = sum(stage["read"] for stage in poisoned.replayed["events"].values())
    for place in range(1, number + 1):
        # while events are learned; and with a snapshot whose letters are out, but which does not count yet
        kind = "events" if place % 2 else "fault:rename"
        bench.consume(run, sets, f"{kind}:{read * place // (number + 1)}").ended(-signal.SIGKILL)
    poisoned.verify(bench.consume(run, sets).ended())
    kept = _all_there(letters_of(bench.broker, letters), poisoned.malformed)
    return f"{kept}; killed {number} times"


def takeover(bench: Bench, poisoned: Poisoned, client: str) -> str:
    """The older daemon is stopped, a newer takes the run over, the older goes on and must find out by itself."""
    run, letters = bench.run("taken"), bench.broker.topic(1, "letters")
    sets = poisoned.sets(client, letters)
    older = bench.consume(run, sets)
    wait_for(lambda: len(snapshots(run)) >= 2 or not older.runs, "the older one's snapshots")
    check(older.runs, f"the older one ended: {older.said()}")
    older.send(signal.SIGSTOP)
    owned, taken = snapshots(run)[-1]
    newer = bench.consume(run, sets)
    wait_for(
        lambda: sum(epoch > owned for epoch, _ in snapshots(run)) >= 2 or not newer.runs, "the newer one's snapshots"
    )
    check(newer.runs, f"the newer one ended: {newer.said()}")
    newer.send(signal.SIGSTOP)  # so that all that changes now is the older one's doing
    before = snapshots(run), letters_of(bench.broker, letters)
    older.send(signal.SIGCONT)
    older.ended(FENCED)
    after = snapshots(run), letters_of(bench.broker, letters)
    check(before[0] == after[0], f"the older one left snapshots: {sorted(set(after[0]) - set(before[0]))}")
    check(before[1] == after[1], f"the older one left {len(after[1]) - len(before[1])} dead letters")
    newer.send(signal.SIGCONT)
    poisoned.verify(newer.ended())
    kept = _all_there(letters_of(bench.broker, letters), poisoned.malformed)
    starts = [line["taken"] for line in logged(run, "resumed")]
    check(starts and starts[0] >= taken, f"the newer one went on from {starts}, not from {taken:,}")
    return f"older stopped at {taken:,}, exit code {FENCED}; newer ended at {newest(run):,}; {kept}"
