"""Who owns a run of topics, what goes before them, and what a full disk does to it."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from jobs.console import Call
from jobs.consume import consume
from jobs.demo import RUN_FILE
from jobs.produce import Request as Sent
from jobs.produce import produce
from jobs.replay import Request, replay
from jobs.rundir import RunDirectory
from jobs.snapshots import verify
from jobs.synthetic_data import write
from streamctr.errors import BusyError, ConfigError, DiskFullError
from streamctr.synthetic import WorldConfig

WORLD = WorldConfig(roots=8_000, days=1.0, users=200, items=1000, click_rate=0.1, conversion_rate=0.2)
ROOT = Path(__file__).parents[2]
STAGES = ("impression", "click", "conversion")
WAIT_S = 60


@pytest.fixture(scope="module")
def sent(tmp_path_factory, kafka):
    """A small world in files and in topics of four partitions; the settings that name both."""
    folder = tmp_path_factory.mktemp("world")
    write(str(folder), WORLD, lambda _: None)
    topics = ", ".join(f"{stage}: {stage}-{uuid.uuid4().hex[:8]}" for stage in STAGES)
    settings = (
        f"files={folder}/*.jsonl.zst",
        f"kafka={{servers: '{kafka.servers}', topics: {{{topics}}}, max_poll_records: 300}}",
        "model.towers=[16]",
        "training.threads=1",
        "tables.rows=2^10",
        "snapshots.every=0",
        "snapshots.every_events=1000",
    )
    assert produce(Call(settings, True), Sent(RUN_FILE))[1] == 0
    return settings


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, sent):
    return replay(Call(sent, True), Request(RUN_FILE, directory=tmp_path_factory.mktemp("replayed") / "run"))[0]


@pytest.fixture(scope="module")
def middle(replayed):
    """A moment in the middle of the events."""
    times = [
        orjson.loads(line)["event_ms"] for line in (Path(replayed["run"]) / "metrics.jsonl").read_bytes().splitlines()
    ]
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(times[len(times) // 2] / 1000))}Z"


def same(found, wanted, *names):
    for name in names or ("events", "roots", "judged", "slices", "steps", "weights_sha256"):
        assert found[name] == wanted[name]


def test_an_older_daemon_that_wakes_up_behind_a_newer_one_ends_and_publishes_nothing(tmp_path, sent, replayed):
    child = [sys.executable, str(ROOT / "tests" / "jobs" / "crash_child.py"), "stop:2500", "consume", str(RUN_FILE)]
    child += [
        "--until",
        "end",
        "--run",
        str(tmp_path),
        *(part for setting in sent for part in ("--set", setting)),
    ]
    older = subprocess.Popen(child, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."})
    try:
        deadline = time.monotonic() + WAIT_S
        while Path(f"/proc/{older.pid}/stat").read_text().split()[2] != "T":
            assert older.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        result, exit_code = consume(Call(sent, True), Request(RUN_FILE, "end", directory=tmp_path))
        assert exit_code == 0
        same(result, replayed)
        kept = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
        assert sum(name.startswith("e00002-") for name in kept) >= 2
    finally:
        older.send_signal(signal.SIGCONT)
    said = older.communicate(timeout=WAIT_S)[1]
    assert older.returncode == 79
    assert "another daemon has taken over" in said
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == kept
    again, _ = consume(Call(sent, True), Request(RUN_FILE, "end", directory=tmp_path))
    same(again, replayed)


def test_files_up_to_a_moment_and_topics_from_there_on_teach_what_files_alone_teach(tmp_path, sent, replayed, middle):
    first, _ = replay(Call(sent, True), Request(RUN_FILE, middle, directory=tmp_path))
    before = sum(counts["read"] - counts["waiting"] for counts in first["events"].values())
    assert 1000 < before < 8000
    result, exit_code = consume(Call(sent, True), Request(RUN_FILE, "end", directory=tmp_path))
    assert exit_code == 0
    same(result, replayed, "roots", "judged", "slices", "steps", "weights_sha256")
    for stage, counts in result["events"].items():
        wanted = replayed["events"][stage]
        assert counts["joined"] == wanted["joined"]
        assert counts["read"] - counts["skipped"] == wanted["read"]
    with pytest.raises(ConfigError, match="holds snapshots of consume"):
        replay(Call(sent, True), Request(RUN_FILE, directory=tmp_path))


def test_a_moment_ends_it_and_the_rest_follows(tmp_path, sent, replayed, middle):
    first, exit_code = consume(Call(sent, True), Request(RUN_FILE, middle, directory=tmp_path))
    assert exit_code == 0
    assert first["steps"] < replayed["steps"]
    assert first["lag"]["watermark"] == middle
    assert first["lag"]["records"] > 0
    result, _ = consume(Call(sent, True), Request(RUN_FILE, "end", directory=tmp_path))
    same(result, replayed)
    assert result["lag"]["records"] == 0


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_it_with_its_own_code_and_costs_nothing(small_disk, sent, replayed, middle):
    run, filler = small_disk / "run", small_disk / "filler"
    consume(Call(sent, True), Request(RUN_FILE, middle, directory=run))
    with filler.open("wb", buffering=0) as file:
        for size_bytes in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size_bytes))
    with pytest.raises(DiskFullError, match="make room") as raised:
        consume(Call(sent, True), Request(RUN_FILE, "end", directory=run))
    assert raised.value.exit_code == 73
    filler.unlink()
    assert verify(Call((), True), run, None)[1] == 0
    result, _ = consume(Call(sent, True), Request(RUN_FILE, "end", directory=run))
    same(result, replayed)


def test_a_daemon_and_a_replay_do_not_share_a_directory(tmp_path, sent):
    daemon, another = (RunDirectory(tmp_path).owned(shared=True) for _ in range(2))
    with daemon, another, pytest.raises(BusyError):
        replay(Call(sent, True), Request(RUN_FILE, directory=tmp_path))


def test_epochs_are_claimed_once_and_the_name_of_a_run_outlives_a_fresh_start(tmp_path):
    directory = RunDirectory(tmp_path)
    name = directory.run_id
    assert [directory.claim_epoch() for _ in range(3)] == [1, 2, 3]
    directory.clear()
    assert (RunDirectory(tmp_path).run_id, directory.claim_epoch()) == (name, 4)
    (tmp_path / "snapshots" / "e00207-000000000005").mkdir(parents=True)  # claims that a copy of the directory lost
    assert directory.claim_epoch() == 208
    assert [path.name for path in (tmp_path / "epochs").iterdir()] == ["00208"]
