"""One partition with ten times the others' backlog: what waits for its turn stays as little as where all are even."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from tests.bench.kafka_world import PARTITIONS, STAGES, Bench, Record, check, partition_of, same, send, setting

TIMES = 10
"""How much longer the first partition's backlog is than each of the others'."""
PARTS = TIMES + PARTITIONS - 1
MOST = 1.2
"""Of the even case's bytes."""
BUFFER_BYTES = 1 << 22


class Spread:
    """The events in topics three times: even, one partition ten times as dense, and one that begins much earlier."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @cached_property
    def topics(self) -> dict[str, dict[str, str]]:
        """By the way in which they are spread; sends them when first used."""
        lines = {stage: self._bench.events.lines(stage) for stage in STAGES}
        shown = [orjson.loads(line) for line in lines["impression"]]
        since: dict[str, int] = {}
        for message in shown:
            since.setdefault(message["id"], message["time_ms"])
        seam_ms = np.quantile([message["time_ms"] for message in shown], 1 - PARTITIONS / PARTS)

        def dense(root: str) -> int:
            return max(0, partition_of(root, PARTS) - TIMES + 1)

        def early(root: str) -> int:
            return partition_of(root) if since.get(root, 0) >= seam_ms else 0

        ways: dict[str, Callable[[str], int]] = {"even": partition_of, "dense": dense, "early": early}
        return {way: {stage: self._sent(lines[stage], place, way) for stage in STAGES} for way, place in ways.items()}

    def _sent(self, lines: list[bytes], place: Callable[[str], int], way: str) -> str:
        topic = self._bench.broker.topic(PARTITIONS, way)
        messages = ((line, orjson.loads(line)) for line in lines)
        send(
            self._bench.broker,
            topic,
            (Record(line, m["id"].encode(), place(m["id"]), m["time_ms"]) for line, m in messages),
        )
        return topic


def skew(bench: Bench, spread: Spread, client: str, replayed: dict[str, Any]) -> str:
    """The same weights each way, and at most `MOST` of the even case's bytes that wait."""
    peaks: dict[str, dict[str, int]] = {}
    for way, topics in spread.topics.items():
        kafka = {"servers": bench.broker.servers, "topics": topics, "client": client, "buffer_bytes": BUFFER_BYTES}
        file = bench.folder / "peak.json"
        file.unlink(missing_ok=True)
        daemon = bench.consume(bench.run(way), [setting(kafka | {"fetch_bytes": 1 << 16})], f"peak:{file}")
        same(daemon.ended(), replayed)
        peaks[way] = orjson.loads(file.read_bytes())
    told = {way: f"{peak['together'] / 1e6:.2f} MB ({peak['orderer'] / 1e6:.2f})" for way, peak in peaks.items()}
    words = ", ".join(f"{way} {text}" for way, text in told.items())
    for way, peak in peaks.items():
        ratio = peak["together"] / peaks["even"]["together"]
        check(ratio <= MOST, f"{way}: {ratio:.2f} of the even case's bytes wait, at most {MOST}: {words}")
    return f"waiting at most (in the orderer): {words}"
