"""`check`: what is wrong with a run file and with the events that it names."""

import json
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
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
    assert [line.rstrip() for line in out.splitlines()] == [
        "Checked on the first 1,000 lines of each stage",
        "  stages     imp 90 · click 9 · purchase 3 · rejected 1",
        '  rejected   1 click event: not JSON: unexpected end of data; ads/click.jsonl:10 is {"id": "broken',
        "  time       ts: numbers in ms; worst disorder 90 s, beyond lateness 1m: 1 event would be late, with 5m none",
        "  key        9 of 9 click, 1 of 3 purchase events up to the last imp of the sample name one in it",
        "  tables     distinct ids, and how many share a row in the sample alone: user 5 on 2^20 rows (0.00%) · "
        "device 1 on 2^20 rows (0.00%)",
        "  note       purchase window 7d, the files span 89 min: no label of purchase becomes final; shorten it, or "
        "add files",
        "",
        "The first imp events, as they are read and encoded",
        "key       i0                      i1",
        "time      2001-09-09T01:46:40Z    2001-09-09T01:47:40Z",
        "user      0                       1",
        "price     1 -> 0.6931             1 -> 0.6931",
        "device    a                       a",
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
    assert found["time"] == {"field": "ts", "forms": ["numbers in ms"], "disorder_ms": 90_000, "late": 1}
    assert found["tables"]["user"] == {"rows": 2**20, "distinct": 5, "sharing": pytest.approx(4 / 2**20, rel=1e-5)}
    assert found["roots"][1]["price"] == "1 -> 0.6931"
    assert found["notes"][0].startswith("purchase window 7d")


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
    assert '--set key=impression  field "impression" is in none of 9 click events' in err


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
    assert "note       no click event names a known imp: is the key the root's id? the first click has" in out


def write_events(**stages):
    for stage, events in stages.items():
        padded = [{"user": 1, "device": "a", "price": 1, "ts": 1_000_000_000_000 + n} | e for n, e in enumerate(events)]
        Path(f"ads/{stage}.jsonl").write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in padded))


PADDED = "note       no click event names a known imp: is the key the root's id? the first click has "


def test_keys_that_only_leading_zeros_part_are_noted_with_the_type_that_joins_them(ads):
    write_events(imp=[{"id": f"{n:08}"} for n in range(9)], click=[{"offer": n} for n in range(4)], purchase=[])
    keyed = "funnel={imp: {}, click: {key: offer, observe: 10m}, purchase: {observe: 1h}}"
    note = f'{PADDED}"0", the first imp "00000000"; without leading zeros 4 of 4 do: write types: '
    code, out, _ = check("--set", keyed)
    assert (code, note + "{id: integer, offer: integer}\n" in out) == (0, True)
    out = check("--set", keyed, "--set", "types={id: integer, offer: integer}")[1]
    assert "  key        4 of 4 click" in out
    assert "names a known imp" not in out


def test_of_a_composite_key_the_part_with_zeros_is_named(ads):
    imps = [{"id": f"u{n}", "offer": f"{n:03}"} for n in range(9)]
    write_events(imp=imps, click=[{"id": f"u{n}", "offer": str(n)} for n in range(4)], purchase=[])
    out = check("--set", "key=[id, offer]")[1]
    assert f'{PADDED}"u0:0", the first imp "u0:000"; without leading zeros 4 of 4 do: write types: {{offer: ' in out


def test_leading_zeros_are_not_blamed_where_most_keys_are_still_unknown_without_them(ads):
    write_events(imp=[{"id": f"{n:08}"} for n in range(9)], click=[{"id": n + 7} for n in range(4)], purchase=[])
    assert f'{PADDED}"7", the first imp "00000000"; funnel.click.key names another field\n' in check()[1]


def test_forms_of_times_are_told_of_those_that_can_be_read(ads):
    times = ["13/11/2025 10:00", "2025-11-13T10:00:00Z", "2025-11-13T10:01:00Z"]
    write_events(imp=[{"id": f"i{n}", "ts": ts} for n, ts in enumerate(times)], click=[], purchase=[])
    found = json.loads(check("--json")[1])
    assert found["time"]["forms"] == ["ISO-8601 with offset"]
    assert not any("is read as UTC" in note for note in found["notes"])


def test_of_the_reasons_for_rejections_two_are_told_and_how_many_have_others(ads):
    imps = [{"id": None}] * 7 + [{"ts": None}] * 5 + [{"price": "x"}] * 2 + [{"device": 1.5}]
    write_events(imp=[{"id": f"i{n}"} | imp for n, imp in enumerate([*imps, {}])])
    told = [line for line in check()[1].splitlines() if line.startswith("  rejected") and " imp " in line]
    assert [line.split(";")[0] for line in told] == [
        '  rejected   7 imp events: key "id" is missing',
        '  rejected   5 imp events: time "ts" is missing',
        "  rejected   and 3 more imp events for other reasons",
    ]


def test_a_timestamp_may_be_part_of_the_key_of_a_parquet_file(ads):
    for path in Path("ads").iterdir():
        path.unlink()
    stamps = pa.array([1_772_366_400_000_000_001, 1_772_366_401_000_000_000], pa.timestamp("ns", "UTC"))
    rows = pa.table({"id": [1, 1], "ts": stamps, "user": [1, 1], "device": ["a", "b"], "price": [1, 1]})
    pq.write_table(rows, "ads/imp.parquet")
    pq.write_table(rows.slice(1), "ads/click.parquet")
    funnel = "{imp: {}, click: {observe: 10m}}"
    code, out, _ = check("--set", "files=ads", "--set", "key=[id, ts]", "--set", f"funnel={funnel}")
    assert code == 0
    assert "  stages     imp 2 · click 1 · rejected 0" in out
    assert "  key        1 of 1 click events" in out
    assert "1:2026-03-01T12:00:00.000Z" in out


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
    assert (code, "  note       no purchase event was found in ads/purchase.jsonl\n" in out) == (0, True)


def test_slips_of_yaml_come_with_advice(ads):
    assert "a value that begins with * stands in quotes" in check("--set", "files=*.jsonl")[2]
    ads.write_text(ADS.replace("  click:", " click:"))
    assert "is it indented like the lines around it?" in check()[2]
    ads.write_text(ADS.replace("  id:", "\tid:"))
    assert "indent with spaces" in check()[2]


def test_bounds_are_written_with_all_digits(ads):
    assert 'tables.rows wants 1073741824 or less, not "2^40"' in check("--set", "tables.rows=2^40")[2]


MIXED = """\
files: {paths: "-", format: json}
stage: type
key: imp.id
time: ts
funnel:
  imp: {}
  click: {key: impression, observe: 10m}
  buy: {key: impression, observe: 1h, value: order.total}
ignore: [ping]
features:
  id: [imp.ad, ctx.device]
  bag: {ctx.geo: {most: 2}}
  cross: [[imp.ad, ctx.device]]
model: lr
"""


def mixed_lines():
    imp = {"type": "imp", "ts": "2026-09-21T14:00:00Z", "imp": {"id": "i0", "ad": 7}}
    context = {"ctx": {"device": "ios", "geo": ["us", "ny", "nyc"]}}
    click = {"type": "click", "ts": "2026-09-21T14:01:00Z", "impression": "i0"}
    ping = {"type": "ping", "ts": "2026-09-21T14:01:00Z"}
    last = {"type": "imp", "ts": "2026-09-21T14:02:00Z", "imp": {"id": "i1", "ad": 8}, "ctx": {"device": None}}
    return b"".join(orjson.dumps(line) + b"\n" for line in (imp | context, click, ping, last))


def fed(data):
    """What `check` says of a log on standard input."""
    done = CliRunner().invoke(app, ["check", "ads.yaml"], input=data)
    return done.exit_code, [line.rstrip() for line in done.stdout.splitlines()], done.stderr


def test_a_mixed_nested_log_is_checked_from_standard_input(ads):
    ads.write_text(MIXED)
    code, out, err = fed(mixed_lines())
    assert (code, err) == (0, "")
    assert out[:4] == [
        "Checked on the first 1,000 lines of standard input",
        "  stages     imp 2 · click 1 · buy 0 · rejected 0 · skipped 1",
        "  time       ts: ISO-8601 with offset; worst disorder 0 ms, inside lateness 1m",
        "  key        1 of 1 click, 0 of 0 buy events up to the last imp of the sample name one in it",
    ]
    assert "  note       no buy event was found" in out
    assert "  note       bag ctx.geo: 1 of 2 events have more values than the 2 that count; " in "\n".join(out)
    assert "ctx.geo              ['us', 'ny', 'nyc'] -> 2 ids    missing -> 0 ids" in out
    assert "imp.ad*ctx.device    7 x ios                         8 x missing" in out


def test_fields_of_nested_messages_are_looked_for_by_path(ads):
    ads.write_text(MIXED.replace("ctx.device]\n", "ctx.divice]\n").replace("key: impression,", "key: impresion,", 1))
    code, _, err = fed(mixed_lines())
    assert code == 78
    assert 'ads.yaml:7:16  field "impresion" is in none of 1 click events\n' in err
    assert 'did you mean "impression"?' in err
    assert 'ads.yaml:11:16  field "ctx.divice" is in none of 2 imp events\n' in err
    assert 'did you mean "ctx.device"?' in err


def test_a_field_that_may_still_come_is_noted_only(ads):
    ads.write_text(MIXED.replace("imp: {}", "imp: {value: revenue}"))
    code, out, _ = fed(mixed_lines())
    assert (code, '  note       field "revenue" is in none of 2 imp events' in out) == (0, True)


def test_the_sample_ends_after_a_thousand_lines_of_a_stage(ads):
    lines = [{"id": f"i{n}", "ts": 1_000_000_000_000 + n, "user": n, "device": "a", "price": 1} for n in range(5000)]
    Path("ads/imp.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert json.loads(check("--json")[1])["stages"]["imp"]["accepted"] == 1000


def test_files_side_by_side_share_the_sample(ads):
    for part in range(4):
        lines = [{"id": f"{part}-{n}", "ts": 1_000_000_000_000 + n} for n in range(900)]
        Path(f"ads/imp-{part}.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    Path("ads/imp.jsonl").unlink()
    found = json.loads(check("--json", "--set", "files={paths: ads, merge: time}")[1])
    assert found["stages"]["imp"]["accepted"] == 4 * 250


def test_files_of_a_stage_that_overlap_in_time_are_noted(ads):
    lines = [
        {"id": f"j{n}", "ts": 1_000_000_000_000 + 60_000 * n, "user": 1, "device": "a", "price": 1} for n in range(9)
    ]
    Path("ads/imp-2.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    note = "  note       ads/imp-2.jsonl begins before ads/imp.jsonl ends: files: {paths: ..., merge: time} reads them"
    assert note in check()[1]
    assert note not in check("--set", "files={paths: ads, merge: time}")[1]


def test_stages_that_fields_tell_of_are_counted(ads):
    for path in Path("ads").iterdir():
        path.unlink()
    rows = "".join(
        f"i{n},{1_000_000_000_000 + n},{n},a,1,{n % 2},{'' if n % 4 else 1_000_000_005_000}\n" for n in range(20)
    )
    Path("ads/log.csv").write_text("id,ts,user,device,price,clicked,bought\n" + rows)
    funnel = "{imp: {}, click: {when: clicked, observe: 10m}, purchase: {at: bought, after: imp, observe: 1h}}"
    code, out, _ = check("--set", "files=ads", "--set", f"funnel={funnel}")
    assert code == 0
    assert "  stages     imp 20 · click 10 · purchase 5 · rejected 0" in out
    assert "  key        all stages are told of by imp events themselves" in out


def test_what_a_lookup_takes_is_shown_and_warned_of(ads):
    Path("users.csv").write_text("user,plan,order_count\n0,free,3\n1,paid,9\n")
    lookup = "features.lookup={users: {file: users.csv, key: user, take: [plan, order_count]}}"
    code, out, _ = check("--set", lookup, "--set", "features.id=[user, device, plan]")
    assert code == 0
    assert "plan      free                    paid" in [line.rstrip() for line in out.splitlines()]
    assert (
        "  note       lookup users (perhaps order_count): a column that is only known later than the event tells the "
        "future, and streamctr cannot see that\n" in out
    )
    assert '  note       "order_count" of lookup users is taken and no feature uses it\n' in out


def test_what_stands_in_events_is_shown_as_text_and_nothing_else(ads):
    line = {"id": "[/b]", "ts": 1_000_000_000_000, "user": "[red]u", "device": "a\x1b[2Jb", "price": 1}
    Path("ads/imp.jsonl").write_bytes(orjson.dumps(line) + b"\n")
    code, out, _ = check()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert (code, rows["key"], rows["user"], rows["device"]) == (0, ["[/b]"], ["[red]u"], ["a", "[2Jb"])
