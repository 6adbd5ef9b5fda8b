"""Topics of a real broker through the whole pipeline teach what a replay of their files teaches."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from jobs.console import Call
from jobs.consume import consume
from jobs.demo import RUN_FILE
from jobs.produce import Request as Sent
from jobs.produce import produce
from jobs.replay import Request, replay
from jobs.synthetic_data import write
from streamctr.errors import ConfigError, TopicError
from streamctr.synthetic import WorldConfig

WORLD = WorldConfig(roots=8_000, days=1.0, users=200, items=1000, click_rate=0.1, conversion_rate=0.2)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sent(tmp_path_factory, kafka):
    """A small world in files and in topics of four partitions; the settings that name both."""
    folder = tmp_path_factory.mktemp("world")
    write(str(folder), WORLD, lambda _: None)
    stages = ("impression", "click", "conversion")
    topics = ", ".join(f"{stage}: {stage}-{uuid.uuid4().hex[:8]}" for stage in stages)
    settings = (
        f"files={folder}/*.jsonl.zst",
        f"kafka={{servers: '{kafka.servers}', topics: {{{topics}}}, max_poll_records: 700}}",
        "model.towers=[16]",
        "training.threads=1",
        "tables.rows=2^10",
        "snapshots.every=0",
    )
    result, exit_code = produce(Call(settings, True), Sent(RUN_FILE))
    assert exit_code == 0
    assert sum(topic["messages"] for topic in result["topics"].values()) > 8_000
    return settings


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, sent):
    result, _ = replay(Call(sent, True), Request(RUN_FILE, directory=tmp_path_factory.mktemp("replayed") / "run"))
    return result


def same(found, wanted):
    for name in ("events", "roots", "judged", "slices", "steps", "weights_sha256"):
        assert found[name] == wanted[name]


def test_topics_teach_what_their_files_teach_to_the_bit(tmp_path, sent, replayed):
    assert replayed["events"]["impression"]["joined"] == 8_000
    result, exit_code = consume(Call(sent, True), Request(RUN_FILE, "end", directory=tmp_path / "run"))
    assert exit_code == 0
    same(result, replayed)


def test_killed_with_sigkill_and_started_again_it_ends_as_if_it_had_not_been(tmp_path, sent, replayed):
    command = [
        str(Path(sys.executable).with_name("streamctr")),
        "consume",
        str(RUN_FILE),
        "--until",
        "end",
        "--run",
        str(tmp_path),
    ]
    command += [part for setting in (*sent, "snapshots.every_events=1000") for part in ("--set", setting)]
    snapshots = tmp_path / "snapshots"
    killed = []
    for wanted in (1, 3):
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(1200):
            taken = [path for path in snapshots.glob("e0*")] if snapshots.exists() else []
            if len(taken) >= wanted or child.poll() is not None:
                break
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        killed.append(child.wait(timeout=60))
    assert killed[0] == -signal.SIGKILL  # it was killed in the middle, not at its end
    settings = (*sent, "snapshots.every_events=1000")
    result, exit_code = consume(Call(settings, True), Request(RUN_FILE, "end", directory=tmp_path))
    assert exit_code == 0
    same(result, replayed)


def test_a_run_file_without_topics_is_refused(tmp_path, sent):
    with pytest.raises(ConfigError, match="names no topics: add kafka: "):
        consume(Call((sent[0], "kafka=null"), True), Request(RUN_FILE, "end", directory=tmp_path / "run"))


def test_it_says_what_it_reads_and_which_stage_has_no_topic(tmp_path, sent, kafka, capsys):
    topic = kafka.topic(partitions=3)
    only = f"kafka={{servers: '{kafka.servers}', topics: {{impression: {topic}}}}}"
    consume(Call((*sent, only), True), Request(RUN_FILE, "end", directory=tmp_path / "run"))
    said = capsys.readouterr().err.splitlines()
    assert f"reading {topic} (3 partitions)" in said
    assert "no topic is of stage click: it never happens in this run" in said
    assert f"lag and all that happens: {tmp_path / 'run' / 'log.jsonl'}" in said


def test_a_topic_that_is_not_there_is_told_by_its_name(tmp_path, sent, kafka):
    nowhere = f"kafka={{servers: '{kafka.servers}', topics: {{impression: no.a, click: no.b, conversion: no.c}}}}"
    with pytest.raises(TopicError, match=r"no\.a"):
        consume(Call((*sent, nowhere), True), Request(RUN_FILE, "end", directory=tmp_path / "run"))
