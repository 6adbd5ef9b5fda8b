"""What may change between two starts of one run: where dead letters go, and files for topics; and what may not."""

import uuid

import orjson
import pytest
from test_cli import RUN, START_MS, write_events

from connectors.kafka.fence import Fence
from jobs.console import Call
from jobs.consume import consume
from jobs.deadletters import list_all
from jobs.join import Request as Joining
from jobs.join import join
from jobs.learn import Request as Learning
from jobs.learn import learn
from jobs.replay import Request, replay
from streamctr.errors import ConfigError, ContactError, LostError
from streamctr.schema import instant_text

STAGES = ("view", "click", "order")
BAD = b"nothing of the kind"


class World:
    """A run of 240 views whose event files are in a folder, and topics of one partition each that are empty."""

    def __init__(self, folder, kafka):
        write_events(folder / "events")
        self._kafka, self._events = kafka, folder / "events"
        self.topics = {stage: kafka.topic(1, stage) for stage in STAGES}
        self.run = folder / "ads.yaml"
        self.configure()

    def configure(self, **settings):
        """Of `kafka`, besides servers and topics."""
        block = {"servers": self._kafka.servers, "topics": self.topics} | settings
        text = RUN.replace("files: events/*.jsonl", f"files: {self._events}/*.jsonl")
        self.run.write_text(f"{text}kafka: {orjson.dumps(block).decode()}\n")

    def lines(self, stage):
        return (self._events / f"{stage}.jsonl").read_bytes().splitlines()

    def send(self, begin=0, end=None, before_ms=0, poison=False):
        """The events of a part of the time, in records that are stored some time before they happen."""
        producer = self._kafka.producer()
        for stage, topic in self.topics.items():
            for line in self.lines(stage):
                second = (orjson.loads(line)["t"] - START_MS) // 1000
                if second >= begin and (end is None or second < end):
                    stored_ms = START_MS + 1000 * second - before_ms
                    producer.send(topic, line, partition=0, timestamp_ms=stored_ms)
        if poison:
            producer.send(self.topics["view"], BAD, partition=0, timestamp_ms=START_MS)
        producer.flush(timeout=30)
        producer.close(timeout=10)


@pytest.fixture
def world(tmp_path, monkeypatch, kafka):
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, kafka)


def to_end(world):
    return consume(Call((), True), Request(world.run, "end"))[0]


def listed(world):
    return list_all(Call((), True), world.run)[0]["total"]


def rejected(result):
    return sum(counts["rejected"] for counts in result["events"].values())


def test_dead_letters_may_go_to_a_topic_instead_of_the_folder_and_back(world, kafka):
    world.send(0, 80, poison=True)
    assert rejected(to_end(world)) == 1
    assert listed(world) == 1
    world.configure(dead_letters=kafka.topic(2, "dead"))
    world.send(80, 160, poison=True)
    assert rejected(to_end(world)) == 2
    assert listed(world) == 1  # of the topic
    world.configure()
    assert listed(world) == 1  # of the folder, still
    world.send(160, poison=True)
    assert rejected(to_end(world)) == 3
    assert listed(world) == 2


def test_files_and_then_topics_with_a_topic_of_dead_letters(world, kafka):
    world.configure(dead_letters=kafka.topic(1, "dead"))
    seam = instant_text(START_MS + 100_000)
    replay(Call((), True), Request(world.run, seam))
    world.send(poison=True)
    result = to_end(world)
    assert result["events"]["view"]["joined"] == 240


@pytest.mark.parametrize("ahead", ["1h", None])
def test_events_that_happen_long_after_their_records_were_stored_are_not_lost_between_files_and_topics(world, ahead):
    world.configure(ahead=ahead)
    replay(Call((), True), Request(world.run, instant_text(START_MS + 100_000)))
    world.send(before_ms=1_800_000)
    assert to_end(world)["events"]["view"]["joined"] == 240


def test_topics_behind_files_that_brought_nothing_begin_at_their_beginning(world):
    begin = instant_text(START_MS - 3_600_000)
    assert replay(Call((), True), Request(world.run, begin))[0]["events"]["view"]["joined"] == 0
    world.send()
    assert to_end(world)["events"]["view"]["joined"] == 240


def test_a_join_does_not_go_on_in_topics_where_it_read_files_nor_a_learner_in_a_topic_of_samples(world):
    join(Call((), True), Joining(world.run))
    learn(Call((), True), Learning(world.run))
    world.configure(samples=f"samples-{uuid.uuid4().hex[:8]}")
    world.send()
    with pytest.raises(ConfigError, match="events came from files and come from topics now"):
        join(Call((), True), Joining(world.run, "end"))
    join(Call((), True), Joining(world.run, "end", world.run.parent / "other"))
    with pytest.raises(ConfigError, match="samples came from files and come from a topic now"):
        learn(Call((), True), Learning(world.run, until="end"))


def commits(fence, wrong):
    """`Fence.commit` that fails as `wrong` says, by how often it was called."""
    left, commit = list(wrong), fence.commit

    def failing(self, offsets):
        if offsets and left and (error := left.pop(0)):
            raise error
        commit(self, offsets)

    return failing


def test_a_snapshot_that_no_broker_confirms_is_tried_again_and_one_that_none_ever_will_ends_the_run(world, monkeypatch):
    settings = ("snapshots.every_events=20", "kafka.max_poll_records=20")
    world.send()
    with monkeypatch.context() as silent:
        silent.setattr(Fence, "commit", commits(Fence, [None, ContactError("silent")]))
        whole, exit_code = consume(Call(settings, True), Request(world.run, "end"))
    assert exit_code == 0
    told = (world.run.parent / "runs/ads/log.jsonl").read_text()
    assert told.count("no snapshot for now") == 1
    lost = world.run.parent / "lost"
    with monkeypatch.context() as gone:
        gone.setattr(Fence, "commit", commits(Fence, [None, LostError("start it again")]))
        with pytest.raises(LostError):
            consume(Call(settings, True), Request(world.run, "end", directory=lost))
    assert "no snapshot for now" not in (lost / "log.jsonl").read_text()
    again, _ = consume(Call(settings, True), Request(world.run, "end", directory=lost))
    assert again["weights_sha256"] == whole["weights_sha256"]
