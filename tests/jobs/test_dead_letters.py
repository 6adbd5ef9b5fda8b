"""What could not be read is listed, shown and written out again, each message once."""

import base64
import shutil
from pathlib import Path

import orjson
import pytest

from jobs.console import Call
from jobs.consume import consume
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


def test_where_nothing_is_written_no_folder_is_left(run, tmp_path):
    [letters] = (run / "dead-letters").iterdir()
    letters.write_bytes(b"x" * (letters.stat().st_size - 1) + b"\n")  # as long as the snapshot says
    with pytest.raises(DataError, match="is not a letter"):
        redrive(Call(), run, tmp_path / "redriven")
    assert not (tmp_path / "redriven").exists()


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


TOPIC_RUN = """
kafka: {servers: ["SERVERS"], topic: EVENTS, dead_letters: DEAD, client: kafka-python}
stage: kind
key: id
time: t
lateness: 1h
funnel: {view: {}, click: {after: view, observe: 1m}}
features: {number: {price: log1p}}
model: lr
training: {threads: 1}
rejects: {share: 0.9, of_last: 10}
"""
POISON = {
    "not JSON": b"not JSON",
    "a wrong type": b'{"kind": "view", "id": 901, "t": 1650000000000, "price": "cheap"}',
    "no id": b'{"kind": "view", "t": 1650000000000, "price": 1}',
    "giant": b'{"kind": "view", "id": "' + b"9" * 200_000 + b'"',
    "null": None,
    "invalid UTF-8": b'{"kind": "view", "id": "\xff\xfe", "t": 1650000000000}',
    "a wrong unit of time": b'{"kind": "view", "id": 902, "t": 1650000000, "price": 1}',
    "a negative time": b'{"kind": "view", "id": 903, "t": -5, "price": 1}',
    "an unknown stage": b'{"kind": "sale", "id": 904, "t": 1650000000000, "price": 1}',
    "truncated": b'{"kind": "view", "id": 905,\n "t": 16500',
}


@pytest.fixture
def consumed(tmp_path, monkeypatch, kafka):
    """A run over a topic in which every message of a kind of poison stands between good ones; and offsets by kind."""
    monkeypatch.chdir(tmp_path)
    events, dead = kafka.topic(1), kafka.topic(2, "dead", max_message_bytes=1 << 20)
    producer, offsets = kafka.producer(), {}
    for n, (name, value) in enumerate(POISON.items()):
        good = orjson.dumps({"kind": "view", "id": n, "t": START_MS + 1000 * n, "price": 1.5})
        producer.send(events, good, timestamp_ms=START_MS)
        sent = producer.send(events, value, b"key \xff", [("name", name.encode())], timestamp_ms=START_MS + n)
        offsets[name] = sent.get(timeout=10).offset
    producer.close(timeout=10)
    path = tmp_path / "letters.yml"
    text = TOPIC_RUN.replace("SERVERS", kafka.servers).replace("EVENTS", events).replace("DEAD", dead)
    path.write_text(text)
    result, exit_code = consume(Call((), True), Request(path, until="end"))
    assert exit_code == 0
    assert (result["events"]["view"]["joined"], sum(of["rejected"] for of in result["events"].values())) == (10, 10)
    return path, events, offsets


def test_ten_kinds_of_poison_in_a_topic_come_back_byte_for_byte_from_the_topic_of_dead_letters(consumed):
    path, events, offsets = consumed
    told, _ = show(Call((), True), path, None, 100)
    letters = {letter["line"]: letter for letter in told["letters"]}
    assert told["total"] == len(letters) == 10
    for n, (name, value) in enumerate(POISON.items()):
        letter = letters[offsets[name]]
        assert letter["path"] == f"{events}/0"
        assert letter["bytes"] == (None if value is None else base64.b64encode(value).decode())
        assert letter["key"] == base64.b64encode(b"key \xff").decode()
        assert letter["headers"] == [["name", base64.b64encode(name.encode()).decode()]]
        assert letter["time_ms"] == START_MS + n


def test_letters_in_a_topic_are_listed_and_shown_with_what_stands_beside_them(consumed, capsys):
    path, events, offsets = consumed
    found, _ = list_all(Call((), True), path)
    assert found["total"] == 10
    assert f"{events}/0:{offsets['no id']}" in [of["first"] for of in found["reasons"]]
    show(Call(), path, "tombstone", 10)
    shown = capsys.readouterr().out
    assert f"{events}/0:{offsets['null']}" in shown
    assert "has no value (a tombstone)" in shown
    assert "key: key \\xff" in shown
    assert "header name: null" in shown
    assert "(none)" in shown
    assert "1 of 1 shown" in shown


def test_letters_in_a_topic_are_redriven_as_lines_but_for_tombstones(consumed, tmp_path, capsys):
    path, _, _ = consumed
    told, _ = redrive(Call((), False), path, tmp_path / "again")
    assert told["left_out"] == {"repeated": 0, "cut": 0, "derived": 0, "empty": 1}
    assert sum(told["written"].values()) == 9
    written = b"".join(file.read_bytes() for file in (tmp_path / "again").iterdir())
    values = [value.replace(b"\n", b"\r") for value in POISON.values() if value is not None]
    assert sorted(written.rstrip(b"\n").split(b"\n")) == sorted(values)
    assert f"streamctr produce {path} --set files={tmp_path / 'again'}" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_was_never_consumed_has_no_letters_in_its_topic(tmp_path, monkeypatch, kafka):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "letters.yml"
    path.write_text(TOPIC_RUN.replace("SERVERS", kafka.servers).replace("EVENTS", "e").replace("DEAD", "d"))
    with pytest.raises(ConfigError, match=r"runs/letters is not there: has .*letters\.yml been run"):
        list_all(Call((), True), path)
    assert not (tmp_path / "runs").exists()


def test_only_what_the_newest_snapshot_lists_counts_in_a_folder(run):
    folder = run / "dead-letters"
    line = (folder / "letters.jsonl").read_bytes().splitlines(keepends=True)[0]
    with (folder / "letters.jsonl").open("ab") as file:
        file.write(line)  # behind the snapshot
    (folder / "letters-e00002-0.jsonl").write_bytes(line)  # of an owner who lost the run
    assert list_all(Call((), True), run)[0]["total"] == 6
    shutil.rmtree(run / "snapshots")
    assert list_all(Call((), True), run)[0]["total"] == 8
