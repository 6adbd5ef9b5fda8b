"""`join` and then `learn` are `replay`: the same weights, figures and lines, whatever comes between."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import orjson
import pytest
from test_cli import RUN, START_MS, streamctr, write_events

from connectors.files import FileSource
from connectors.logs import read_samples
from jobs import eventtask
from jobs.runner import Runner
from streamctr.samples import SampleBatch
from streamctr.testing import same

ROOT = Path(__file__).parents[2]
LEARNED = ["events", "roots", "judged", "judged_from", "slices", "slices_from", "weights_sha256", "steps"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with events, read in many small blocks, and a run file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(eventtask, "FileSource", partial(FileSource, block_bytes=2_000))
    write_events(tmp_path / "events")
    (tmp_path / "ads.yaml").write_text(RUN)
    return tmp_path


def did(command, *arguments):
    """The one object that a command prints with --json, when all is well."""
    code, out, err = streamctr(command, "ads.yaml", "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def assert_same_run(half, whole, here):
    """What was learned and judged in the directory `half` is what was in `whole`; each is a result of --json."""
    for key in LEARNED:
        assert half[key] == whole[key], key
    lines = [(here / result["run"] / "metrics.jsonl").read_bytes() for result in (half, whole)]
    assert lines[0] == lines[1] != b""


def append_views(here, first, count):
    with (here / "events" / "view.jsonl").open("ab") as file:
        file.writelines(
            orjson.dumps({"id": f"n{n}", "t": START_MS + 1000 * n, "user": "u1", "item": n % 5}) + b"\n"
            for n in range(first, first + count)
        )


def test_join_and_learn_end_where_a_replay_ends(here):
    whole = did("replay", "--run", "whole")
    joined = did("join", "--run", "half")
    shutil.rmtree("events")  # learning needs none
    half = did("learn", "--run", "half")
    assert (joined["events"], joined["roots"]) == (whole["events"], whole["roots"])
    assert (joined["rows"], joined["samples"]) == (567, "half/samples")
    assert_same_run(half, whole, here)
    assert list(half) == list(whole)
    assert half["snapshot"] == "000000000567"


def test_what_is_joined_is_what_a_replay_keeps(here):
    did("replay", "--run", "whole", "--set", "samples=true")
    did("join", "--run", "half")
    logs = [SampleBatch.concat(list(read_samples(here / run / "samples"))) for run in ("whole", "half")]
    assert same(*logs)


def test_both_say_what_comes_next(here):
    _, out, err = streamctr("join", "ads.yaml")
    assert " roots     216 final, 24 still open\n samples   567 rows in runs/ads/samples\n" in out
    assert "snapshot 000000000390 verified · next: streamctr learn runs/ads" in out
    assert "join 100% 390 events" in err
    _, out, err = streamctr("learn", "runs/ads")
    assert "read" not in out
    assert "next: streamctr snapshots show runs/ads" in out
    assert "learn 100% 567 rows" in err


def test_a_seam_in_time_and_one_behind_it_change_nothing(here):
    whole = did("replay", "--run", "whole")
    did("join", "--run", "half", "--until", "2022-04-15T05:22Z")
    first = did("learn", "--run", "half")
    assert 0 < first["steps"] < whole["steps"]
    did("join", "--run", "half")
    assert_same_run(did("learn", "--run", "half"), whole, here)


@pytest.mark.parametrize("between", [True, False])
def test_an_input_that_went_on_behind_its_end_is_learned_as_by_replays_then_and_now(here, between):
    did("replay", "--run", "whole")
    did("join", "--run", "half")
    if between:
        did("learn", "--run", "half")
    append_views(here, first=300, count=40)
    whole = did("replay", "--run", "whole")
    did("join", "--run", "half")
    assert_same_run(did("learn", "--run", "half"), whole, here)


def test_another_model_learns_from_the_same_samples(here):
    whole = did("replay", "--run", "whole", "--set", "model=lr")
    did("join", "--run", "half")
    did("learn", "--run", "half")
    code, _, err = streamctr("learn", "ads.yaml", "--run", "half", "--set", "model=lr")
    assert code == 78
    assert "half cannot go on from snapshot 000000000567 with another config:\n  model.name: esmm is now lr\n" in err
    half = did("learn", "--run", "half", "--set", "model=lr", "--fresh")
    assert_same_run(half, whole, here)
    assert did("join", "--run", "half", "--set", "model=lr", "--set", "training.batch=8")["rows"] == 567


def test_how_features_are_pooled_and_standardised_is_the_learners_business(here):
    settings = ["--set", "features.history.clicked.pool=max", "--set", "features.number.price.standardise=false"]
    text = RUN.replace("{price: log1p}", "{price: {transform: log1p}}")
    (here / "ads.yaml").write_text(text)
    whole = did("replay", "--run", "whole", *settings)
    did("join", "--run", "half")
    assert_same_run(did("learn", "--run", "half", *settings), whole, here)


def test_lookup_files_are_read_by_the_join_alone_and_a_changed_one_is_noticed(here):
    (here / "items.csv").write_text("item,brand\n" + "".join(f"{item},b{item % 3}\n" for item in range(11)))
    lookup = "lookup: {items: {file: items.csv, key: item, take: [brand]}}\n"
    text = RUN.replace("id: [user, item]\n", f"id: [user, item, brand]\n  {lookup}")
    (here / "ads.yaml").write_text(text)
    whole = did("replay", "--run", "whole")
    did("join", "--run", "half")
    table = (here / "items.csv").read_text()
    (here / "items.csv").unlink()
    assert_same_run(did("learn", "--run", "half"), whole, here)
    assert_same_run(json.loads(streamctr("learn", "half", "--json")[1]), whole, here)
    (here / "items.csv").write_text(table + "11,b9\n")
    code, _, err = streamctr("join", "ads.yaml", "--run", "half")
    assert (code, "half cannot go on from snapshot" in err, "sha256" in err) == (78, True, True)


def test_frozen_learning_is_frozen_replaying(here):
    whole = did("replay", "--run", "whole", "--frozen", "2022-04-15T05:22Z")
    did("join", "--run", "half")
    assert_same_run(did("learn", "--run", "half", "--frozen", "2022-04-15T05:22Z"), whole, here)
    code, _, err = streamctr("learn", "ads.yaml", "--run", "half", "--frozen", "2022-04-15T05:21Z")
    assert (code, "--frozen: 2022-04-15T05:22:00Z is now 2022-04-15T05:21:00Z" in err) == (78, True)


def test_asked_again_both_stay_where_they_are(here):
    joined, learned = did("join"), did("learn")
    lines = (here / "runs/ads/metrics.jsonl").read_bytes()
    assert {**did("join"), "seconds": 0} == {**joined, "seconds": 0}
    assert {**did("learn"), "seconds": 0} == {**learned, "seconds": 0}
    assert (here / "runs/ads/metrics.jsonl").read_bytes() == lines
    for folder in ("joined", "snapshots"):
        assert len(list((here / "runs/ads" / folder).iterdir())) == 1


def test_a_join_that_was_told_to_stop_can_be_learned_from_so_far(here, monkeypatch):
    whole = did("replay", "--run", "whole")
    advance = Runner._advance

    def advance_and_be_told(self, progress):
        if self._task.taken > 200:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_advance", advance_and_be_told)
        code, out, err = streamctr("join", "ads.yaml", "--run", "half", "--json")
    assert (code, "SIGTERM: taking a last snapshot" in err) == (143, True)
    stopped = json.loads(out)
    assert 0 < stopped["rows"] < 567
    assert did("learn", "--run", "half")["snapshot"] == f"{stopped['rows']:012d}"
    did("join", "--run", "half")
    assert_same_run(did("learn", "--run", "half"), whole, here)


@pytest.mark.slow
def test_killed_in_the_middle_of_either_half_the_end_is_the_same(here):
    whole = did("replay", "--run", "whole")

    def child(kill_before, command):
        arguments = [command, "ads.yaml", "--run", "half", "--set", "snapshots.every_events=100", "--json"]
        return subprocess.run(
            [sys.executable, ROOT / "tests/jobs/halves_child.py", str(kill_before), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip

    assert child(10, "join").returncode == -signal.SIGKILL
    assert "run streamctr join half first" in streamctr("learn", "ads.yaml", "--run", "half")[2]
    code, out, err = streamctr("join", "ads.yaml", "--run", "half", "--json")
    assert "going on from snapshot" in err
    assert (code, json.loads(out)["rows"]) == (0, 567)
    assert child(7, "learn").returncode == -signal.SIGKILL
    code, out, err = streamctr("learn", "ads.yaml", "--run", "half", "--json")
    assert "going on from snapshot" in err
    assert_same_run(json.loads(out), whole, here)


def test_samples_cut_within_a_message_are_refused_where_the_cut_matters(here):
    did("join")
    samples = here / "runs/ads/samples/part-0.arrows"
    whole = samples.read_bytes()
    samples.write_bytes(whole + whole[: len(whole) // 2])  # what a killed join left behind the end
    assert did("learn")["snapshot"] == "000000000567"
    samples.write_bytes(whole[:-10])
    code, _, err = streamctr("learn", "ads.yaml", "--fresh")
    assert code == 65
    assert "runs/ads/samples/part-0.arrows ends within a message" in err
    samples.unlink()
    code, _, err = streamctr("learn", "ads.yaml", "--fresh")
    assert code == 65
    assert err == "runs/ads/samples lacks row 0 of the 567 that were joined; run streamctr join again\n"


def test_the_end_and_topics_alone_are_of_joins_that_go_to_a_topic(here):
    code, _, err = streamctr("join", "ads.yaml", "--until", "end")
    assert (code, "files end by themselves; leave it out, or set kafka.samples: TOPIC" in err) == (78, True)
    topics = "kafka={servers: 'localhost:1', topics: {view: views, click: clicks}}"
    code, _, err = streamctr("join", "ads.yaml", "--set", "files=null", "--set", topics)
    assert (code, "add files: PATHS, or join its topics: kafka.samples: TOPIC" in err) == (78, True)


def test_learning_first_needs_a_join(here):
    code, _, err = streamctr("learn", "ads.yaml")
    assert (code, err) == (65, "runs/ads holds no samples that join has finished; run streamctr join runs/ads first\n")


def test_samples_of_another_config_are_refused(here):
    did("join")
    code, _, err = streamctr("learn", "ads.yaml", "--set", "lateness=9s", "--set", "metrics.slices=[item]")
    assert code == 78
    assert err == (
        "runs/ads/samples was joined with another config:\n"
        "  lateness: 5s is now 9s\n"
        "  metrics.slices: ['user'] is now ['item']\n"
        "take the change back, choose another directory with --run, or join anew with streamctr join --fresh\n"
    )


def test_the_commands_do_not_take_each_others_directories(here):
    did("replay", "--run", "whole")
    did("join", "--run", "half")
    for command, directory, owner in (("join", "whole", "replay"), ("replay", "half", "join")):
        code, _, err = streamctr(command, "ads.yaml", "--run", directory)
        assert (code, err) == (
            78,
            f"{directory} holds snapshots of {owner}: go on with streamctr {owner}, choose another directory with "
            "--run, or start anew with --fresh\n",
        )
    did("learn", "--run", "half")
    shutil.rmtree("half/joined")
    assert "half holds snapshots of learn" in streamctr("replay", "ads.yaml", "--run", "half")[2]
    did("replay", "--run", "half", "--fresh")
    assert not (here / "half/samples").exists()


def test_what_was_written_before_the_first_snapshot_is_written_again(here):
    whole = did("replay", "--run", "whole")
    for run in ("half", "again"):
        (here / run).mkdir()
        (here / run / "metrics.jsonl").write_text('{"of": "a run that was killed"}\n')
    assert_same_run(did("replay", "--run", "again"), whole, here)
    did("join", "--run", "half")
    assert_same_run(did("learn", "--run", "half"), whole, here)
