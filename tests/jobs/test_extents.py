"""Who reads the logs of a run reads what its newest snapshot lists of them."""

import json

import numpy as np
import pytest

from jobs.console import Call
from jobs.explain import explain
from jobs.extents import kept_extent
from jobs.notebook import Run
from jobs.replay import Request, replay
from streamctr.errors import DataError
from streamctr.snapshot import SnapshotStore

RUN = """
files: "*.jsonl"
key: id
time: t
samples: true
features: {id: [ad]}
model: lr
training: {batch: 8, threads: 1}
funnel: {view: {}, click: {observe: 1h}}
"""


def save(folder, events, logs):
    return SnapshotStore(folder, 9).save(events, {"a": np.zeros(1)}, {"logs": logs}, ())


def test_the_newest_snapshot_says_it_in_the_first_folder_whose_snapshots_do(tmp_path):
    learned, joined = tmp_path / "snapshots", tmp_path / "joined"
    assert kept_extent("samples", learned, joined) is None
    save(learned, 9, {"metrics": "m"})
    save(joined, 1, {"samples": "older"})
    newest = save(joined, 2, {"samples": "newer"})
    assert kept_extent("samples", learned, joined) == "newer"
    assert kept_extent("metrics", learned, joined) == "m"
    assert kept_extent("scores", learned, joined) is None
    (joined / newest / "manifest.json").write_text("{")
    assert kept_extent("samples", learned, joined) == "older"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that has ended: views a to d, a day apart, of which b was clicked."""
    monkeypatch.chdir(tmp_path)
    views = [{"id": name, "t": f"2026-03-0{day}T00:00Z", "ad": "x"} for day, name in enumerate("abcd", 1)]
    (tmp_path / "view.jsonl").write_text("".join(json.dumps(view) + "\n" for view in views))
    (tmp_path / "click.jsonl").write_text('{"id": "b", "t": "2026-03-02T00:30Z"}\n')
    (tmp_path / "run.yaml").write_text(RUN)
    replay(Call((), True), Request(tmp_path / "run.yaml"))
    return tmp_path / "run.yaml"


def test_rows_behind_the_snapshot_are_not_read(run, tmp_path):
    kept = Run.from_file(run).samples()
    part = tmp_path / "runs" / "run" / "samples" / "part-0.arrows"
    part.write_bytes(part.read_bytes() + part.read_bytes()[: -len("cut")])
    assert Run.from_file(run).samples().equals(kept)


def test_rows_and_scores_are_read_from_the_files_that_the_snapshot_lists(run, tmp_path):
    directory = tmp_path / "runs" / "run"
    kept, served = Run.from_file(run).samples(), explain(Call((), True), run, "d")[0]["served"]
    assert 0 < served["click"] < 1
    for name in ("part-0", "scores"):
        (directory / f"samples/{name}.arrows").rename(directory / f"samples/{name.removesuffix('-0')}-e00002-0.arrows")
    with pytest.raises(DataError, match="holds no samples"):
        Run.from_file(run).samples()
    assert explain(Call((), True), run, "d")[0]["served"] is None

    (manifest,) = directory.glob("snapshots/*/manifest.json")
    told = json.loads(manifest.read_text())
    for log, name in (("samples", "part-0"), ("scores", "scores")):
        listed = told["about"]["logs"][log]
        told["about"]["logs"][log] = listed.replace(f"{name}.arrows", f"{name.removesuffix('-0')}-e00002-0.arrows")
    manifest.write_text(json.dumps(told))
    assert Run.from_file(run).samples().equals(kept)
    assert explain(Call((), True), run, "d")[0]["served"] == served
