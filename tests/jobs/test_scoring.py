"""Events that are scored: one row each, or an error that says which and why."""

import orjson
import pytest

from jobs.notebook import Run
from streamctr.errors import DataError

RUN = """
files: log.jsonl
stage: kind
ignore: [beat]
key: id
time: t
funnel: {view: {}, click: {observe: 1m}}
features: {id: [ad]}
model: lr
lateness: 1d
training: {threads: 1, batch: 10}
"""
VIEW = {"kind": "view", "id": "v", "t": "2026-03-01T00:00Z", "ad": "x"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    views = [VIEW | {"id": n, "t": 1_772_400_000_000 + 60_000 * n, "ad": "xy"[n % 2]} for n in range(40)]
    clicks = [view | {"kind": "click"} for view in views if view["ad"] == "x"]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(map(orjson.dumps, views + clicks)))
    (tmp_path / "run.yml").write_text(RUN)
    run = Run.from_file("run.yml", directory="run")
    run.replay()
    return run


def test_every_event_has_its_row_in_order(run):
    scores = run.score([VIEW, VIEW | {"ad": "y"}, VIEW])["click"].to_pylist()
    assert len(scores) == 3
    assert scores[0] == scores[2] > scores[1]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (VIEW | {"kind": "click"}, "event 2 is no view: only roots are scored"),
        ({"kind": "beat"}, "event 2 is no view: only roots are scored"),
        (VIEW | {"t": "x"}, 'event 2 cannot be scored: time "t" is "x"'),
        (VIEW | {"ad": {1}}, "event 2 cannot be scored: Type is not JSON serializable: set; give texts, numbers"),
    ],
)
def test_an_event_that_has_no_score_is_named(run, event, error):
    with pytest.raises(DataError, match=error):
        run.score([VIEW, event, VIEW])
