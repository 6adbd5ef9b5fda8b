"""What goes wrong while topics are consumed: silent brokers, signals, poison, new partitions; no message is lost."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from random import Random

import orjson
import pytest
from kafka_broker import PROVIDE, find_libs, new_broker

from jobs.console import Call
from jobs.consume import consume
from jobs.demo import RUN_FILE
from jobs.produce import Request as Sent
from jobs.produce import produce
from jobs.replay import Request, replay
from jobs.snapshots import verify
from jobs.synthetic_data import write
from streamctr.synthetic import WorldConfig

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")

ROOT = Path(__file__).parents[2]
WORLD = WorldConfig(roots=8_000, days=1.0, users=200, items=1000, click_rate=0.1, conversion_rate=0.2)
SMALL = WorldConfig(roots=1_200, days=1.0, users=50, items=1000, click_rate=0.2, conversion_rate=0.2)
STAGES = ("impression", "click", "conversion")
LEARNING = ("model.towers=[16]", "training.threads=1", "tables.rows=2^10", "snapshots.every=0")
SILENT = "no contact with the brokers for 1 s"
AGAIN = "contact with the brokers again"
WAIT_S = 60
LITTLE = "buffer_bytes: 200000, fetch_bytes: 20000"  # so that not all has been read when brokers die


@pytest.fixture(autouse=True)
def _forgotten_sockets():
    yield
    for _ in range(3):  # coroutines that are finalised in the first round let go of sockets in the next
        gc.collect()


def wait_for(found):
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def logged(run):
    """What the run has logged."""
    log = run / "log.jsonl"
    return log.read_text() if log.exists() else ""


def same(found, wanted):
    for name in ("events", "roots", "judged", "slices", "steps", "weights_sha256"):
        assert found[name] == wanted[name]


@pytest.fixture(scope="module")
def own():
    """A broker of their own for tests that kill it."""
    libs = find_libs()
    if libs is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Kafka broker: {PROVIDE}")
    return libs


@pytest.fixture(scope="module")
def mortal(own, tmp_path_factory):
    broker = new_broker(tmp_path_factory.mktemp("mortal"), own)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory, mortal):
    """A world in files and in topics, of so many bytes that a client does not hold all of it at once."""
    folder = tmp_path_factory.mktemp("world")
    write(str(folder), WORLD, lambda _: None, compress=False)
    chance, file = Random(7), folder / "impression.jsonl"
    padded = [line[:-1] + b',"pad":"%s"}' % chance.randbytes(750).hex().encode() for line in lines_of(file)]
    file.write_bytes(b"\n".join(padded) + b"\n")
    topics = ", ".join(f"{stage}: {stage}" for stage in STAGES)
    kafka = f"kafka={{servers: '{mortal.servers}', topics: {{{topics}}}, max_poll_records: 100, silence: 1s, {LITTLE}}}"
    settings = (f"files={folder}/*.jsonl", kafka, *LEARNING, "snapshots.every_events=500")
    assert produce(Call(settings, True), Sent(RUN_FILE))[1] == 0
    return settings


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, settings):
    return replay(Call(settings, True), Request(RUN_FILE, directory=tmp_path_factory.mktemp("replayed") / "run"))[0]


def lines_of(path):
    return path.read_bytes().splitlines()


def started(settings, run):
    """A daemon that consumes, when it has taken its first snapshot."""
    command = [str(Path(sys.executable).with_name("streamctr")), "consume", str(RUN_FILE), "--run", str(run)]
    command += [part for setting in settings for part in ("--set", setting)]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for(lambda: '"snapshot"' in logged(run) or child.poll() is not None)
    return child


def terminated(child):
    """How a daemon ends that is sent SIGTERM, in seconds at most; what it said."""
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=40)[1]  # a broker is given ten seconds to say that the snapshot counts
    return child.returncode, said


def test_a_broker_that_is_killed_and_comes_back_is_waited_for_and_costs_no_message(
    tmp_path, mortal, settings, replayed
):
    def kill_and_start():
        try:
            wait_for(lambda: '"snapshot"' in logged(tmp_path))
            mortal.kill()
            wait_for(lambda: SILENT in logged(tmp_path))
        finally:
            mortal.start()

    stagehand = threading.Thread(target=kill_and_start)
    stagehand.start()
    result, exit_code = consume(Call(settings, True), Request(RUN_FILE, "end", directory=tmp_path))
    stagehand.join()
    assert exit_code == 0
    assert logged(tmp_path).count(SILENT) == logged(tmp_path).count(AGAIN) == 1
    same(result, replayed)


def test_a_signal_stops_a_daemon_whose_broker_is_dead_and_it_goes_on_from_there(tmp_path, mortal, settings, replayed):
    child = started(settings, tmp_path)
    try:
        mortal.kill()
        wait_for(lambda: SILENT in logged(tmp_path))
        exit_code, said = terminated(child)
    finally:
        mortal.start()
    assert exit_code == 143
    assert said.count(SILENT) == 1
    assert verify(Call((), True), tmp_path, None)[1] == 0
    result, exit_code = consume(Call(settings, True), Request(RUN_FILE, "end", directory=tmp_path))
    assert exit_code == 0
    same(result, replayed)


def test_sigterm_leaves_a_snapshot_from_which_the_run_goes_on(tmp_path, mortal, settings, replayed):
    exit_code, said = terminated(started(settings, tmp_path))
    assert exit_code == 143
    assert "SIGTERM: taking a last snapshot" in said
    assert verify(Call((), True), tmp_path, None)[1] == 0
    result, exit_code = consume(Call(settings, True), Request(RUN_FILE, "end", directory=tmp_path))
    assert exit_code == 0
    same(result, replayed)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Events of all stages, each with its `type`, in the order of their times."""
    folder = tmp_path_factory.mktemp("mixed")
    write(str(folder), SMALL, lambda _: None, compress=False)
    lines = [
        b'{"type":"%s",' % stage.encode() + line[1:] for stage in STAGES for line in lines_of(folder / f"{stage}.jsonl")
    ]
    return sorted(lines, key=lambda line: orjson.loads(line)["time_ms"])


def mixed_settings(file, kafka, topic):
    where = f"kafka={{servers: '{kafka.servers}', topic: {topic}, max_message_bytes: 5000}}"
    return (f"files={file}", "stage=type", where, *LEARNING)


def test_poison_goes_to_the_dead_letters_with_its_offsets_and_teaches_nothing(tmp_path, kafka, mixed):
    good = orjson.loads(next(line for line in mixed if b'"type":"impression"' in line))
    bad = {
        "not JSON": b"nothing of the kind",
        "price": orjson.dumps(good | {"price": "cheap"}),
        '"id"': orjson.dumps({name: value for name, value in good.items() if name != "id"}),
        "longer than 5000 bytes": orjson.dumps(good | {"pad": "x" * 5000}),
        "has no value": None,
        "UTF-8": orjson.dumps(good).replace(b'"id":"', b'"id":"\xff\xfe'),
        "a number counts as ms": orjson.dumps(good | {"time_ms": good["time_ms"] // 1000}),
        "outside 2000 to 2100": orjson.dumps(good | {"time_ms": -1}),
        '"type" is "view"': orjson.dumps(good | {"type": "view"}),
        "JSON": orjson.dumps(good)[:40],
    }
    sent, wanted = ([], []), {}
    for place, line in enumerate(mixed):
        sent[place % 2].append(line)
        if place % 100 == 50 and len(wanted) < len(bad):
            words = list(bad)[len(wanted)]
            partition = len(wanted) % 2
            wanted[(partition, len(sent[partition]))] = words
            sent[partition].append(bad[words])
    topic = kafka.topic(2)
    kafka.send(topic, [(partition, value) for partition in (0, 1) for value in sent[partition]])
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(mixed) + b"\n")
    settings = mixed_settings(tmp_path / "log.jsonl", kafka, topic)
    clean, _ = replay(Call(settings, True), Request(RUN_FILE, directory=tmp_path / "clean"))
    found, exit_code = consume(Call(settings, True), Request(RUN_FILE, "end", directory=tmp_path / "run"))

    assert exit_code == 0
    letters = [orjson.loads(line) for path in (tmp_path / "run" / "dead-letters").iterdir() for line in lines_of(path)]
    reasons = {(letter["path"], letter["line"]): letter["reason"] for letter in letters}
    assert len(letters) == len(wanted) == 10
    for (partition, offset), words in wanted.items():
        assert words in reasons[f"{topic}/{partition}", offset]
    for name in ("roots", "judged", "slices", "steps", "weights_sha256"):
        assert found[name] == clean[name]
    for stage, counts in found["events"].items():
        assert counts["read"] == clean["events"][stage]["read"] + counts["rejected"]
        assert counts["read"] == sum(counts.values()) - counts["read"]
        assert counts["joined"] == clean["events"][stage]["joined"]
    assert sum(counts["rejected"] for counts in found["events"].values()) == 10


def test_partitions_that_came_while_nobody_consumed_are_read_as_appended_lines_are(tmp_path, kafka, mixed):
    topic, file, half = f"grown-{uuid.uuid4().hex[:8]}", tmp_path / "log.jsonl", len(mixed) // 2
    kafka.create(topic, 1)
    kafka.send(topic, [(0, line) for line in mixed[:half]])
    file.write_bytes(b"\n".join(mixed[:half]) + b"\n")
    settings = mixed_settings(file, kafka, topic)
    live, read = Request(RUN_FILE, "end", directory=tmp_path / "live"), Request(RUN_FILE, directory=tmp_path / "read")
    same(consume(Call(settings, True), live)[0], replay(Call(settings, True), read)[0])
    kafka.admin.create_partitions({topic: 3}, timeout_ms=10_000)
    wait_for(lambda: len(kafka.admin.describe_topics([topic])[0]["partitions"]) == 3)
    kafka.send(topic, [(place % 3, line) for place, line in enumerate(mixed[half:])])
    with file.open("ab") as log:
        log.write(b"\n".join(mixed[half:]) + b"\n")
    result, exit_code = consume(Call(settings, True), live)
    assert exit_code == 0
    assert sum(counts["read"] for counts in result["events"].values()) == len(mixed)
    same(result, replay(Call(settings, True), read)[0])
