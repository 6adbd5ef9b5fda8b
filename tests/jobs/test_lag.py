"""How far a run is behind its topics, in records and in event time."""

from typing import NamedTuple

import numpy as np
import pytest

from connectors.memory import MemoryLog
from jobs.console import Call
from jobs.consume import consume
from jobs.lag import Watched, report_of
from jobs.replay import Request, replay
from jobs.runfile import RunFile
from jobs.yamlmarks import MistakesError
from streamctr.errors import ConfigError
from streamctr.events import EventBatch
from streamctr.order import Orderer

START_MS = 1_650_000_000_000  # 2022-04-15T05:20:00Z


class At(NamedTuple):
    place: tuple[str, int]
    next: int
    end: int


def events(*seconds):
    n = len(seconds)
    times_ms = START_MS + 1000 * np.array(seconds, np.int64)
    return EventBatch(
        times_ms, np.zeros(n, np.int64), np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros((n, 0), np.uint64),
        np.zeros((n, 0)), np.zeros(n, np.uint64), np.zeros(n), np.ones(n),
    )  # fmt: skip


def test_a_report_says_records_left_and_event_time_behind_by_partition_the_watermark_and_who_is_idle():
    orderer = Orderer(3, 5_000, EventBatch.empty(0, 0))
    orderer.push(0, events(100))
    orderer.push(1, events(60, 70))
    orderer.rest(2)
    orderer.release(orderer.watermark_ms())
    lag = report_of([At(("a", 0), 7, 10), At(("a", 1), 4, 4), At(("b", 0), 0, 0)], orderer, 2)["lag"]
    assert lag.pop("watermark_age_s") > 1e8  # 2022 is long ago
    assert lag == {
        "records": 3,
        "watermark": "2022-04-15T05:21:05Z",
        "idle": 1,
        "rejected_times": 2,
        "partitions": {
            "a/0": {"records": 3, "behind_s": 0.0, "idle": False},
            "a/1": {"records": 0, "behind_s": 30.0, "idle": False},
            "b/0": {"records": 0, "behind_s": None, "idle": True},
        },
    }


def test_each_line_of_figures_carries_what_is_seen_when_it_is_written():
    log = MemoryLog()
    watched = Watched(log, iter([{"lag": 1}, {"lag": 2}]).__next__)
    watched.write([{"a": 1}, {"a": 2}])
    watched.write([])
    watched.write([{"a": 3}])
    assert log.records == [{"a": 1, "lag": 1}, {"a": 2, "lag": 1}, {"a": 3, "lag": 2}]
    assert watched.flush() == log.flush()


RUN = """
key: id
time: t
funnel: {view: {}, click: {observe: 1m}}
features: {id: [item]}
model: lr
"""


def test_a_run_file_names_files_or_topics_or_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MistakesError, match='missing key "files"'):
        RunFile.parse(RUN, "run.yaml")
    run = tmp_path / "run.yaml"
    run.write_text(RUN + "kafka: {servers: 'localhost:1', topics: {view: views, click: clicks}, contact: 10ms}\n")
    with pytest.raises(ConfigError, match="names no event files; add files: PATHS, or read its topics with consume"):
        replay(Call((), True), Request(run))
    run.write_text(f"files: logs\n{RUN}")
    with pytest.raises(ConfigError, match="names no topics: add kafka: "):
        consume(Call((), True), Request(run))
