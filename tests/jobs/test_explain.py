"""What became of one root: every event with its place and outcome, features as text, rows, and a score."""

import orjson
import pytest

from jobs.console import Call
from jobs.explain import explain
from jobs.replay import Request, replay
from streamctr.errors import ConfigError, DataError

START_MS = 1_650_000_000_000
RUN = """
files: FILES/*.jsonl
key: id
time: t
user: user
lateness: 5s
funnel: {view: {}, click: {observe: 10s}, buy: {told_by: view, at: bought, observe: 1m}}
features:
  id: [ad]
  number: {price: none}
  time: [hour]
  history: {seen: {of: click, take: [ad], last: 3}}
model: lr
training: {threads: 1}
"""


def line(seconds, root, **more):
    return orjson.dumps({"id": root, "t": START_MS + 1000 * seconds} | more)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    views = [
        line(0, "a:1", ad="red", price=2.5, user="u", bought=START_MS + 8_000),
        line(1, "b", ad="blue", price=None, user="u"),
        line(2, "a:1", ad="red", user="u"),
        b'{"id": "c", "t": "yesterday"}',
        line(100, "d", ad="red", user="u", price=1),
        line(60, "e", ad="late", user="u"),
        line(101, "f", ad="red", user="u"),
    ]
    clicks = [line(3, "a:1"), line(3, "g"), line(4, "a:1"), line(90, "b")]
    (tmp_path / "view.jsonl").write_bytes(b"\n".join(views))
    (tmp_path / "click.jsonl").write_bytes(b"\n".join(clicks))
    path = tmp_path / "told.yml"
    path.write_text(RUN.replace("FILES", str(tmp_path)))
    replay(Call((), True), Request(path))
    return path


def told(run, event_id):
    found, exit_code = explain(Call((), True), run, event_id)
    assert exit_code == 0
    return found


def test_every_event_of_a_root_has_its_place_and_outcome(run):
    found = told(run, "a:1")
    events = [(event["stage"], event["outcome"], event["at"].rsplit("/", 1)[1]) for event in found["events"]]
    assert events == [
        ("view", "joined", "view.jsonl:1"),
        ("view", "duplicate", "view.jsonl:3"),
        ("click", "joined", "click.jsonl:1"),
        ("click", "duplicate", "click.jsonl:3"),
        ("buy", "joined", "view.jsonl:1"),
    ]
    assert found["features"] == {"ad": "red", "hour": "5", "price": 2.5, "seen": "0 of the last 3"}
    said = [(row["emitted"], row["says"]) for row in found["rows"]]
    assert said == [
        ("2022-04-15T05:20:00Z", {}),
        ("2022-04-15T05:20:10Z", {"click": {"says": ["observed", "final"], "label": 1}}),
        ("2022-04-15T05:21:03Z", {"buy": {"says": ["observed", "final"], "label": 1}}),
    ]
    assert found["rows"][2]["happened"]["buy"] == "2022-04-15T05:20:08Z"
    assert 0 < found["score"]["click"] < 1
    assert found["score"]["snapshot"] == "000000000012"


def test_a_run_that_keeps_its_samples_tells_what_the_root_was_served_with(run, capsys):
    assert told(run, "a:1")["served"] is None
    replay(Call(("samples=true", "metrics.tick=5s"), True), Request(run, fresh=True))
    served = told(run, "a:1")["served"]
    assert served["click"] == pytest.approx(0.5)  # the first root of all met a model that had learned nothing
    assert served["click&buy"] == pytest.approx(0.25)
    later = told(run, "f")
    assert later["served"]["click"] != pytest.approx(0.5, abs=1e-4)
    assert set(later["score"]) - {"snapshot"} == set(later["served"])
    explain(Call(), run, "f")
    assert "when it came" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("root", "outcomes"),
    [("b", ["joined", "expired"]), ("g", ["orphan"]), ("e", ["late"]), ("f", ["joined"])],
)
def test_outcomes_that_give_no_positive_row(run, root, outcomes):
    assert [event["outcome"] for event in told(run, root)["events"]] == outcomes


def test_a_missing_number_is_told_as_missing(run):
    assert told(run, "b")["features"]["price"] is None


def test_a_malformed_message_that_speaks_of_the_id_is_shown(run, capsys):
    found = told(run, "c")
    assert (found["events"], found["rows"], found["score"]) == ([], [], None)
    assert found["malformed"][0]["at"].endswith("view.jsonl:4")
    explain(Call(), run, "c")
    assert "no row: its messages are malformed" in capsys.readouterr().out


def test_what_is_printed_for_people_names_features_rows_and_score(run, capsys):
    explain(Call(), run, "a:1")
    printed = capsys.readouterr().out
    for words in ("red", "arrived", "click observed final 1", "duplicate", "by the weights of snapshot"):
        assert words in printed


def test_an_id_that_is_nowhere_is_an_error_that_names_the_key(run):
    with pytest.raises(DataError, match=r"no event of .* has the id zzz; it is the value of id"):
        explain(Call((), True), run, "zzz")


def test_a_run_of_topics_alone_is_told_that_files_are_needed(run):
    topics = "kafka={servers: 'localhost:1', topics: {view: views, click: clicks}}"
    words = r"explain reads event files, and .* names none; add files: PATHS"
    with pytest.raises(ConfigError, match=words):
        explain(Call((topics, "files=null"), True), run, "a:1")


def test_every_feature_is_told_crosses_bags_vectors_histories_and_what_a_lookup_adds(run, tmp_path):
    more = "cross: [[ad, hour]]\n  bag: [tags]\n  vector: {emb: 2}\n"
    more += "  lookup: {ads: {file: ads.csv, key: ad, take: [brand]}}"
    wider = run.read_text().replace("id: [ad]", f"id: [ad, brand]\n  {more}")
    (tmp_path / "ads.csv").write_text("ad,brand\nred,ferrari\n")
    (tmp_path / "view.jsonl").write_bytes(
        b"\n".join([line(0, "a", ad="red", user="u", tags=["x", "y"], emb=[1, 2]), line(30, "b", ad="blue", user="u")])
    )
    (tmp_path / "click.jsonl").write_bytes(line(3, "a"))
    path = tmp_path / "wider.yml"
    path.write_text(wider)
    assert told(path, "a")["features"] == {
        "ad": "red", "brand": "ferrari", "ad*hour": "red x 5", "hour": "5", "tags": "2 ids", "price": None,
        "emb": "2 numbers", "seen": "0 of the last 3",
    }  # fmt: skip
    features = told(path, "b")["features"]
    assert (features["brand"], features["emb"], features["seen"]) == ("missing", None, "1 of the last 3")


def test_an_id_that_no_integer_key_can_have_is_an_error_that_says_so(run):
    run.write_text(run.read_text().replace("key: id", "key: id\ntypes: {id: integer}"))
    for event_id in ("abc", "9223372036854775808", "1.0"):
        with pytest.raises(DataError, match=f'"{event_id}" is no whole number of 64 bits, and types says that id is'):
            explain(Call((), True), run, event_id)


def test_kept_scores_are_the_same_whether_a_run_stopped_on_the_way_or_not(run, tmp_path):
    settings = ("samples=true", "metrics.tick=5s")
    replay(Call(settings, True), Request(run, directory=tmp_path / "whole"))
    replay(Call(settings, True), Request(run, directory=tmp_path / "parts", until="2022-04-15T05:20:30Z"))
    with (tmp_path / "parts" / "samples" / "scores.arrows").open("ab") as scores:
        scores.write(b"what a kill left behind the snapshot")
    replay(Call(settings, True), Request(run, directory=tmp_path / "parts"))
    whole, parts = ((tmp_path / name / "samples" / "scores.arrows").read_bytes() for name in ("whole", "parts"))
    assert len(whole) > 100
    assert parts == whole
