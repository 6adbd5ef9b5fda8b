"""The mistakes that people make: each is answered by one message, which names the place and the way out."""

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from jobs.cli import app

RUN = """\
files: logs
key: id
time: ts
user: user
lateness: 5m
funnel:
  view: {}
  click: {observe: 10m}
  order: {observe: 30m}
features:
  id: [user, item]
  number: {price: log1p}
  time: [hour]
  history: {clicked: {of: click, take: [item], last: 5}}
model: {name: esmm, towers: [4]}
tables: {rows: 64, width: 2}
training: {batch: 8, threads: 1}
"""
START_MS = 1_790_000_000_000
VIEW, CLICK, ORDER = "logs/view.jsonl", "logs/click.jsonl", "logs/order.jsonl"
NONE = {VIEW: None, CLICK: None, ORDER: None}


def views(**more):
    return [
        {"id": f"v{n}", "ts": START_MS + 60_000 * n, "user": f"u{n % 5}", "item": n % 7, "price": 2.5, **more}
        for n in range(40)
    ]


def clicks(**more):
    return [{"id": f"v{4 * n}", "ts": START_MS + 240_000 * n + 1000, **more} for n in range(10)]


def orders(**more):
    return [{"id": f"v{8 * n}", "ts": START_MS + 480_000 * n + 9000, **more} for n in range(5)]


def lines(events):
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


def but_for(events, **values):
    """The events, of which the fourth has other values."""
    return lines([{**event, **values} if n == 3 else event for n, event in enumerate(events)])


def each(change):
    """All three logs with a change of every event."""
    logs = {VIEW: views(), CLICK: clicks(), ORDER: orders()}
    return {path: lines([{**event, **change(event)} for event in events]) for path, events in logs.items()}


def mixed(click):
    return {**NONE, VIEW: lines([*views(type="view"), *clicks(type=click), *orders(type="order")])}


FLAGGED = (
    ("click: {observe: 10m}", "click: {when: is_click, delay: 1s, observe: 10m}"),
    ("  order: {observe: 30m}\n", ""),
)
"""A log of one file, whose lines say themselves whether they were clicked."""
LOOKED_UP = (
    ("features:\n", "features:\n  lookup: {items: {file: items.csv, key: item, take: [brand]}}\n"),
    ("id: [user, item]", "id: [user, item, brand]"),
)
ITEMS = b"item,brand\n" + b"".join(b"%d,red\n" % n for n in range(7))
HEADER = b"id,ts,user,item,price,is_click\n"
RECORDS = b"".join(b"v%d,%d,u,1,2.5,0\n" % (n, START_MS + n) for n in range(9))


@dataclass(frozen=True)
class Slip:
    """A run file, a log or a command with one mistake in it, and what is said: all of it, or one line of `check`."""

    name: str
    said: str
    patch: tuple = ()
    logs: dict = field(default_factory=dict)
    command: tuple = ("check", "run.yaml")
    exit_code: int = 78
    before: tuple = ()
    """A command that goes before."""


SLIPS = [
    # In the run file.
    Slip("a misspelt key", "?", [("observe: 10m", "observ: 10m")]),
    Slip("a misspelt field", "?", [("{price:", "{prize:")]),
    Slip("a key twice", "?", [("user: user\n", "user: user\nuser: member\n")]),
    Slip("tabs", "?", [("  view: {}", "\tview: {}")]),
    Slip("standard input without quotes", "?", [("files: logs", "files: -")]),
    Slip("an unknown model", "?", [("esmm", "esmn")]),
    Slip("after names no stage", "?", [("order: {observe", "order: {after: clik, observe")]),
    Slip("a history of no stage", "?", [("of: click", "of: clik")]),
    Slip("a slice of no feature", "?", [("model:", "metrics: {slices: [itme]}\nmodel:")]),
    Slip("a negative duration", "?", [("10m", "-10m")]),
    Slip("a duration without a unit", "?", [("5m", "300")]),
    Slip("no observe", "?", [("observe: 10m", "window: 10m")]),
    Slip("a window shorter than observe", "?", [("30m}", "30m, window: 5m}")]),
    Slip("a root with a window", "?", [("view: {}", "view: {window: 10m}")]),
    Slip("a delay without a flag", "?", [("observe: 10m", "observe: 10m, delay: 7s")]),
    Slip("a flag of a stage with a key of its own", "?", [(FLAGGED[0][0], "click: {when: c, key: k, observe: 1h}")]),
    Slip("an outcome as a feature", "?", [("model:", "outcomes: [price]\nmodel:")]),
    Slip(
        "a flag as a feature",
        "?",
        [*FLAGGED, ("[user, item]", "[user, is_click]"), ("take: [item]", "take: [user]")],
        {**NONE, VIEW: lines(views(is_click=0))},
    ),
    Slip("the key as an id", "?", [("[user, item]", "[user, item, id]")]),
    Slip("the time as an id", "?", [("[user, item]", "[user, item, ts]")]),
    Slip("a number in a cross", "?", [("  number:", "  cross: [[user, price]]\n  number:")]),
    Slip("a cross twice", "?", [("  number:", "  cross: [[user, item], [item, user]]\n  number:")]),
    Slip("an id that is also a bag", "?", [("  number:", "  bag: [item]\n  number:")]),
    Slip("a history without a user", "?", [("user: user\n", "")]),
    Slip("a type of no field", "?", [("user: user\n", "user: user\ntypes: {itm: integer}\n")]),
    Slip("ignore without a stage field", "?", [("user: user\n", "user: user\nignore: [ping]\n")]),
    Slip("an unknown time zone", "?", [("time: ts", "time: {field: ts, zone: Asia/Shangai}")]),
    Slip("a moment without an offset", "?", [("model:", "metrics: {from: 2026-09-21}\nmodel:")]),
    # In a command.
    Slip("an unknown setting", "?", command=("check", "run.yaml", "--set", "training.bach=64")),
    Slip("a setting without a value", "?", command=("check", "run.yaml", "--set", "training.seed")),
    Slip("a run file that is not there", "?", command=("check", "rum.yaml")),
    Slip("a folder in place of a run file", "?", command=("check", "logs")),
    Slip("until without an offset", "?", command=("replay", "run.yaml", "--until", "2026-09-21")),
    Slip(
        "a resume with another config",
        "?",
        command=("replay", "run.yaml", "--set", "training.batch=4"),
        before=("replay", "run.yaml"),
    ),
    # In which files there are.
    Slip("a file that is not there", "?", [("files: logs", "files: log/view.jsonl")]),
    Slip("an empty folder", "?", logs=NONE),
    Slip("a link that leads nowhere", "?", logs={CLICK: "nowhere"}),
    Slip("a file of no stage", "?", logs={"logs/notes.jsonl": b"{}\n"}),
    Slip("a suffix that is not read", "?", logs={CLICK: None, "logs/click.xlsx": b"PK"}),
    Slip("gzip that is none", "?", logs={CLICK: None, "logs/click.jsonl.gz": lines(clicks())}),
    Slip(
        "half a gzip file", "?", logs={CLICK: None, "logs/click.jsonl.gz": gzip.compress(lines(clicks()), mtime=0)[:-40]}
    ),
    Slip("no file of the root", "?", logs={VIEW: None}),
    Slip("an empty file", "?note", logs={CLICK: b""}),
    Slip("swapped stages", "?", [("  view: {}\n  click: {observe: 10m}", "  click: {}\n  view: {observe: 10m}"), ("of: click", "of: view")]),
    # In messages.
    Slip("seconds read as milliseconds", "?", logs=each(lambda event: {"ts": event["ts"] // 1000})),
    Slip("no JSON", "?", logs={VIEW: b"2026-09-21 v0 u0\n2026-09-21 v1 u1\n"}),
    Slip("a file that is malformed throughout", "?", logs={CLICK: b"{\n{\n"}, command=("replay", "run.yaml"), exit_code=65),
    Slip("NaN", "?rejected", logs={VIEW: but_for(views(), price=7).replace(b'"price":7', b'"price":NaN')}),
    Slip("1.0 as an id", "?rejected", logs={VIEW: but_for(views(), item=1.0)}),
    Slip("a word as a number", "?rejected", logs={VIEW: but_for(views(), price="cheap")}),
    Slip(
        "a part of a key that is missing",
        "?rejected",
        [("key: id", "key: [id, page]")],
        {VIEW: but_for(views(page=1), page=None), CLICK: lines(clicks(page=1)), ORDER: lines(orders(page=1))},
    ),
    Slip("a flag that says yes", "?rejected", FLAGGED, {**NONE, VIEW: but_for(views(is_click=0), is_click="yes")}),
    Slip(
        "a time before its message's",
        "?rejected",
        [(FLAGGED[0][0], "click: {at: clicked, observe: 10m}"), FLAGGED[1]],
        {**NONE, VIEW: but_for(views(clicked=None), clicked=START_MS - 5000)},
    ),
    Slip(
        "a vector of another size",
        "?rejected",
        [("  number:", "  vector: {face: 3}\n  number:")],
        {VIEW: but_for(views(face=[1, 2, 3]), face=[1, 2])},
    ),
    Slip(
        "a bag of more than count",
        "?bag",
        [("  number:", "  bag: {tags: {most: 2}}\n  number:")],
        {VIEW: but_for(views(tags=["a"]), tags=["a", "b", "c"])},
    ),
    Slip("a key that never matches", "?names", logs={CLICK: lines([{**e, "id": f"c{n}"} for n, e in enumerate(clicks())])}),
    Slip("times out of order", "?time  ", logs={VIEW: but_for(views(), ts=START_MS + 3_600_000)}),
    Slip(
        "times without an offset",
        "?UTC;",
        logs=each(lambda event: {"ts": f"2026-09-21T13:{(event['ts'] - START_MS) // 60_000:02d}:00"}),
    ),
    Slip("a window longer than the files", "?window 7d", [("30m}", "30m, window: 7d}")]),
    Slip("a stage field that is missing", "?", [("user: user\n", "user: user\nstage: typ\n")], mixed("click")),
    Slip("an unknown stage", "?rejected   ", [("user: user\n", "user: user\nstage: type\n")], mixed("clik")),
    # In tables.
    Slip("CSV without a header", "?", FLAGGED, {**NONE, "logs/view.csv": RECORDS}),
    Slip(
        "CSV with another delimiter", "?", FLAGGED, {**NONE, "logs/view.csv": (HEADER + RECORDS).replace(b",", b";")}
    ),
    Slip("a quote that is not closed", "?rejected", FLAGGED, {**NONE, "logs/view.csv": HEADER + RECORDS + b'"v9,1,u,1,2,0\n'}),
    Slip("a lookup file that is not there", "?", LOOKED_UP),
    Slip("a lookup column that is not there", "?", LOOKED_UP, {"items.csv": ITEMS.replace(b"brand", b"brands")}),
    Slip("a lookup key twice", "?", LOOKED_UP, {"items.csv": ITEMS + b"3,red\n"}),
    Slip("another lookup file", "?", [*LOOKED_UP, ("file: items.csv", "file: items.csv, sha256: 00ff")], {"items.csv": ITEMS}),
    Slip("a lookup column without a use", "?taken", LOOKED_UP[:1], {"items.csv": ITEMS}),
    Slip("a lookup field taken twice", "?", [*LOOKED_UP, ("take: [brand]}", "take: [brand]}, more: {file: items.csv, key: user, take: [brand]}")], {"items.csv": ITEMS}),
]


def write(slip):
    run = RUN
    for old, new in slip.patch:
        assert run.count(old) >= 1, old
        run = run.replace(old, new, 1)
    Path("run.yaml").write_text(run)
    Path("logs").mkdir()
    for path, content in ({VIEW: lines(views()), CLICK: lines(clicks()), ORDER: lines(orders())} | slip.logs).items():
        if isinstance(content, str):
            Path(path).symlink_to(content)
        elif content is not None:
            Path(path).write_bytes(content)


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.name.replace(" ", "-"))
def test_a_mistake_is_answered_in_one_message_that_names_the_place_and_the_way_out(slip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(slip)
    if slip.before:
        assert CliRunner().invoke(app, slip.before).exit_code == 0
    done = CliRunner().invoke(app, slip.command)
    said = done.stderr.replace(str(tmp_path), "HERE")
    if slip.said.startswith("  "):
        assert (done.exit_code, said) == (0, "")
        assert slip.said in done.stdout.splitlines()
    else:
        assert said.removesuffix("\n").removesuffix("\n\n1 mistake; nothing was run.") == slip.said
        assert done.exit_code == slip.exit_code
