"""`join` and `learn` as two daemons with a topic between them teach what one `replay` of the files teaches."""

import json
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from test_cli import RUN, START_MS, write_events
from test_consume import ROOT, same

from connectors.kafka.config import KafkaConfig
from connectors.kafka.samplereader import SampleReader
from jobs.console import Call
from jobs.consume import consume
from jobs.demo import RUN_FILE
from jobs.join import Request as Joining
from jobs.join import join
from jobs.learn import Request as Learning
from jobs.learn import learn
from jobs.produce import Request as Producing
from jobs.produce import produce
from jobs.replay import Request as Replaying
from jobs.replay import replay
from jobs.synthetic_data import write
from streamctr.errors import ConfigError, DataError, TopicError
from streamctr.synthetic import WorldConfig

WORLD = WorldConfig(roots=3_000, days=0.5, users=100, items=1000, click_rate=0.1, conversion_rate=0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory, kafka):
    """A small world in files and in topics; the settings that name both."""
    folder = tmp_path_factory.mktemp("world")
    write(str(folder), WORLD, lambda _: None)
    topics = ", ".join(f"{stage}: {stage}-{uuid.uuid4().hex[:8]}" for stage in ("impression", "click", "conversion"))
    settings = (
        f"files={folder}/*.jsonl.zst",
        f"kafka={{servers: '{kafka.servers}', topics: {{{topics}}}, max_poll_records: 200}}",
        "model.towers=[8]",
        "training.threads=1",
        "tables.rows=2^10",
        "snapshots.every=0",
        "snapshots.every_events=400",
    )
    produce(Call(settings, True), Producing(RUN_FILE))
    return settings


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, world):
    result, _ = replay(Call(world, True), Replaying(RUN_FILE, directory=tmp_path_factory.mktemp("replayed") / "run"))
    return result


@pytest.fixture
def settings(world):
    """Of a run whose samples go to a topic of their own."""
    return (*world, f"kafka.samples=samples-{uuid.uuid4().hex[:8]}")


def joined(settings, folder, **asked):
    result, exit_code = join(Call(settings, True), Joining(RUN_FILE, "end", folder, **asked))
    assert exit_code == 0
    return result


def learned(settings, folder, **asked):
    result, exit_code = learn(Call(settings, True), Learning(RUN_FILE, directory=folder, until="end", **asked))
    assert exit_code == 0
    return result


class Daemon:
    """`streamctr COMMAND` in a process of its own."""

    def __init__(self, command, run_file, folder, *options):
        self._snapshots = folder / ("joined" if command == "join" else "snapshots")
        self._before = self._names()
        call = [Path(sys.executable).with_name("streamctr"), command, run_file, "--json", "--run", folder, *options]
        self._process = subprocess.Popen(
            [*map(str, call)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def _names(self):
        return {path.name for path in self._snapshots.glob("e0*")} if self._snapshots.exists() else set()

    def kill(self):
        """SIGKILL; whether it was still running."""
        self._process.kill()
        self._process.communicate()
        return self._process.returncode == -signal.SIGKILL

    def killed_behind_a_snapshot(self):
        for _ in range(1200):
            if self._names() - self._before or self._process.poll() is not None:
                break
            time.sleep(0.02)
        return self.kill()

    def result(self):
        out, err = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, err
        return json.loads(out)


def test_a_topic_between_join_and_learn_changes_nothing(tmp_path, settings, replayed):
    said = joined(settings, tmp_path)
    assert (said["events"], said["roots"]) == (replayed["events"], replayed["roots"])
    assert said["samples"] == f"topic {settings[-1].removeprefix('kafka.samples=')}"
    found = learned(settings, tmp_path)
    same(found, replayed)
    assert found["snapshot"].startswith(f"e00002-{said['rows']:012d}")
    assert not (tmp_path / "samples").exists()
    # asked again, both stay where they are
    assert joined(settings, tmp_path)["snapshot"] == said["snapshot"]
    assert learned(settings, tmp_path)["snapshot"] == found["snapshot"]


@pytest.mark.slow
def test_either_may_be_killed_at_any_time_and_the_end_is_the_same(tmp_path, settings, replayed):
    options = ["--until", "end", *(part for setting in settings for part in ("--set", setting))]

    def daemon(command):
        return Daemon(command, RUN_FILE, tmp_path, *options)

    killed = [daemon("join").killed_behind_a_snapshot()]
    learner, joiner = daemon("learn"), daemon("join")
    killed += [joiner.killed_behind_a_snapshot(), learner.killed_behind_a_snapshot()]
    learner, joiner = daemon("learn"), daemon("join")
    said, found = joiner.result(), learner.result()
    assert (said["events"], said["roots"]) == (replayed["events"], replayed["roots"])
    same(found, replayed)
    assert killed[0]
    assert sum(killed) >= 2


def test_an_end_of_the_input_is_one_for_the_learner_too(tmp_path, monkeypatch, kafka):
    """What waits for a full block is learned there; so the weights tell how often the input ended, and where."""
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "events")
    topics = {stage: kafka.topic(1, stage) for stage in ("view", "click", "order")}
    block = f"kafka: {{servers: '{kafka.servers}', topics: {orjson.dumps(topics).decode()}"
    (tmp_path / "once.yaml").write_text(RUN.replace("files: events/*.jsonl", f"{block}}}"))
    samples = f"samples-{uuid.uuid4().hex[:8]}"
    (tmp_path / "halves.yaml").write_text(RUN.replace("files: events/*.jsonl", f"{block}, samples: {samples}}}"))
    lines = {stage: (tmp_path / f"events/{stage}.jsonl").read_bytes().splitlines() for stage in topics}
    for half in (0, 1):
        for stage, topic in topics.items():
            size = len(lines[stage]) // 2
            kafka.send(topic, [(0, line) for line in lines[stage][half * size :][:size]])
        whole, _ = consume(Call((), True), Replaying(tmp_path / "once.yaml", "end"))
        join(Call((), True), Joining(tmp_path / "halves.yaml", "end"))
    found, _ = learn(Call((), True), Learning(tmp_path / "halves.yaml", until="end"))
    same(found, whole)


def test_what_was_not_waited_for_stays_late_behind_a_kill(tmp_path, kafka):
    views, others = kafka.topic(2, "view"), [kafka.topic(1, stage) for stage in ("click", "order")]
    samples = f"samples-{uuid.uuid4().hex[:8]}"
    topics = f"{{view: {views}, click: {others[0]}, order: {others[1]}}}"
    run_file = tmp_path / "ads.yaml"
    block = f"kafka: {{servers: '{kafka.servers}', topics: {topics}, samples: {samples}, idle: 500ms}}"
    run_file.write_text(RUN.replace("files: events/*.jsonl", block))

    def view(name, second):
        return orjson.dumps({"id": name, "t": START_MS + 1000 * second, "user": "u", "item": 1, "price": 1})

    def published(reader, rows):
        for _ in range(100):
            if reader.next >= rows:
                break
            reader.poll()
        return reader.next

    joiner = Daemon("join", run_file, tmp_path / "run")
    kafka.send(views, [(0, view(f"a{second}", second)) for second in range(100)])
    for _ in range(200):  # until there is a topic
        if samples in kafka.admin.list_topics():
            break
        time.sleep(0.1)
    config = KafkaConfig(servers=(kafka.servers,), topic="none", samples=samples)
    with closing(SampleReader(config, (tmp_path / "run/run.id").read_text())) as reader:
        # nothing came from partition 1: seconds 0 to 94 are said, for 5 s may come late
        assert published(reader, 95) >= 95
        kafka.send(views, [(1, view("late", 10))])
        kafka.send(views, [(0, view("b", 300))])
        # a100 to b: the first 100 are final, each with 2 more rows (20 s and 30 s may be one row or two)
        assert published(reader, 200) >= 200
        assert joiner.kill()
    said, _ = join(Call((), True), Joining(run_file, "end", tmp_path / "run"))
    assert said["events"]["view"] | {"joined": 0} == {
        **dict.fromkeys(said["events"]["view"], 0),
        "read": 102,
        "late": 1,
    }
    found, _ = learn(Call((), True), Learning(run_file, directory=tmp_path / "run", until="end"))
    assert found["snapshot"].endswith(f"{said['rows']:012d}")


def test_other_samples_are_refused_in_words(tmp_path, settings):
    topic = settings[-1].removeprefix("kafka.samples=")
    with pytest.raises(TopicError, match=f"there is no topic {topic}"):
        learned(settings, tmp_path / "run")
    joined(settings, tmp_path / "run")
    with pytest.raises(ConfigError, match=f"topic {topic} was joined with another config:\n  lateness: 1m is now 9s"):
        learned((*settings, "lateness=9s"), tmp_path / "run")
    with pytest.raises(DataError, match=f"{topic} holds the emission log of another run"):
        learned(settings, tmp_path / "other")
    with pytest.raises(ConfigError, match=f"--epochs: the samples come from topic {topic}, once"):
        learned(settings, tmp_path / "run", epochs=2)
    with pytest.raises(ConfigError, match="--fresh would write a second emission log"):
        joined(settings, tmp_path / "run", fresh=True)
    with pytest.raises(ConfigError, match="--until goes with samples in a topic"):
        learned(settings[:-1], tmp_path / "run")
