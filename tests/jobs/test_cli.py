"""The command as a user meets it: what it prints, where, and what it ends with."""

import errno
import json
import os
import re
import signal
import subprocess
import sys

import orjson
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.console import guarded
from jobs.interrupts import Alarm, Stop
from jobs.rundir import RunDirectory
from streamctr.errors import BusyError
from streamctr.pipeline import Pipeline
from streamctr.snapshot import store

START_MS = 1_650_000_000_000
RUN = """\
files: events/*.jsonl
key: id
time: {field: t, zone: Asia/Shanghai}
user: user
lateness: 5s
funnel:
  view:  {}
  click: {observe: 20s}
  order: {observe: 30s}
features:
  id: [user, item]
  number: {price: log1p}
  history: {clicked: {of: click, take: [item], last: 5}}
model: {name: esmm, towers: [4]}
tables: {rows: 2^8, width: 2}
training: {batch: 16, threads: 1}
metrics: {bucket: 1m, tick: 1m, slices: [user], from: 2022-04-15T05:21Z}
"""
KEYS = ["events", "roots", "judged", "judged_from", "slices", "slices_from"]
KEYS += ["weights_sha256", "snapshot", "steps", "seconds", "run"]
ROOTS = 240


def write_events(folder, roots=ROOTS):
    """One view a second; every second one is clicked after 3 s, every fourth of these ordered after another 2 s."""
    folder.mkdir()
    lines = {"view": [], "click": [], "order": []}
    for root in range(roots):
        at = {"id": f"r{root}", "t": START_MS + 1000 * root}
        lines["view"].append(at | {"user": f"u{root % 7}", "item": root % 11, "price": root * 0.5})
        if root % 2 == 0:
            lines["click"].append(at | {"t": at["t"] + 3000})
        if root % 8 == 0:
            lines["order"].append(at | {"t": at["t"] + 5000})
    for stage, events in lines.items():
        (folder / f"{stage}.jsonl").write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with events and a run file."""
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "events")
    (tmp_path / "ads.yaml").write_text(RUN)
    return tmp_path


def streamctr(*arguments):
    """Exit code, stdout, stderr."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def replayed(*arguments):
    """The one object that `replay --json` prints."""
    code, out, err = streamctr("replay", "ads.yaml", "--json", *arguments)
    assert code == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


def test_help_imports_neither_torch_nor_numba():
    script = "import sys; from jobs.cli import app\ntry: app(sys.argv[1:])\nfinally: print(sorted(sys.modules))"
    for group in ([], ["replay"], ["data"], ["snapshots", "verify"]):
        done = subprocess.run([sys.executable, "-c", script, *group, "--help"], capture_output=True, text=True)
        assert "Usage" in done.stdout
        assert not {"'torch'", "'numba'", "'numpy'"} & set(re.findall(r"'\w+'", done.stdout))


def test_every_help_page_tells_the_exit_codes():
    for command in ("replay", "check", "demo", "data", "snapshots"):
        text = " ".join(streamctr(command, "--help")[1].split())
        assert "74 a snapshot does not verify or belong" in text
        assert "78 the run file or an option cannot be used" in text


def test_replay_prints_one_object_and_everything_else_on_stderr(here):
    code, out, err = streamctr("replay", "ads.yaml", "--json")
    result = json.loads(out)
    assert (code, list(result)) == (0, KEYS)
    assert "replay 100%" in err
    assert result["events"]["view"] == {
        "read": 240, "waiting": 0, "joined": 240, "duplicate": 0, "expired": 0, "late": 0, "orphan": 0,
        "rejected": 0, "skipped": 0,
    }  # fmt: skip
    assert [counts["read"] for counts in result["events"].values()] == [240, 120, 30]
    # The newest event is the last click, at 241 s: final are 111 odd roots up to 221 s, 105 even ones up to 208 s.
    assert result["roots"] == {"final": 216, "open": 24}
    assert result["snapshot"] == "000000000390"
    assert result["run"] == "runs/ads"
    assert list(result["judged"]) == ["click", "order|click", "click&order"]
    assert sorted(path.name for path in (here / "runs" / "ads").iterdir()) == [
        ".lock", "dead-letters", "log.jsonl", "metrics.jsonl", "run.yaml", "snapshots",
    ]  # fmt: skip


def test_without_json_it_prints_the_summary(here):
    code, out, _ = streamctr("replay", "ads.yaml")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["view", "240", "240", "0", "0", "0", "0", "0", "0", "0"] in rows
    assert ["total", "390", "390", "0", "0", "0", "0", "0", "0", "0", "=", "read"] in rows
    assert "roots     216 final, 24 still open" in out
    assert re.search(r"click & order +\d+ +0\.\d{4}", out)
    assert re.search(r"snapshot 000000000390 verified · weights sha256 \w{4}\.\.\.\w{2} · next: streamctr", out)


def test_asking_again_for_what_was_reached_takes_no_other_snapshot(here):
    first = replayed("--until", "2022-04-15T05:22Z")
    again = json.loads(streamctr("replay", "runs/ads/run.yaml", "--until", "2022-04-15T05:22Z", "--json")[1])
    assert (again["snapshot"], again["run"]) == (first["snapshot"], "runs/ads")
    assert len(list((here / "runs" / "ads" / "snapshots").iterdir())) == 1


@pytest.mark.parametrize("settings", [[], ["--set", "snapshots.every_events=1"]])
def test_events_appended_behind_the_end_are_learned_to_the_end_whenever_snapshots_fall(here, settings):
    replayed(*settings)
    with (here / "events" / "view.jsonl").open("ab") as file:
        file.writelines(orjson.dumps({"id": f"n{n}", "t": START_MS + 1000 * (300 + n)}) + b"\n" for n in range(10))
    again = replayed(*settings)
    assert again["events"]["view"]["joined"] == ROOTS + 10
    lines = (here / "runs" / "ads" / "metrics.jsonl").read_bytes().splitlines()
    assert json.loads(lines[-1])["steps"] == again["steps"] == 26
    assert json.loads(lines[-1])["event_ms"] == START_MS + 309_000


def test_a_malformed_line_appended_to_a_good_file_is_a_dead_letter_not_the_end(here):
    replayed()
    with (here / "events" / "view.jsonl").open("ab") as file:
        file.write(b'{"id": "half a li')
    assert replayed()["events"]["view"]["rejected"] == 1


def test_a_stage_without_a_file_is_told(here):
    (here / "events" / "order.jsonl").unlink()
    assert "no file is of stage order: it never happens in this run" in streamctr("replay", "ads.yaml")[2]


def test_until_and_a_resume_end_where_one_run_ends(here):
    whole = replayed("--run", "whole")
    first = replayed("--until", "2022-04-15T05:22Z", "--run", "parts")
    assert first["roots"]["final"] < whole["roots"]["final"]
    last = replayed("--run", "parts")
    assert last["weights_sha256"] == whole["weights_sha256"] != first["weights_sha256"]
    for key in ("events", "roots", "judged", "judged_from", "slices", "slices_from", "steps"):
        assert last[key] == whole[key], key
    assert (here / "parts/metrics.jsonl").read_bytes() == (here / "whole/metrics.jsonl").read_bytes()


def test_a_run_that_is_over_stays_as_it_is(here):
    first = replayed()
    written = (here / "runs/ads/metrics.jsonl").read_bytes()
    again = replayed()
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert (here / "runs/ads/metrics.jsonl").read_bytes() == written


def test_a_signal_stops_cleanly_with_a_last_snapshot(here, monkeypatch):
    whole = replayed("--run", "whole")
    advance = Pipeline.advance

    def advance_and_be_told(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "advance", advance_and_be_told)
        code, out, err = streamctr("replay", "ads.yaml", "--run", "stopped", "--json")
    assert code == 143
    assert "SIGTERM: taking a last snapshot" in err
    assert json.loads(out)["snapshot"] == "000000000240"
    assert replayed("--run", "stopped")["weights_sha256"] == whole["weights_sha256"]


def test_snapshots_are_taken_every_so_many_events(here):
    """How many there are, and which of them are the last two, depends on how long the writing takes."""
    found = []
    for keep in (9, 2):
        replayed("--fresh", "--set", "snapshots.every_events=100", "--set", f"snapshots.keep={keep}")
        code, out, _ = streamctr("snapshots", "list", "ads.yaml", "--json")
        assert code == 0
        found.append([snapshot["name"] for snapshot in json.loads(out)["snapshots"]])
    many, two = found
    assert 0 < int(many[0][:12]) < 390
    assert len(two) == 2
    assert many[-1].startswith("000000000390")
    assert two[-1].startswith("000000000390")


def test_a_changed_config_is_refused_with_what_differs(here):
    replayed("--until", "2022-04-15T05:22Z")
    code, out, err = streamctr("replay", "ads.yaml", "--set", "training.batch=8", "--set", "lateness=9s", "--json")
    assert code == 78
    assert json.loads(out) == {"error": err.removesuffix("\n"), "exit_code": 78}
    assert err == (
        "runs/ads cannot go on from snapshot 000000000390 with another config:\n"
        "  lateness: 5s is now 9s\n"
        "  training.batch: 16 is now 8\n"
        "take the change back, choose another directory with --run, or start anew with --fresh\n"
    )
    replayed("--set", "training.batch=8", "--fresh")


def test_files_may_move_and_retention_may_change_between_runs(here):
    whole = replayed("--run", "whole")
    replayed("--until", "2022-04-15T05:22Z")
    (here / "events").rename(here / "moved")
    moved = replayed("--set", "files=moved/*.jsonl", "--set", "snapshots.keep=2")
    assert moved["weights_sha256"] == whole["weights_sha256"]


def test_what_was_learned_before_freezing_cannot_be_frozen_later(here):
    replayed("--until", "2022-04-15T05:22Z")
    code, _, err = streamctr("replay", "ads.yaml", "--frozen", "2022-04-15T05:21Z")
    assert code == 78
    assert "--frozen: unset is now 2022-04-15T05:21:00Z" in err
    frozen = replayed("--frozen", "2022-04-15T05:22Z")
    assert frozen["steps"] < replayed("--run", "whole")["steps"]


def test_a_run_cannot_go_back(here):
    replayed("--until", "2022-04-15T05:22Z")
    code, _, err = streamctr("replay", "ads.yaml", "--until", "2022-04-15T05:21Z")
    assert code == 78
    assert "--until: 2022-04-15T05:21:00Z lies before 2022-04-15T05:22:00Z, reached" in err


def test_new_files_behind_those_that_were_read_are_learned_from(here):
    first = replayed()
    late = {"id": "r7", "t": START_MS + 1000, "user": "u0", "item": 1, "price": 1}
    lines = [late, late | {"id": "new", "t": START_MS + 1000 * ROOTS + 5000}]
    (here / "events/view.later.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    counts = replayed()["events"]["view"]
    assert (counts["read"], counts["joined"], counts["late"]) == (242, 241, 1)
    assert first["events"]["view"]["read"] == 240


def test_compiling_is_told_before_it_starts(here, monkeypatch):
    monkeypatch.setattr("jobs.runner.first_use", lambda: True)
    assert streamctr("replay", "ads.yaml")[2].startswith("compiling kernels (first use, about half a minute)\n")


def test_fresh_starts_anew_but_never_deletes_what_is_not_of_a_run(here):
    first = replayed()
    assert replayed("--fresh")["weights_sha256"] == first["weights_sha256"]
    (here / "runs/ads/thesis.tex").write_text("")
    code, _, err = streamctr("replay", "ads.yaml", "--fresh")
    assert (code, (here / "runs/ads/metrics.jsonl").exists()) == (78, True)
    assert err == "--fresh would delete runs/ads, which holds thesis.tex, not of a run; move it away\n"


def test_a_snapshot_that_does_not_verify_is_told_and_skipped(here):
    whole = replayed("--set", "snapshots.every_events=240")
    broken = here / "runs/ads/snapshots/000000000390/state.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    code, _, err = streamctr("snapshots", "verify", "ads.yaml")
    assert code == 74
    assert "snapshot 000000000390: state.safetensors should have checksum" in err
    code, out, err = streamctr("replay", "ads.yaml", "--json")
    assert "skipped, it does not verify: snapshot 000000000390" in err
    assert json.loads(out)["weights_sha256"] == whole["weights_sha256"]


def test_the_directory_of_a_run_stands_for_its_run_file(here):
    first = replayed("--run", "elsewhere")
    code, out, _ = streamctr("replay", "elsewhere", "--json")
    assert code == 0
    assert json.loads(out)["weights_sha256"] == first["weights_sha256"]
    assert json.loads(out)["run"] == "elsewhere"
    code, out, _ = streamctr("snapshots", "show", "elsewhere", "--json")
    about = json.loads(out)["about"]
    assert (about["events_read"], about["ended"], about["config"]["key"]) == (390, True, ["id"])
    assert {"torch", "cpu"} < set(about["environment"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["replay"], 2, "Missing argument"),
        (["replay", "ads.yaml", "--nope"], 2, "No such option"),
        (["replay", "none.yaml"], 78, "there is no run file none.yaml; name one, or the directory of a run"),
        (["replay", "events"], 78, "events is not a run directory: it holds no run.yaml; name a run file"),
        (["replay", "ads.yaml", "--until", "tomorrow"], 78, '--until "tomorrow" is not a moment; write ISO-8601'),
        (["replay", "ads.yaml", "--frozen", "2022-04-26"], 78, '--frozen "2022-04-26" has no offset; add Z'),
        (["replay", "ads.yaml", "--set", "training.bach=3"], 78, 'did you mean "batch"?'),
        (["replay", "ads.yaml", "--set", "files=none/*"], 65, 'files: "none/*" matches no file'),
        (["snapshots", "show", "ads.yaml"], 74, "runs/ads has no snapshot yet"),
        (["data", "synthetic", "out", "--set", "rots=3"], 78, 'did you mean "roots"?'),
        (["data", "kuairand", "events", "out", "--set", "a=3"], 78, "data kuairand has no settings"),
        (["data", "kuairand", "events", "out"], 65, "log_standard"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_object(here, arguments, code, said):
    came, out, err = streamctr(*arguments)
    assert (came, said in err) == (code, True)
    came, out, _ = streamctr(*arguments, "--json")
    assert came == code
    assert out == "" if code == 2 else json.loads(out)["exit_code"] == code


def test_a_run_directory_has_one_owner(here):
    with RunDirectory(here / "runs" / "ads").owned():
        code, _, err = streamctr("replay", "ads.yaml")
        with pytest.raises(BusyError), RunDirectory(here / "runs" / "ads").owned():
            pass
    assert code == 75
    assert err == "runs/ads is owned by another process; wait until it ends, or choose another with --run\n"
    replayed()


def test_too_many_steps_that_are_not_finite_stop_the_run(here):
    options = ("--set", "training.lr=1e36", "--set", "training.max_bad_steps=2", "--json")
    code, out, err = streamctr("replay", "ads.yaml", *options)
    assert (code, json.loads(out)["exit_code"]) == (76, 76)
    assert "2 learning steps in a row had a loss or gradient that is not finite" in err


def test_data_writes_the_synthetic_world(here):
    code, out, _ = streamctr("data", "synthetic", "world", "--set", "roots=500", "--json")
    assert (code, json.loads(out)["events"]["impression"]) == (0, 500)
    assert (here / "world" / "impression.jsonl.zst").exists()


def test_a_first_signal_is_noted_and_the_second_would_end_the_process():
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.asked, stop.name, stop.exit_code) == (True, "SIGINT", 130)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_alarm_rings_by_wall_time_and_only_where_it_is_set():
    with Alarm(10) as alarm, Alarm(0) as silent:
        assert any(alarm._flag.wait(5) for _ in range(1))
        assert alarm.rang()
        assert not silent.rang()


def test_a_damaged_file_is_unreadable_input_and_no_defect(here):
    (here / "events/click.jsonl").rename(here / "events/click.jsonl.gz")
    code, out, err = streamctr("replay", "ads.yaml", "--set", "files=events/*", "--json")
    assert (code, json.loads(out)["exit_code"]) == (65, 65)
    assert "events/click.jsonl.gz cannot be read behind byte 0" in err


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, 73), (errno.EIO, 74)], ids=["full", "broken"])
def test_a_full_or_broken_disk_is_told_and_logged(here, monkeypatch, number, expected):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store, "save_file", fails)
    code, out, err = streamctr("replay", "ads.yaml", "--json")
    assert (code, json.loads(out)["exit_code"], "Traceback" in err) == (expected, expected, False)
    last = orjson.loads((here / "runs/ads/log.jsonl").read_bytes().splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("failed", expected)


def test_sigterm_where_nothing_is_to_be_saved_still_ends_with_one_object(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def work():
        os.kill(os.getpid(), signal.SIGTERM)
        return {}, 0

    assert guarded(work, as_json=True) == 143
    assert json.loads(capsys.readouterr().out) == {"error": "terminated", "exit_code": 143}
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_version_is_told():
    code, out, _ = streamctr("--version")
    assert (code, out.startswith("streamctr ")) == (0, True)
