"""One story told in many shapes of log, each read by its run file alone, with the same exact outcomes.

The story, in seconds: impressions a, b, c, d and a again; a and b are clicked, a twice; somebody clicks x, which nobody
saw; a is bought for 9.5; c is clicked too late. `pytest -s` prints the table of shapes.
"""

import gzip
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from jobs.console import Call
from jobs.replay import Request, replay

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORY = [  # seconds, stage, id; in order of time
    (0, "imp", "a"), (3, "click", "a"), (5, "imp", "a"), (6, "click", "a"), (10, "imp", "b"), (12, "click", "b"),
    (20, "imp", "c"), (25, "click", "x"), (30, "buy", "a"), (40, "imp", "d"), (200, "click", "c"), (300, "imp", "e"),
]  # fmt: skip
OUTCOMES = {
    "imp": {"read": 6, "joined": 5, "duplicate": 1},
    "click": {"read": 5, "joined": 2, "duplicate": 1, "orphan": 1, "expired": 1},
    "buy": {"read": 1, "joined": 1},
}
FUNNEL = "funnel: {imp: {}, click: {observe: 1m}, buy: {observe: 1m, window: 2m}}\n"
COMMON = "model: lr\ntraining: {threads: 1}\ntables: {rows: 2^8}\n"
USERS = {"a": "u1", "b": "u2", "c": "u1", "d": "u3", "e": "u2"}


@dataclass(frozen=True)
class Shape:
    """How a log looks: what the table prints, how it is written, and the run file that reads it."""

    name: str
    format: str
    key: str
    time: str
    stages: str
    quirk: str
    write: Any
    run: str
    outcomes: dict[str, dict[str, int]] = field(default_factory=lambda: OUTCOMES)
    rest: str = FUNNEL


def event(seconds, stage, root, time=lambda moment: moment.isoformat(), **more):
    """One flat event of the story."""
    plain = {"id": root, "ts": time(START + timedelta(seconds=seconds))}
    plain |= {"user": USERS.get(root, "u9"), "ad": f"ad-{root}", "bid": 1.5} if stage == "imp" else {}
    return plain | more | ({"total": 9.5} if stage == "buy" else {})


def by_stage(time=lambda moment: moment.isoformat(), make=event):
    found: dict[str, list[dict[str, Any]]] = {"imp": [], "click": [], "buy": []}
    for seconds, stage, root in STORY:
        found[stage].append(make(seconds, stage, root, time))
    return found


def json_lines(rows):
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def csv_lines(rows, delimiter=",", header=True):
    names = list(rows[0])
    lines = [delimiter.join(names)] if header else []
    lines += [delimiter.join("" if row[n] is None else str(row[n]) for n in names) for row in rows]
    return "\n".join(lines).encode() + b"\n"


def epoch_ms(moment):
    return round(moment.timestamp() * 1000)


# --- the shapes -------------------------------------------------------------------------------------------------------


def plain_json(folder):
    for stage, rows in by_stage().items():
        (folder / f"{stage}.jsonl").write_bytes(json_lines(rows))


def seconds_gz(folder):
    for stage, rows in by_stage(lambda moment: moment.timestamp()).items():
        (folder / f"{stage}.jsonl.gz").write_bytes(gzip.compress(json_lines(rows)))


def micros_zst(folder):
    for stage, rows in by_stage(lambda moment: 1000 * epoch_ms(moment)).items():
        with pa.CompressedOutputStream(str(folder / f"{stage}.jsonl.zst"), "zstd") as file:
            file.write(json_lines(rows))


def local_time(moment):
    return (moment + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S")


def nested_row(seconds, stage, root, time=None):
    moment = (START + timedelta(seconds=seconds)).isoformat()
    if stage == "imp":
        return {"type": stage, "ts": moment, "imp": {"id": root, "ad": {"id": f"ad-{root}"}, "geo": ["eu", "de"]}}
    more = {"order": {"total": 9.5}} if stage == "buy" else {}
    return {"type": stage, "ts": moment, "impression_id": root} | more


def mixed_nested(folder):
    rows = [nested_row(*told) for told in STORY] + [{"type": "pageview", "ts": "?"}, {"type": "hb"}, {"type": "new"}]
    (folder / "ads-1.jsonl").write_bytes(json_lines(rows))


def mixed_numbers(folder):
    kinds = {"imp": 1, "click": 2, "buy": 3}
    rows = [event(s, stage, root, epoch_ms, kind=kinds[stage]) for s, stage, root in STORY]
    (folder / "log.jsonl").write_bytes(json_lines(rows))


def csv_files(folder):
    for stage, rows in by_stage(epoch_ms).items():
        (folder / f"{stage}.csv").write_bytes(csv_lines(rows))


def csv_headless(folder):
    rows = [
        {
            "kind": stage,
            "id": root,
            "ts": epoch_ms(START + timedelta(seconds=s)),
            "user": "\\N",
            "ad": f'"{root};{root}"',
        }
        for s, stage, root in STORY
    ]
    (folder / "log.csv.gz").write_bytes(gzip.compress(csv_lines(rows, ";", header=False)))


def tsv_local(folder):
    for stage, rows in by_stage(local_time).items():
        (folder / f"{stage}.tsv").write_bytes(csv_lines(rows, "\t"))


def parquet_files(folder):
    for stage, rows in by_stage(lambda moment: moment).items():
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{stage}.parquet")


def mixed_table():
    rows = [event(s, stage, root, epoch_ms) | {"kind": stage} for s, stage, root in STORY]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    return table.set_column(table.schema.get_field_index("kind"), "kind", table["kind"].dictionary_encode())


def parquet_mixed(folder):
    pyarrow.parquet.write_table(mixed_table(), folder / "log.parquet", row_group_size=5)


def feather_mixed(folder):
    pyarrow.feather.write_feather(mixed_table(), folder / "log.feather")


def arrow_stream(folder):
    table = mixed_table()
    with pa.OSFile(str(folder / "log.arrows"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=4)


FLAGGED = [  # seconds, id, clicked, bought at
    (0, "a", 1, 30), (5, "a", 0, None), (10, "b", "true", None), (20, "c", 0, None), (40, "d", "", None),
    (300, "e", "false", None),
]  # fmt: skip


def flagged_csv(folder):
    rows = [
        {"id": root, "ts": local_time(START + timedelta(seconds=s)), "user": USERS[root], "ad": f"ad-{root}",
         "bid": 1.5, "is_click": clicked,
         "bought_at": None if at is None else local_time(START + timedelta(seconds=at))}
        for s, root, clicked, at in FLAGGED
    ]  # fmt: skip
    (folder / "views_2026.csv").write_bytes(csv_lines(rows))


def rated_json(folder):
    rows = [
        {
            "id": root,
            "ts": epoch_ms(START + timedelta(seconds=s)),
            "user": USERS[root],
            "ad": "x",
            "bid": 1,
            "stars": stars,
        }
        for s, root, stars in ((0, "a", 5), (10, "b", 3), (20, "c", "4"), (30, "d", None))
    ]
    (folder / "ratings.jsonl").write_bytes(json_lines(rows))


def composite_json(folder):
    for stage, rows in by_stage().items():
        split = [row | {"id": 7, "session": ord(row["id"]), "place": "01"} for row in rows]
        (folder / f"{stage}.jsonl").write_bytes(json_lines(split))


def forked_json(folder):
    told = by_stage()
    told["like"] = [event(8, "like", "a"), event(9, "like", "d"), event(15, "like", "b")]
    for stage, rows in told.items():
        (folder / f"{stage}.jsonl").write_bytes(json_lines(rows))


def deep_json(folder):
    told = by_stage()
    told["cart"] = [event(20, "cart", "a"), event(21, "cart", "d")]
    for stage, rows in told.items():
        (folder / f"{stage}.jsonl").write_bytes(json_lines(rows))


def sharded_json(folder):
    for stage, rows in by_stage().items():
        for shard in range(3):
            part = folder / f"{stage}.shard-{shard}.jsonl"
            part.write_bytes(json_lines(rows[shard::3]))


def numbered_days(folder):
    told = by_stage()
    for stage, rows in told.items():
        parts = [rows[:1], rows[1:2], rows[2:]]
        for day, part in zip((1, 2, 10), parts, strict=True):
            (folder / f"{stage}-{day}").mkdir()
            (folder / f"{stage}-{day}" / f"{stage}-{day}.jsonl").write_bytes(json_lines(part))


def integers_csv(folder):
    numbers = {"a": "007", "b": "8", "c": "9", "d": "10", "e": "11", "x": "99"}
    for stage, rows in by_stage().items():
        padded = [row | {"id": numbers[row["id"]]} for row in rows]
        if stage != "imp":
            padded = [row | {"id": row["id"].lstrip("0")} for row in padded]
        (folder / f"{stage}.csv").write_bytes(csv_lines(padded))


def rich_json(folder):
    told = by_stage()
    for row in told["imp"]:
        row |= {"tags": ["x", "y", None, 3], "embedding": [0.5, -1, 2], "bid": "1.50", "w": 2}
    for stage, rows in told.items():
        (folder / f"{stage}.jsonl").write_bytes(json_lines(rows))


def told_by_click(folder):
    clicks = [row | {"order": {"at": None, "total": "9.5"}} for row in by_stage()["click"]]
    clicks[0]["order"]["at"] = (START + timedelta(seconds=30)).isoformat()
    (folder / "imp.jsonl").write_bytes(json_lines(by_stage()["imp"]))
    (folder / "click.jsonl").write_bytes(json_lines(clicks))


BASIC = "key: id\nuser: user\nfeatures: {id: [ad, user], number: {bid: log1p}}\n"
FLAT = BASIC + "time: ts\n"
CLICKED_BOUGHT = {
    "imp": {"read": 6, "joined": 5, "duplicate": 1},
    "click": {"read": 2, "joined": 2},
    "buy": {"read": 1, "joined": 1},
}
SHAPES = [
    Shape("plain", "JSON lines", "id", "ISO-8601", "a file each", "none", plain_json, FLAT + "files: LOG/*.jsonl\n"),
    Shape("seconds", "JSON lines, gz", "id", "s, fractions", "a file each", "compressed", seconds_gz,
          BASIC + "time: {field: ts, unit: s}\nfiles: LOG/*.gz\n"),
    Shape("micros", "JSON lines, zst", "id", "us", "a file each", "compressed", micros_zst,
          BASIC + "time: {field: ts, unit: us}\nfiles: LOG/*.zst\n"),
    Shape("nested", "JSON lines", "imp.id, impression_id", "ISO-8601", "field type", "nested, no user, others ignored",
          mixed_nested, "files: LOG/ads-*.jsonl\nstage: type\nkey: imp.id\ntime: ts\nignore: [pageview, hb]\n"
          "features: {id: [imp.ad.id], bag: [imp.geo]}\n",
          OUTCOMES | {"(other)": {"read": 3, "skipped": 2, "rejected": 1}},
          "funnel:\n  imp: {}\n  click: {key: impression_id, observe: 1m}\n"
          "  buy: {key: impression_id, observe: 1m, window: 2m, value: order.total}\n"),
    Shape("kinds", "JSON lines", "id", "ms", "field kind", "kinds are numbers", mixed_numbers,
          FLAT + "files: LOG/log.jsonl\nstage: kind\n", OUTCOMES,
          "funnel:\n  imp: {called: 1}\n  click: {called: [2, 22], observe: 1m}\n"
          "  buy: {called: 3, observe: 1m, window: 2m}\n"),
    Shape("csv", "CSV", "id", "ms", "a file each", "times are text", csv_files, FLAT + "files: LOG\n"),
    Shape("headless", "CSV, gz", "id", "ms", "field kind", "no header, ;, \\N, quotes", csv_headless,
          "files: {paths: LOG/log.csv.gz}\nkey: id\ntime: ts\nstage: kind\n"
          'csv: {delimiter: ";", columns: [kind, id, ts, user, ad], missing: \\N}\nfeatures: {id: [ad, user]}\n'),
    Shape("tsv", "TSV", "id", "local, no offset", "a file each", "zone", tsv_local,
          BASIC + "time: {field: ts, zone: Asia/Shanghai}\nfiles: LOG/*\n"),
    Shape("parquet", "Parquet", "id", "timestamp", "a file each", "typed columns", parquet_files,
          FLAT + "files: LOG/*.parquet\n"),
    Shape("row groups", "Parquet", "id", "ms", "field kind", "a dictionary says the stage", parquet_mixed,
          FLAT + "files: LOG/log.parquet\nstage: kind\n"),
    Shape("feather", "Arrow file", "id", "ms", "field kind", "columnar", feather_mixed,
          FLAT + "files: LOG/log.feather\nstage: kind\n"),
    Shape("stream", "Arrow stream", "id", "ms", "field kind", "columnar", arrow_stream,
          FLAT + "files: LOG/log.arrows\nstage: kind\n"),
    Shape("flags", "CSV", "id", "local, no offset", "flag and time", "one file of outcomes", flagged_csv,
          BASIC + "time: ts\nfiles: LOG/views_2026.csv\n", CLICKED_BOUGHT,
          "funnel: {imp: {}, click: {when: is_click, delay: 2s, observe: 1m},"
          " buy: {at: bought_at, observe: 1m, window: 2m}}\n"),
    Shape("ratings", "JSON lines", "id", "ms", "value of a field", "stars >= 4", rated_json,
          FLAT + "files: LOG/ratings.jsonl\n",
          {"imp": {"read": 4, "joined": 4}, "like": {"read": 2, "joined": 2}},
          'funnel: {imp: {}, like: {when: {stars: ">= 4"}, observe: 1m}}\n'),
    Shape("composite", "JSON lines", "id, session, place", "ISO-8601", "a file each", "no field is unique",
          composite_json, "files: LOG/*.jsonl\nkey: [id, session, place]\ntime: ts\nuser: [user, ad]\n"
          "features: {id: [ad]}\n"),
    Shape("fork", "JSON lines", "id", "ISO-8601", "a file each", "two stages behind the root", forked_json,
          FLAT + "files: LOG/*.jsonl\n", OUTCOMES | {"like": {"read": 3, "joined": 2, "orphan": 1}},
          "funnel: {imp: {}, click: {observe: 1m}, buy: {observe: 1m, window: 2m},"
          " like: {after: imp, observe: 30s}}\n"),
    Shape("deep", "JSON lines", "id", "ISO-8601", "a file each", "four stages", deep_json,
          FLAT + "files: LOG/*.jsonl\n", OUTCOMES | {"cart": {"read": 2, "joined": 1, "orphan": 1}},
          "funnel: {imp: {}, click: {observe: 1m}, cart: {observe: 1m}, buy: {observe: 1m, window: 2m}}\n"),
    Shape("shards", "JSON lines", "id", "ISO-8601", "three files each", "merged by time", sharded_json,
          FLAT + "lateness: 1s\nfiles: {paths: LOG/*.jsonl, merge: time}\n"),
    Shape("days", "JSON lines", "id", "ISO-8601", "folders", "day 10 behind day 2", numbered_days,
          FLAT + "lateness: 1s\nfiles: LOG/**/*.jsonl\n"),
    Shape("integers", "CSV", "id, declared integer", "ISO-8601", "a file each", "007 is 7", integers_csv,
          FLAT + "types: {id: integer}\nfiles: LOG\n"),
    Shape("rich", "JSON lines", "id", "ISO-8601", "a file each", "lists, numbers as text, weights", rich_json,
          "files: {stages: {imp: LOG/imp.jsonl, click: LOG/click.jsonl, buy: LOG/buy.jsonl}}\nkey: id\ntime: ts\n"
          "weight: w\nfeatures: {id: [ad], bag: {tags: sum}, vector: {embedding: 3}, number: {bid: log1p},"
          " bucket: {price: {of: bid, at: [1, 2]}}, cross: [[ad, price]]}\n"),
    Shape("told", "JSON lines", "id", "ISO-8601", "a field of the clicks", "nested time, value", told_by_click,
          FLAT + "files: LOG/*.jsonl\n", OUTCOMES,
          "funnel: {imp: {}, click: {observe: 1m},"
          " buy: {at: order.at, value: order.total, observe: 1m, window: 2m}}\n"),
]  # fmt: skip


def ran(folder, text, *sets):
    path = folder / "shape.yml"
    path.write_text(text.replace("LOG", str(folder / "log")))
    result, exit_code = replay(Call(sets, True), Request(path, directory=folder / "run", fresh=True))
    assert exit_code == 0
    return result


def outcomes(result):
    found = {stage: {name: n for name, n in told.items() if n} for stage, told in result["events"].items()}
    return {stage: told for stage, told in found.items() if told}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_log_of_this_shape_has_exactly_these_outcomes(shape, tmp_path):
    (tmp_path / "log").mkdir()
    shape.write(tmp_path / "log")
    result = ran(tmp_path, shape.run + shape.rest + COMMON)
    print(f"{shape.name:10} {shape.format:16} {shape.key:22} {shape.time:17} {shape.stages:22} {shape.quirk}")
    assert outcomes(result) == shape.outcomes


def test_standard_input_is_a_log_too(tmp_path, monkeypatch):
    rows = [event(s, stage, root, kind=stage) for s, stage, root in STORY]
    (tmp_path / "piped").write_bytes(json_lines(rows))
    with (tmp_path / "piped").open() as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        result = ran(tmp_path, FLAT + 'files: "-"\nstage: kind\n' + FUNNEL + COMMON)
    assert outcomes(result) == OUTCOMES


def test_the_shapes_that_tell_the_whole_story_learn_the_same_weights(tmp_path):
    """Format, compression, units and files are no part of what an event says."""
    found = set()
    for shape in SHAPES:
        if shape.name in ("plain", "seconds", "micros", "kinds", "csv", "tsv", "parquet", "row groups", "stream"):
            folder = tmp_path / shape.name
            (folder / "log").mkdir(parents=True)
            shape.write(folder / "log")
            found.add(ran(folder, shape.run + shape.rest + COMMON)["weights_sha256"])
    assert len(found) == 1
