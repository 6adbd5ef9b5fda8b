"""Whether topics teach what files teach, whatever happens: `python -m tests.bench.crash_kafka` (`make crash-kafka`).

KuaiRand's events (else the synthetic world's) lie in 3 topics of 4 partitions on a broker that this starts. Every case
must end with the weights, outcomes and figures of a replay of the files: messages read one or thousands at a time, by
either client; 20 kills with SIGKILL drawn by events read and 3 inside the writing of snapshots; a broker that is killed
twice; `join` and `learn` as two daemons, both killed; a run that is taken over; malformed messages; one partition with
ten times the others' backlog. Prints a line a case; exit code 1 where one failed. `--quick` takes fewer of each; words
behind it choose the cases whose names hold one of them.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from kafka.errors import KafkaError

from streamctr.errors import StreamctrError
from streamctr.schema import instant_text
from tests.bench.kafka_poison import Poisoned, poison, takeover
from tests.bench.kafka_skew import Spread, skew
from tests.bench.kafka_world import (
    SAME,
    STAGES,
    Bench,
    Daemon,
    check,
    events_in,
    folder_and_broker,
    logged,
    newest,
    same,
    setting,
)

EVERY = "snapshots.every_events=3000"
CLIENTS = ("kafka-python", "confluent")
SIZES: dict[str, list[tuple[int, int]]] = {
    "kafka-python": [(5000, 1 << 20), (7, 2_000), (500, 1 << 16), (5000, 2_000)],
    "confluent": [(5000, 1 << 20), (7, 2_000), (500, 1 << 16)],
}
"""`max_poll_records` and `fetch_bytes`."""
NO_BROKER = 69
ONE_BY_ONE = 20
"""The part of the events that is read message by message is one in so many."""
BROKER_DEAD_S = 3
MOST_STARTS = 10


@dataclass(frozen=True)
class Reference:
    """The events in topics, and what a replay of their files learned from them."""

    kafka: dict[str, Any]
    replayed: dict[str, Any]

    @property
    def read(self) -> int:
        return sum(counts["read"] for counts in self.replayed["events"].values())

    def sets(self, **kafka: Any) -> list[str]:
        """Settings by which to consume them."""
        return [setting(self.kafka | kafka)]


def prepared(bench: Bench) -> Reference:
    """Send the events and replay their files."""
    kafka = {"servers": bench.broker.servers, "topics": {stage: f"bench-{stage}" for stage in STAGES}}
    sent = bench.produce(kafka)
    replayed = bench.start("replay", bench.run("replayed"), ()).ended()
    reference = Reference(kafka, replayed)
    check(sent == reference.read, f"{sent:,} messages were sent, {reference.read:,} events replayed")
    return reference


def sizes(bench: Bench, reference: Reference, client: str, records: int, fetch_bytes: int) -> str:
    """All of it in one go."""
    sets = reference.sets(client=client, max_poll_records=records, fetch_bytes=fetch_bytes)
    result = bench.consume(bench.run("whole"), sets).ended()
    same(result, reference.replayed)
    return f"{result['seconds']:.1f} s"


def one_by_one(bench: Bench, reference: Reference, client: str) -> str:
    """Messages read one at a time, each a block of its own: only so far, for it takes long."""
    events = bench.events.mixed()
    until = instant_text(events[len(events) // ONE_BY_ONE][0])
    early = bench.start("replay", bench.run("early"), (), "--until", until).ended()
    sets = reference.sets(client=client, max_poll_records=1)
    result = bench.start("consume", bench.run("one"), sets, "--until", until).ended()
    same(result, early, [key for key in SAME if key != "events"])  # of which more or less was read behind that time
    return f"until {until}, {early['roots']['final']:,} roots, {result['seconds']:.1f} s"


def moments(draw: Random, number: int, read: int) -> list[str]:
    """Where to kill: one draw in each part of the events, so that few starts share a snapshot; and in snapshots."""
    span = (read - 10_000) // number
    found = [f"events:{5_000 + place * span + draw.randrange(span)}" for place in range(number)]
    found += [f"fault:{place}:{read * part // 4}" for part, place in enumerate(("arrays", "rename", "retention"), 1)]
    return sorted(found, key=lambda moment: int(moment.split(":")[-1]))


def kills(bench: Bench, reference: Reference, client: str, number: int) -> str:
    """Killed with SIGKILL, and started with other sizes each time."""
    draw, run, again = Random(20), bench.run("killed"), 0
    planned = moments(draw, number, reference.read)

    def sets() -> list[str]:
        records, fetch_bytes = draw.choice((50, 500, 5000)), draw.choice((2_000, 1 << 16, 1 << 20))
        return [*reference.sets(client=client, max_poll_records=records, fetch_bytes=fetch_bytes), EVERY]

    for moment in planned:
        daemon = bench.consume(run, sets(), moment)
        daemon.ended(-signal.SIGKILL)
        again += daemon.killed_at() - newest(run)
    same(bench.consume(run, sets()).ended(), reference.replayed)
    starts = {line["snapshot"] for line in logged(run, "resumed")}
    check(len(starts) >= 0.75 * len(planned), f"only {len(starts)} different snapshots were resumed from")
    return f"{len(planned)} kills, {len(starts)} different snapshots resumed from, {again:,} events read again"


def broker_killed(bench: Bench, reference: Reference, client: str) -> str:
    """The broker is killed at a third and at two thirds, and started again; a daemon that gives up is started again."""
    run, starts = bench.run("broker"), 0
    kafka = reference.sets(client=client, max_poll_records=200, fetch_bytes=20_000, buffer_bytes=1 << 17, silence="1s")
    left, daemon = [reference.read * third // 3 for third in (1, 2)], bench.consume(run, [*kafka, EVERY])
    while daemon.runs or (daemon.wait() == NO_BROKER and starts < MOST_STARTS):
        if not daemon.runs:
            daemon, starts = bench.consume(run, [*kafka, EVERY]), starts + 1
        if left and newest(run) >= left[0]:
            left.pop(0)
            bench.broker.kill()
            time.sleep(BROKER_DEAD_S)
            bench.broker.start()
        time.sleep(0.02)
    result = daemon.ended()
    check(not left, "it ended before the broker was killed twice")
    same(result, reference.replayed)
    return f"broker dead for {BROKER_DEAD_S} s twice, {starts} restarts of the daemon"


def halves(bench: Bench, reference: Reference, client: str, number: int) -> str:
    """`join` and `learn` side by side, each killed so many times and started again."""
    run = bench.run("halves")
    sets = [*reference.sets(client=client, samples=f"{run.name}-samples"), EVERY]
    starting = {
        "join": partial(bench.start, "join", run, sets, "--until", "end"),
        "learn": partial(bench.start, "learn", run, sets, "--until", "end"),
    }
    places = range(1, number + 1)
    plans = {
        "join": [f"encoded:{reference.read * place // (number + 1)}" for place in places],
        "learn": [f"rows:{reference.read * place // (number + 2)}" for place in places],
    }
    daemons = {"join": _next(starting["join"], plans["join"])}
    killed = dict.fromkeys(starting, 0)
    results: dict[str, dict[str, Any]] = {}
    while len(results) < len(starting):
        if "learn" not in daemons and newest(run, "joined"):
            daemons["learn"] = _next(starting["learn"], plans["learn"])
        for name, daemon in list(daemons.items()):
            if name in results or daemon.runs:
                continue
            if daemon.wait() == -signal.SIGKILL:
                killed[name] += 1
                daemons[name] = _next(starting[name], plans[name])
            else:
                results[name] = daemon.ended()
        check(len(daemons) > 1 or "join" not in results, "the join left no snapshot")
        time.sleep(0.05)
    same(results["learn"], reference.replayed)
    check(results["join"]["events"] == reference.replayed["events"], "the join's outcomes differ")
    check(min(killed.values()) > 0, f"kills that came too late prove nothing: {killed}")
    return f"join killed {killed['join']} times, learn {killed['learn']}; {results['join']['rows']:,} rows"


def _next(start: Callable[..., Daemon], plan: list[str]) -> Daemon:
    return start(moment=plan.pop(0) if plan else "never")


Case = tuple[str, Callable[[], str]]


def cases(bench: Bench, reference: Reference, quick: bool) -> Iterator[Case]:
    """All of them, by name."""
    clients = CLIENTS[:1] if quick else CLIENTS
    number = 5 if quick else 20
    for client in CLIENTS:
        for records, fetch_bytes in SIZES[client][: 1 if quick else None]:
            name = f"{client}, {records} records, {fetch_bytes:,} bytes"
            yield name, partial(sizes, bench, reference, client, records, fetch_bytes)
    for client in clients:
        yield f"{client}, 1 record", partial(one_by_one, bench, reference, client)
        yield f"{number} kills, {client}", partial(kills, bench, reference, client, number)
        yield f"broker killed twice, {client}", partial(broker_killed, bench, reference, client)
        yield f"join and learn, {client}", partial(halves, bench, reference, client, 1 if quick else 5)
    poisoned = Poisoned(bench)
    for client in clients:
        yield f"malformed messages, {client}", partial(poison, bench, poisoned, client, 2 if quick else 5)
        yield f"taken over, {client}", partial(takeover, bench, poisoned, client)
    spread = Spread(bench)
    for client in clients:
        yield f"skew, {client}", partial(skew, bench, spread, client, reference.replayed)


def tried(case: Callable[[], str]) -> tuple[bool, str]:
    """Whether it holds, with its figures, or what is wrong."""
    try:
        return True, case()
    except (AssertionError, KafkaError, OSError, StreamctrError, LookupError, ValueError) as error:
        return False, f"{type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("words", nargs="*", default=[""])
    asked = parser.parse_args()
    failed, began = 0, time.monotonic()
    with folder_and_broker() as (folder, broker):
        (folder / "events").mkdir()
        bench = Bench(folder, broker, events_in(folder / "events"))
        try:
            reference = prepared(bench)
            print(f"{reference.read:,} events of {bench.events.name}; weights {reference.replayed['weights_sha256']}")
            for name, case in cases(bench, reference, asked.quick):
                if not any(word in name for word in asked.words):
                    continue
                at = time.monotonic()
                good, words = tried(case)
                failed += not good
                verdict = "ok" if good else "FAILED"
                print(f"{verdict:<7}{name:<44}{time.monotonic() - at:6.0f} s  {words}", flush=True)
        finally:
            bench.close()
    print(f"{failed} failed; {time.monotonic() - began:,.0f} s in all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
