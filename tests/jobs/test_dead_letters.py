"""What could not be read is listed, shown and written out again, each message once."""

from pathlib import Path

import orjson
import pytest

from jobs.console import Call
from jobs.deadletters import list_all, redrive, show
from jobs.replay import Request, replay
from streamctr.errors import ConfigError, DataError

START_MS = 1_650_000_000_000
RUN = """
files: FILES
key: id
time: t
lateness: 1h
funnel: {view: {}, buy: {when: bought, at: at, observe: 1m}}
features: {number: {price: log1p}}
model: lr
training: {threads: 1}
rejects: {share: 0.9, of_last: 10}
"""


def rows(bad_every, n=40):
    """Every so manieth price is no number; row 7 was bought before it was seen."""
    for i in range(n):
        price = "cheap" if i % bad_every == 3 else 1.5
        at = START_MS + 1000 * i + (-5 if i == 7 else 5)
        yield {"id": i, "t": START_MS + 1000 * i, "price": price, "bought": int(i in (7, 8)), "at": at}


def run_file(tmp_path, files):
    path = tmp_path / "letters.yml"
    path.write_text(RUN.replace("FILES", str(tmp_path / files)))
    return path


def replayed(tmp_path, path, name="run"):
    result, exit_code = replay(Call((), True), Request(path, directory=tmp_path / name))
    assert exit_code == 0
    return result


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [orjson.dumps(row) for row in rows(10)]
    lines[20] = b'{"id": 20, "t": '
    (tmp_path / "view.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    result = replayed(tmp_path, run_file(tmp_path, "view.jsonl"), "runs/letters")
    assert {name: n for name, n in result["events"]["view"].items() if n} == {"read": 40, "joined": 35, "rejected": 5}
    assert {name: n for name, n in result["events"]["buy"].items() if n} == {"read": 2, "joined": 1, "rejected": 1}
    return tmp_path / "runs" / "letters"


def test_reasons_are_listed_by_how_common_they_are(run):
    found, exit_code = list_all(Call((), True), run)
    assert (exit_code, found["total"]) == (0, 6)
    assert [(of["stage"], of["count"]) for of in found["reasons"]] == [("view", 4), ("buy", 1), ("view", 1)]
    assert "cheap" in found["reasons"][0]["reason"]
    assert found["reasons"][0]["first"].endswith("view.jsonl:4")


def test_messages_are_shown_with_their_bytes(run, capsys):
    found, _ = show(Call(), run, "cheap", 2)
    assert (found["total"], len(found["letters"])) == (4, 2)
    assert '"price":"cheap"' in capsys.readouterr().out


def test_redriven_messages_are_the_original_ones_and_a_fresh_run_of_the_mended_ones_takes_each_once(run, tmp_path):
    told, _ = redrive(Call((), True), run, tmp_path / "again")
    assert told["written"] == {"view-redriven.jsonl": 5}
    assert told["left_out"] == {"repeated": 0, "cut": 0, "derived": 1, "empty": 0}
    again = tmp_path / "again" / "view-redriven.jsonl"
    lines = again.read_bytes().splitlines()
    assert [orjson.loads(line)["id"] for line in lines if line.endswith(b"}")] == [3, 13, 23, 33]
    assert b'{"id": 20, "t": ' in lines
    whole = [line for line in lines if line.endswith(b"}")] + [orjson.dumps({"id": 20, "t": START_MS, "price": 1})]
    again.write_bytes(b"\n".join(whole).replace(b'"cheap"', b"2.5"))
    good = [line for line in (tmp_path / "view.jsonl").read_bytes().splitlines() if b"cheap" not in line]
    (tmp_path / "view.jsonl").write_bytes(b"\n".join(line for line in good if line.endswith(b"}")))
    path = run_file(tmp_path, "**/*.jsonl")
    path.write_text(path.read_text().replace("**/*.jsonl", "*.jsonl, XX]").replace("files: ", "files: ["))
    path.write_text(path.read_text().replace("XX", str(again)).replace("1h", "1d"))
    result = replayed(tmp_path, path, "mended")
    assert {name: n for name, n in result["events"]["view"].items() if n} == {"read": 40, "joined": 40}


def test_no_folder_with_something_in_it_is_written_into(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "view.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="holds something already"):
        redrive(Call((), True), run, tmp_path / "full")


def test_what_to_do_next_with_redriven_messages_does_not_make_them_late(run, tmp_path, capsys):
    redrive(Call(), run, tmp_path / "again")
    assert f"mend them in {tmp_path / 'again'}, add it to files with merge: time" in capsys.readouterr().out
    again = tmp_path / "again" / "view-redriven.jsonl"
    lines = [line for line in again.read_bytes().splitlines() if line.endswith(b"}")]
    again.write_bytes(b"\n".join(lines).replace(b'"cheap"', b"2.5"))
    path = run_file(tmp_path, "view.jsonl")
    both = f"files: {{paths: [{tmp_path / 'view.jsonl'}, {again}], merge: MERGE}}\nlateness: 1s"
    text = path.read_text().replace("lateness: 1h\n", "").replace(f"files: {tmp_path / 'view.jsonl'}", both)
    path.write_text(text.replace("MERGE", "name"))
    # again/ is read first, up to second 33: of seconds 0 to 31 behind it 28 messages are good
    assert replayed(tmp_path, path, "by-name")["events"]["view"]["late"] == 28
    path.write_text(text.replace("MERGE", "time"))
    counts = replayed(tmp_path, path, "by-time")["events"]["view"]
    assert (counts["late"], counts["joined"]) == (0, 39)


def test_a_run_that_is_not_there_is_said_to_be_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no run file none\.yaml; name one, or the directory of a run"):
        list_all(Call((), True), Path("none.yaml"))
    with pytest.raises(ConfigError, match=r"is not a run directory: it holds no run\.yaml; name a run file"):
        list_all(Call((), True), tmp_path)


def test_csv_messages_are_redriven_with_their_header(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header, *records = ["id,t,price,bought,at"] + [f"{r['id']},{r['t']},{r['price']},," for r in rows(10)]
    (tmp_path / "view.csv").write_text("\n".join([header, *records]))
    replayed(tmp_path, run_file(tmp_path, "view.csv"), "runs/letters")
    told, _ = redrive(Call((), True), tmp_path / "runs" / "letters", tmp_path / "again")
    assert told["written"] == {"view-redriven.csv": 4}
    text = (tmp_path / "again" / "view-redriven.csv").read_text()
    assert text.splitlines() == [header, *(record for record in records if "cheap" in record)]


def test_a_run_stops_where_too_many_messages_are_malformed(tmp_path):
    lines = [orjson.dumps(row) for row in rows(1000, n=100)]
    broken = [line.replace(b'"price"', b'"p":[],"price"').replace(b"1.5", b'"?"') for line in lines[20:]]
    (tmp_path / "view.jsonl").write_bytes(b"\n".join([*lines[:20], *broken]))
    with pytest.raises(DataError, match=r"10 of .*10 messages.*price"):
        replay(Call((), True), Request(run_file(tmp_path, "view.jsonl"), directory=tmp_path / "run"))
