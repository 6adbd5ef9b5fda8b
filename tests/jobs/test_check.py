"""`check`: what is wrong with a run file and with the events that it names."""

import json
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from jobs.cli import app

ADS = """\
files: ads/*.jsonl
key: id
time: ts
user: user
funnel:
  imp: {}
  click:    {observe: 10m}
  purchase: {observe: 1h, window: 7d}
features:
  id: [user, device]
  number: {price: log1p}
model: lr
"""


@pytest.fixture
def ads(tmp_path, monkeypatch):
    """A run file, with 90 imps, 9 clicks and 3 purchases, two of them of imps that stand nowhere."""
    monkeypatch.chdir(tmp_path)
    Path("ads").mkdir()
    imps = [{"id": f"i{n}", "ts": 1_000_000_000_000 + 60_000 * n, "user": n % 5, "device": "a"} for n in range(90)]
    imps[50]["ts"] -= 150_000
    clicks = [{"id": f"i{10 * n}", "ts": 1_000_000_000_000 + 600_000 * n + 1} for n in range(9)]
    purchases = [{"id": name, "ts": 1_000_000_000_002} for name in ("i0", "x", "y")]
    lines = {"imp": imps, "click": clicks, "purchase": purchases}
    for stage, events in lines.items():
        Path(f"ads/{stage}.jsonl").write_bytes(b"".join(orjson.dumps({"price": 1, **e}) + b"\n" for e in events))
    with Path("ads/click.jsonl").open("ab") as file:
        file.write(b'{"id": "broken\n')
    Path("ads.yaml").write_text(ADS)
    return Path("ads.yaml")


def check(*arguments):
    """Exit code, stdout, stderr."""
    done = CliRunner().invoke(app, ["check", "ads.yaml", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_sound_run_file_is_told_what_its_sample_looks_like(ads):
    code, out, err = check()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Checked on the first 1,000 lines of each stage",
        "  stages     imp 90 · click 9 · purchase 3 · rejected 1",
        "  rejected   1 click events: not JSON: unexpected end of data",
        "  time       ts: worst disorder 90s, beyond lateness 1m: 1 event would be late",
        "  key        9 of 9 click, 1 of 3 purchase events up to the last imp of the sample name one in it",
        "  note       purchase window 7d, the sample spans 5,340 s: how much can be judged for purchase shows only "
        "at the end",
        "",
        "No mistake was found.",
    ]


def test_the_same_as_json(ads):
    code, out, _ = check("--json")
    found = json.loads(out)
    assert (code, found["mistakes"]) == (0, [])
    assert found["stages"]["click"] == {
        "accepted": 9,
        "rejected": 1,
        "reasons": {"not JSON: unexpected end of data": 1},
        "disorder_ms": 0,
        "named_roots": 9,
        "named_roots_of": 9,
    }


def test_mistakes_of_the_file_and_fields_that_no_event_has_are_told_together(ads):
    ads.write_text(ADS.replace("observe: 10m", "observ: 10m").replace("device", "divice").replace("price", "prize"))
    code, _, err = check()
    assert code == 78
    assert err == (
        'ads.yaml:7:14  unknown key "observ" in funnel.click\n'
        "   7 |   click:    {observ: 10m}\n"
        '     |              ^^^^^^ did you mean "observe"?\n'
        "\n"
        'ads.yaml:10:14  field "divice" is in none of 90 imp events\n'
        "  10 |   id: [user, divice]\n"
        '     |              ^^^^^^ did you mean "device"?\n'
        "\n"
        'ads.yaml:11:12  field "prize" is in none of 90 imp events\n'
        "  11 |   number: {prize: log1p}\n"
        '     |            ^^^^^ did you mean "price"?\n'
        "\n"
        "3 mistakes; nothing was run.\n"
    )


def test_a_key_that_a_stage_lacks_is_a_mistake(ads):
    code, _, err = check("--set", "key=impression")
    assert code == 78
    assert '--set key=impression  field "impression" is in none of 90 imp events' in err
    assert '--set key=impression  field "impression" is in none of 10 click events' in err


def test_files_that_are_not_there_are_a_mistake_beside_the_others(ads):
    code, out, err = check("--set", "files=none/*.jsonl", "--set", "users=0", "--json")
    where = [mistake["where"] for mistake in json.loads(out)["mistakes"]]
    assert (code, where) == (78, ["--set users=0", "--set files=none/*.jsonl"])
    assert '"none/*.jsonl" matches no file' in err


def test_a_key_that_names_no_root_is_noted(ads):
    lines = [{"id": f"other{n}", "ts": 1_000_000_000_001, "price": 1} for n in range(4)]
    Path("ads/click.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    code, out, _ = check()
    assert code == 0
    assert "note       no click event names a known imp: is the key the root's id?" in out


def test_an_outcome_that_stands_nowhere_is_noted(ads):
    code, out, _ = check("--set", "outcomes=[is_clik]")
    assert code == 0
    assert "note       outcomes: is_clik stands in no event" in out


def test_a_unit_that_fits_no_event_is_a_mistake(ads):
    code, _, err = check("--set", "time.unit=s")
    assert code == 78
    assert 'no imp and no click and no purchase event can be read: time "ts" is outside 2000 to 2100' in err


def test_a_stage_without_events_is_noted(ads):
    Path("ads/purchase.jsonl").write_bytes(b"")
    code, out, _ = check()
    assert (code, "  note       no purchase event was found\n" in out) == (0, True)


def test_a_folder_in_place_of_files_is_told(ads):
    code, _, err = check("--set", "files=ads")
    assert (code, "it is a folder: write ads/*" in err) == (78, True)


def test_slips_of_yaml_come_with_advice(ads):
    assert "a value that begins with * stands in quotes" in check("--set", "files=*.jsonl")[2]
    ads.write_text(ADS.replace("  click:", " click:"))
    assert "is it indented like the lines around it?" in check()[2]
    ads.write_text(ADS.replace("  id:", "\tid:"))
    assert "indent with spaces" in check()[2]


def test_bounds_are_written_with_all_digits(ads):
    assert 'tables.rows wants 1073741824 or less, not "2^40"' in check("--set", "tables.rows=2^40")[2]
