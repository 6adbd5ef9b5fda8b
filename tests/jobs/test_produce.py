"""Event files go to topics whole, in the order of event time, keyed alike in every topic of the funnel."""

import os
import signal
import threading
import time
import uuid
from collections import defaultdict
from contextlib import closing

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource

from connectors.files import find_files
from connectors.kafka.config import KafkaConfig
from jobs.console import Call
from jobs.demo import RUN_FILE
from jobs.messages import MessageReader
from jobs.produce import Pace, Request, produce, topics_of
from jobs.runfile import RunFile
from jobs.synthetic_data import write
from jobs.yamlmarks import MistakesError
from streamctr.errors import ConfigError, DataError
from streamctr.hashing import hash_text
from streamctr.order import FIRST_MS
from streamctr.synthetic import WorldConfig

START_MS = 1_650_000_000_000
RUN = """
files: FILES
key: id
time: t
lateness: 10s
funnel: {view: {}, click: {observe: 10s}}
features: {id: [item], number: {price: log1p}}
model: lr
training: {threads: 1}
KAFKA
"""
BAD = (b"not JSON", b'{"id": 1, "t": -5}', b'{"t": 7}', b"\xff\xfe", b'{"id": 5, "t": "soon"}')


def view(i, late_s=0):
    return orjson.dumps({"id": i, "t": START_MS + 1000 * (i - late_s), "item": i % 7, "price": 1.5})


def click(i):
    return orjson.dumps({"id": i, "t": START_MS + 1000 * i + 400})


def write_files(folder, n=60):
    """Views a second apart, every tenth one three seconds late and every fifteenth malformed; every third clicked."""
    views = [line for i in range(n) for line in (view(i, 3 * (i % 10 == 9)), *BAD[i // 15 :][: i % 15 == 14])]
    (folder / "view-1.jsonl").write_bytes(b"\n".join(views[: n // 2]) + b"\n\n")
    (folder / "view-2.jsonl").write_bytes(b"\n".join(views[n // 2 :]) + b"\n")
    (folder / "click.jsonl").write_bytes(b"\n".join([BAD[0], *map(click, range(0, n, 3))]))
    return {"view": views, "click": [BAD[0], *map(click, range(0, n, 3))]}


def config_of(files, kafka=""):
    return RunFile.parse(RUN.replace("FILES", str(files)).replace("KAFKA", kafka), "clicks.yaml").config


def read_messages(config):
    reader = MessageReader(config, find_files(config.files, config.tree, config.stage is not None))
    batches = list(reader.batches())
    reader.close()
    return [row for batch in batches for row in zip(*(getattr(batch, name).tolist() for name in _COLUMNS), strict=True)]


_COLUMNS = ("value", "key", "stage", "time_ms", "order_ms", "readable")


def test_stages_are_read_side_by_side_by_event_time_and_each_in_the_order_of_its_files(tmp_path):
    written = write_files(tmp_path)
    rows = read_messages(config_of(tmp_path))
    order_ms = [row[4] for row in rows]
    assert order_ms == sorted(order_ms)
    for stage, name in enumerate(("view", "click")):
        assert [row[0] for row in rows if row[2] == stage] == written[name]
    assert [row[3] for row in rows if row[0] == view(19, 3)] == [START_MS + 16_000]


def test_messages_are_keyed_by_their_root_and_those_that_cannot_be_read_by_their_bytes(tmp_path):
    write_files(tmp_path)
    keys = {row[0]: row[1] for row in read_messages(config_of(tmp_path))}
    assert keys[view(3)] == keys[click(3)] == hash_text("3")
    assert keys[BAD[0]] == hash_text("not JSON")


def test_what_cannot_be_read_has_the_newest_time_before_it(tmp_path):
    write_files(tmp_path)
    times = {(row[0], row[2]): row[3] for row in read_messages(config_of(tmp_path)) if not row[5]}
    assert times[BAD[1], 0] == START_MS + 28_000  # behind view 29, which is three seconds late
    assert times[BAD[0], 1] == FIRST_MS  # before all clicks


def test_a_file_of_nothing_but_malformed_messages_is_sent_too(tmp_path):
    write_files(tmp_path)
    (tmp_path / "click.jsonl").write_bytes(b"\n".join(BAD))
    assert [row[0] for row in read_messages(config_of(tmp_path)) if row[2] == 1] == list(BAD)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_records_and_rows_become_objects_that_are_the_same_events(tmp_path, form):
    rows = pa.table({"id": ["7", "8"], "t": [START_MS, START_MS + 1], "item": ["a,b", None], "price": [1.5, None]})
    if form == "csv":
        (tmp_path / "view.csv").write_text(f'id,t,item,price\n7,{START_MS},"a,b",1.5\n8,{START_MS + 1},,\n\n9\n')
    else:
        pq.write_table(rows, tmp_path / "view.parquet")
    (tmp_path / "click.jsonl").write_bytes(click(1))
    found = [row for row in read_messages(config_of(tmp_path)) if row[2] == 0]
    (tmp_path / f"view.{form}").unlink()
    (tmp_path / "view.jsonl").write_bytes(b"\n".join(row[0] for row in found))
    assert [row for row in read_messages(config_of(tmp_path)) if row[2] == 0] == found
    assert [orjson.loads(row[0])["item"] for row in found if row[5]] == ["a,b", None]
    assert [row[0] for row in found if not row[5]] == [b"9"] * (form == "csv")


@pytest.mark.parametrize("speed", ["fast", "0x", "-1", "nan", "infx", ""])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(ConfigError, match="is no speed; write how many times faster, such as 10x"):
        Pace(speed)


def test_the_pace_counts_from_the_first_message_with_a_time():
    now_s = [50.0]
    pace = Pace("2", clock=lambda: now_s[0])
    times = np.array([FIRST_MS, START_MS, START_MS + 1_000, START_MS + 1_999, START_MS + 2_001])
    assert pace.due(times[:1]) == 1
    now_s[0] = 60.0
    assert pace.due(times) == 2
    now_s[0] = 61.0
    assert pace.due(times) == 4


def test_a_run_file_without_brokers_is_refused(tmp_path):
    path = tmp_path / "clicks.yaml"
    path.write_text(RUN.replace("FILES", str(tmp_path)).replace("KAFKA", ""))
    with pytest.raises(ConfigError, match=r"clicks\.yaml names no brokers; write a block such as kafka:"):
        produce(Call((), True), Request(path))


def test_every_stage_needs_a_topic_and_one_topic_needs_a_field_that_says_the_stage(tmp_path):
    config = config_of(tmp_path)
    servers = ("127.0.0.1:9092",)
    with pytest.raises(ConfigError, match=r"kafka\.topics: none is of click; name one"):
        topics_of(config, KafkaConfig(servers=servers, topics={"view": "views"}))
    with pytest.raises(ConfigError, match=r"all holds view, click: say with `stage:` which field"):
        topics_of(config, KafkaConfig(servers=servers, topic="all"))
    mixed = config.model_copy(update={"stage": "type"})
    assert topics_of(mixed, KafkaConfig(servers=servers, topic="all")) == {0: "all", 1: "all"}


def run_file(tmp_path, kafka, topics, name="clicks.yaml"):
    listed = f"{{view: {topics[0]}, click: {topics[1]}}}" if len(topics) == 2 else ""
    block = f"kafka: {{servers: ['{kafka.servers}'], {f'topics: {listed}' if listed else f'topic: {topics[0]}'}}}"
    path = tmp_path / name
    text = RUN.replace("FILES", str(tmp_path / "*.jsonl")).replace("KAFKA", block)
    path.write_text(text if listed else text + "stage: type\n")
    return path


def new_names(*prefixes):
    return [f"{prefix}-{uuid.uuid4().hex[:12]}" for prefix in prefixes]


def read_topic(kafka, topic):
    """All records by partition, in their order."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.servers, enable_auto_commit=False)
    parts = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends, found = consumer.end_offsets(parts), defaultdict(list)
    while any(consumer.position(part) < ends[part] for part in parts):
        for part, records in consumer.poll(timeout_ms=500).items():
            found[part.partition] += records
    consumer.close()
    return found


def test_all_messages_arrive_in_the_topics_of_their_stages_in_the_order_of_their_files(tmp_path, kafka):
    written, topics = write_files(tmp_path), new_names("views", "clicks")
    result, exit_code = produce(Call((), True), Request(run_file(tmp_path, kafka, topics), partitions=3))
    assert exit_code == 0
    assert result["warnings"] == []
    for topic, stage in zip(topics, ("view", "click"), strict=True):
        found = read_topic(kafka, topic)
        assert sorted(record.value for records in found.values() for record in records) == sorted(written[stage])
        for records in found.values():
            places = [written[stage].index(record.value) for record in records]
            assert places == sorted(places)
        size = sum(map(len, written[stage]))
        told = {"partitions": 3, "created": True, "messages": len(written[stage]), "size_bytes": size}
        assert result["topics"][topic] == told | {"unreadable": {"view": 4, "click": 1}[stage]}


def test_a_roots_messages_have_one_key_and_partition_number_and_the_time_of_the_event(tmp_path, kafka):
    write_files(tmp_path)
    topics = new_names("views", "clicks")
    produce(Call((), True), Request(run_file(tmp_path, kafka, topics)))
    places = defaultdict(set)
    for topic in topics:
        for partition, records in read_topic(kafka, topic).items():
            for record in records:
                places[record.key].add(partition)
                if record.value not in BAD:
                    assert record.timestamp == orjson.loads(record.value)["t"]
                    root = hash_text(str(orjson.loads(record.value)["id"]))
                    assert record.key == root.to_bytes(8, "big")
    assert {len(of_key) for of_key in places.values()} == {1}
    assert set.union(*places.values()) == {0, 1, 2, 3}


def test_one_topic_takes_all_stages_where_a_field_says_them(tmp_path, kafka):
    lines = [b'{"type":"view",' + view(1)[1:], b'{"type":"click",' + click(1)[1:], b'{"type":"tap"}', b"{"]
    (tmp_path / "all.jsonl").write_bytes(b"\n".join(lines))
    (topic,) = new_names("all")
    produce(Call((), True), Request(run_file(tmp_path, kafka, [topic]), partitions=1))
    assert [record.value for record in read_topic(kafka, topic)[0]] == lines


def test_topics_are_created_to_keep_what_they_hold_and_others_are_warned_about(tmp_path, kafka, capsys):
    write_files(tmp_path)
    (made,) = new_names("views")
    short = kafka.topic(2, retention_ms=3_600_000, cleanup_policy="compact,delete")
    result, _ = produce(Call((), True), Request(run_file(tmp_path, kafka, [made, short])))
    found = kafka.admin.describe_configs([ConfigResource("TOPIC", made)], config_filter="all")["topic"][made]
    assert (found["retention.ms"]["value"], found["cleanup.policy"]["value"]) == ("-1", "delete")
    assert [warning.split(";")[0] for warning in result["warnings"]] == [
        f"topic {short} keeps records for 0.04167 days and will delete what is sent from 2022-04-15T05:20:00Z on",
        f"topic {short} keeps only the last message of each key",
        f"the topics have not as many partitions each ({short} 2, {made} 4): a root's are not of one number in all",
    ]
    assert f"warning: topic {short} keeps records for" in capsys.readouterr().err


def test_speed_paces_by_event_time(tmp_path, kafka):
    (tmp_path / "view.jsonl").write_bytes(b"\n".join(map(view, (0, 10, 20))))
    (tmp_path / "click.jsonl").write_bytes(click(10))
    topics = [kafka.topic(1, message_timestamp_type="LogAppendTime") for _ in range(2)]
    result, _ = produce(Call((), True), Request(run_file(tmp_path, kafka, topics), speed="20x"))
    assert "takes no times of events" in result["warnings"][0]
    first, second, third = (record.timestamp for record in read_topic(kafka, topics[0])[0])
    assert 350 < second - first < third - first - 350
    # the click is 20 ms behind the second view, which goes by another way: either may be there first
    assert second - 200 < read_topic(kafka, topics[1])[0][0].timestamp < third - 200


def test_a_signal_stops_it_with_what_was_sent_confirmed(tmp_path, kafka):
    (tmp_path / "view.jsonl").write_bytes(b"\n".join(map(view, range(60))))
    (tmp_path / "click.jsonl").write_bytes(click(10))
    topics = [kafka.topic(1), kafka.topic(1)]

    def stop():
        with closing(KafkaConsumer(bootstrap_servers=kafka.servers)) as consumer:
            views = TopicPartition(topics[0], 0)
            while consumer.end_offsets([views])[views] == 0:
                time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    result, exit_code = produce(Call((), True), Request(run_file(tmp_path, kafka, topics), speed="1x"))
    stopper.join()
    assert exit_code == 143
    sent = result["topics"][topics[0]]["messages"]
    assert 1 <= sent < 60
    assert [record.value for record in read_topic(kafka, topics[0])[0]] == [view(i) for i in range(sent)]


def test_a_message_that_the_topic_refuses_stops_it_and_says_why(tmp_path, kafka):
    write_files(tmp_path)
    small = kafka.topic(1, max_message_bytes=2000)
    other = kafka.topic(1)
    (tmp_path / "view-3.jsonl").write_bytes(view(99)[:-1] + b', "long": "' + os.urandom(4_000).hex().encode() + b'"}')
    with pytest.raises(DataError, match=f"topic {small} takes no message as big as"):
        produce(Call((), True), Request(run_file(tmp_path, kafka, [small, other])))


STAGES = ("impression", "click", "conversion")
SMALL = {"roots": 500, "users": 50, "items": 1000, "seed": 3}


@pytest.fixture
def world(tmp_path, kafka, monkeypatch):
    """Settings of a small world and of topics of its own; where folders for a while are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    topics = new_names(*STAGES)
    listed = ", ".join(f"{stage}: {topic}" for stage, topic in zip(STAGES, topics, strict=True))
    sets = (f"kafka={{servers: '{kafka.servers}', topics: {{{listed}}}}}",)
    return topics, sets + tuple(f"world.{key}={value}" for key, value in SMALL.items())


def test_a_synthetic_world_goes_to_topics_as_its_files_would_and_leaves_no_file(tmp_path, kafka, world):
    topics, sets = world
    produce(Call(sets, True), Request(RUN_FILE, synthetic=True))
    assert list(tmp_path.iterdir()) == []
    write(str(tmp_path), WorldConfig(**SMALL), lambda _: None, compress=False)
    for stage, topic in zip(STAGES, topics, strict=True):
        found = [record.value for records in read_topic(kafka, topic).values() for record in records]
        assert sorted(found) == sorted((tmp_path / f"{stage}.jsonl").read_bytes().splitlines())


def test_a_world_may_begin_now(kafka, world):
    topics, sets = world
    before_ms = time.time_ns() // 1_000_000
    produce(Call((*sets, "world.days=0.001", "world.rhythm=0"), True), Request(RUN_FILE, synthetic=True, now=True))
    after_ms = time.time_ns() // 1_000_000
    stamps = [record.timestamp for records in read_topic(kafka, topics[0]).values() for record in records]
    assert before_ms <= min(stamps) <= after_ms + 1_000
    assert before_ms + 80_000 < max(stamps) < after_ms + 86_400 + 1_000


def test_once_sends_to_empty_topics_and_nothing_where_one_holds_messages(kafka, world, capsys):
    topics, sets = world
    kafka.create(topics[0])
    request = Request(RUN_FILE, synthetic=True, once=True)
    assert produce(Call(sets, True), request)[0]["topics"][topics[0]]["messages"] == 500
    result, exit_code = produce(Call(sets, True), request)
    assert (exit_code, result["topics"][topics[0]]["messages"]) == (0, 0)
    why = f"nothing is sent: {', '.join(sorted(topics))} hold messages already"
    assert result["warnings"] == [why]
    assert why in capsys.readouterr().err
    assert sum(map(len, read_topic(kafka, topics[0]).values())) == 500


def test_a_world_goes_only_where_its_stages_are_read(tmp_path):
    path = tmp_path / "clicks.yaml"
    block = "kafka: {servers: 'localhost:1', topics: {view: views, click: clicks}}"
    path.write_text(RUN.replace("FILES", str(tmp_path)).replace("KAFKA", block))
    with pytest.raises(
        ConfigError, match=r"sends impression, click, conversion, .*clicks\.yaml reads click, view; start"
    ):
        produce(Call((), True), Request(path, synthetic=True))
    with pytest.raises(ConfigError, match="never those of a log; add --synthetic"):
        produce(Call((), True), Request(path, now=True))


def test_settings_of_a_world_are_told_in_the_words_that_were_typed():
    with pytest.raises(ConfigError, match=r"--set world\.roots=3 describes a synthetic world; add --synthetic"):
        produce(Call(("world.roots=3",), True), Request(RUN_FILE))
    with pytest.raises(MistakesError, match=r'--set world\.rots=3  unknown key "rots"') as caught:
        produce(Call(("world.rots=3",), True), Request(RUN_FILE, synthetic=True))
    assert 'did you mean "roots"?' in str(caught.value)


def test_a_run_of_topics_alone_has_nothing_to_send_but_a_world():
    with pytest.raises(ConfigError, match="names no event files to send; add files: PATHS, or --synthetic"):
        produce(Call(("files=null",), True), Request(RUN_FILE))
