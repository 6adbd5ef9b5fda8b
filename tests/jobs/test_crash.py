"""Killed with -9 wherever it hurts, a replay of real events ends as if nothing had happened."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.logs import read_samples
from jobs.kuairand import convert
from streamctr.samples import SampleBatch
from streamctr.snapshot import SnapshotStore
from streamctr.testing import same

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "kuairand"
KILLS = 20
EVERY = 3_000


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    """The KuaiRand example on plain files with a malformed line every now and then, and samples on."""
    folder = tmp_path_factory.mktemp("crash")
    convert(str(DATA), str(folder), lambda _: None)
    for path in sorted(folder.glob("*.zst")):
        with pa.input_stream(str(path), compression="zstd") as stream:
            lines = stream.read().splitlines()
        for place in range(len(lines), 0, -9_000):
            lines.insert(place, b'{"id": "broken')
        (folder / path.stem).write_bytes(b"\n".join(lines) + b"\n")
        path.unlink()
    text = (ROOT / "jobs" / "examples" / "kuairand.yaml").read_text()
    text, found = re.subn(r"^files:.*$", f"files: {folder}/*.jsonl\nsamples: true", text, flags=re.MULTILINE)
    assert found == 1
    (folder / "run.yaml").write_text(text)
    return folder / "run.yaml"


def replay(run_file, directory, moment="events:1000000000"):
    """A replay in a process of its own that ends at `moment`; what it said on stderr."""
    settings = [f"--set=snapshots.every_events={EVERY}", "--set=snapshots.every=0", "--set=snapshots.keep=3"]
    arguments = ["replay", str(run_file), "--run", str(directory), "--json", *settings]
    child = Path(__file__).parent / "crash_child.py"
    done = subprocess.run(
        [sys.executable, str(child), moment, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    return done


def outputs(directory):
    """Everything that a run leaves, but its log of wall times."""
    rows = SampleBatch.concat(list(read_samples(directory / "samples")))
    letters = sorted((directory / "dead-letters").iterdir())
    return rows, (directory / "metrics.jsonl").read_bytes(), [path.read_bytes() for path in letters]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/kuairand is absent")
def test_twenty_kills_and_three_faults_in_snapshots_change_nothing(run_file, tmp_path, capsys):
    whole = replay(run_file, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    expected = json.loads(whole.stdout)
    read = sum(counts["read"] for counts in expected["events"].values())

    draw = random.Random(20)
    span = (read - 10_000) // KILLS  # one draw in each, so that few resumes share a snapshot
    moments = [f"events:{5_000 + place * span + draw.randrange(span)}" for place in range(KILLS)]
    faults = zip(("arrays", "rename", "retention"), (read // 4, read // 2, 3 * read // 4), strict=True)
    moments += [f"fault:{place}:{n}" for place, n in faults]
    moments.sort(key=lambda moment: int(moment.split(":")[-1]))
    store = SnapshotStore(tmp_path / "killed" / "snapshots", keep=3)
    resumed_from, again = [], 0
    for moment in moments:
        done = replay(run_file, tmp_path / "killed", moment)
        assert done.returncode == -signal.SIGKILL, f"{moment}: {done.stderr}"
        newest, _ = store.newest()
        position = newest.manifest["about"]["events_read"] if newest else 0
        resumed_from.append(position)
        again += int(re.search(r"killed at (\d+)", done.stderr)[1]) - position
    last = replay(run_file, tmp_path / "killed")
    assert last.returncode == 0, last.stderr
    came = json.loads(last.stdout)

    with capsys.disabled():
        starts = len(set(resumed_from))
        print(f"\n{len(moments)} kills, {starts} different snapshots, {again:,} of {read:,} events read again")
    assert len(set(resumed_from)) >= 15  # fewer than kills: some come before a snapshot is written
    for key in ("weights_sha256", "events", "roots", "judged", "judged_from", "slices", "steps"):
        assert came[key] == expected[key], key
    assert sum(counts["rejected"] for counts in came["events"].values()) >= 15
    for ours, theirs in zip(outputs(tmp_path / "killed"), outputs(tmp_path / "whole"), strict=True):
        assert same(ours, theirs)
