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
    Slip(
        "a misspelt key",
        (
            'run.yaml:8:11  unknown key "observ" in funnel.click\n'
            "   8 |   click: {observ: 10m}\n"
            '     |           ^^^^^^ did you mean "observe"?'
        ),
        [("observe: 10m", "observ: 10m")],
    ),
    Slip(
        "a misspelt field",
        (
            'run.yaml:12:12  field "prize" is in none of 40 view events\n'
            "  12 |   number: {prize: log1p}\n"
            '     |            ^^^^^ did you mean "price"?'
        ),
        [("{price:", "{prize:")],
    ),
    Slip(
        "a key twice",
        ('run.yaml:5:1  key "user" stands twice\n   5 | user: member\n     | ^^^^ first in line 4'),
        [("user: user\n", "user: user\nuser: member\n")],
    ),
    Slip(
        "tabs",
        (
            "run.yaml:7:1  while scanning for the next token: found character '\\t' that cannot start any "
            "token; indent with spaces\n"
            "   7 | \tview: {}\n"
            "     | ^"
        ),
        [("  view: {}", "\tview: {}")],
    ),
    Slip(
        "standard input without quotes",
        (
            'run.yaml:1:8  sequence entries are not allowed here; standard input is written "-", in quotes; '
            "a list begins in a line of its own\n"
            "   1 | files: -\n"
            "     |        ^"
        ),
        [("files: logs", "files: -")],
    ),
    Slip(
        "an unknown model",
        (
            'run.yaml:15:15  "esmn" is not a value of model.name\n'
            "  15 | model: {name: esmn, towers: [4]}\n"
            '     |               ^^^^ did you mean "esmm"?'
        ),
        [("esmm", "esmn")],
    ),
    Slip(
        "after names no stage",
        (
            'run.yaml:9:18  order.after: "clik" is not a stage above order\n'
            "   9 |   order: {after: clik, observe: 30m}\n"
            '     |                  ^^^^ did you mean "click"?'
        ),
        [("order: {observe", "order: {after: clik, observe")],
    ),
    Slip(
        "a history of no stage",
        (
            'run.yaml:14:27  features.history.clicked.of: "clik" is not a stage of the funnel\n'
            "  14 |   history: {clicked: {of: clik, take: [item], last: 5}}\n"
            '     |                           ^^^^ did you mean "click"?'
        ),
        [("of: click", "of: clik")],
    ),
    Slip(
        "a slice of no feature",
        (
            'run.yaml:15:20  metrics.slices: "itme" is no id or time feature\n'
            "  15 | metrics: {slices: [itme]}\n"
            '     |                    ^^^^ did you mean "item"?'
        ),
        [("model:", "metrics: {slices: [itme]}\nmodel:")],
    ),
    Slip(
        "a negative duration",
        (
            'run.yaml:8:20  funnel.click.observe: "-10m" is not a duration; write a whole number and ms, s, '
            "m, h or d, such as 30m\n"
            "   8 |   click: {observe: -10m}\n"
            "     |                    ^^^^"
        ),
        [("10m", "-10m")],
    ),
    Slip(
        "a duration without a unit",
        (
            'run.yaml:5:11  lateness: "300" is not a duration; write a whole number and ms, s, m, h or d, '
            "such as 30m\n"
            "   5 | lateness: 300\n"
            "     |           ^^^"
        ),
        [("5m", "300")],
    ),
    Slip(
        "no observe",
        ('run.yaml:8:3  missing key "observe" in funnel.click\n   8 |   click: {window: 10m}\n     |   ^^^^^'),
        [("observe: 10m", "window: 10m")],
    ),
    Slip(
        "a window shorter than observe",
        (
            "run.yaml:9:33  order.window 5m is shorter than order.observe 30m: the label would be final "
            "before it is observed; set window to 30m or more\n"
            "   9 |   order: {observe: 30m, window: 5m}\n"
            "     |                                 ^^"
        ),
        [("30m}", "30m, window: 5m}")],
    ),
    Slip(
        "a root with a window",
        (
            "run.yaml:7:10  view is the root, the event that is scored: it takes no window\n"
            "   7 |   view: {window: 10m}\n"
            "     |          ^^^^^^ take it out; the root takes key, time, called and value"
        ),
        [("view: {}", "view: {window: 10m}")],
    ),
    Slip(
        "a delay without a flag",
        (
            "run.yaml:8:25  click has messages of its own, without when and at: it takes no delay\n"
            "   8 |   click: {observe: 10m, delay: 7s}\n"
            "     |                         ^^^^^ take it out, or add when: FLAG or at: FIELD"
        ),
        [("observe: 10m", "observe: 10m, delay: 7s")],
    ),
    Slip(
        "a flag of a stage with a key of its own",
        (
            "run.yaml:8:20  click is told of by fields of another stage's messages (when, at): it takes no "
            "key\n"
            "   8 |   click: {when: c, key: k, observe: 1h}\n"
            "     |                    ^^^ take it out, or take out when and at"
        ),
        [(FLAGGED[0][0], "click: {when: c, key: k, observe: 1h}")],
    ),
    Slip(
        "an outcome as a feature",
        (
            'run.yaml:12:12  field "price" is an outcome: it is known only after the root, so it cannot be a '
            "feature\n"
            "  12 |   number: {price: log1p}\n"
            "     |            ^^^^^ take it out of features.number or out of outcomes"
        ),
        [("model:", "outcomes: [price]\nmodel:")],
    ),
    Slip(
        "a flag as a feature",
        (
            'run.yaml:10:14  field "is_click" is an outcome, by funnel.click.when in line 8: it is known '
            "only after the root, so it cannot be a feature\n"
            "  10 |   id: [user, is_click]\n"
            "     |              ^^^^^^^^ take it out of features.id"
        ),
        [*FLAGGED, ("[user, item]", "[user, is_click]"), ("take: [item]", "take: [user]")],
        {**NONE, VIEW: lines(views(is_click=0))},
    ),
    Slip(
        "the key as an id",
        (
            'run.yaml:11:20  "id" is the key: every root has another, so nothing can be learned of it\n'
            "  11 |   id: [user, item, id]\n"
            "     |                    ^^ take it out of features.id"
        ),
        [("[user, item]", "[user, item, id]")],
    ),
    Slip(
        "the time as an id",
        (
            'run.yaml:11:20  "ts" is the time: hardly a value comes twice, so nothing can be learned of it\n'
            "  11 |   id: [user, item, ts]\n"
            "     |                    ^^ take it out of features.id; time: [hour, weekday] are parts of it"
        ),
        [("[user, item]", "[user, item, ts]")],
    ),
    Slip(
        "numbers in a list",
        (
            "run.yaml:12:3  features.number wants a mapping, not a list\n"
            "  12 |   number: [price, a, b, c]\n"
            "     |   ^^^^^^ write {price: none, a: none, b: none, ...}"
        ),
        [("{price: log1p}", "[price, a, b, c]")],
        {VIEW: lines(views(a=1, b=1, c=1))},
    ),
    Slip(
        "a number in a cross",
        (
            'run.yaml:12:18  "price" is a number: a cross is made of single ids\n'
            "  12 |   cross: [[user, price]]\n"
            "     |                  ^^^^^ make a bucket of it, such as {of: FIELD, at: [1, 10, 100]}, or "
            "list it under id too"
        ),
        [("  number:", "  cross: [[user, price]]\n  number:")],
    ),
    Slip(
        "a cross twice",
        (
            "run.yaml:12:26  item and user are crossed twice\n"
            "  12 |   cross: [[user, item], [item, user]]\n"
            "     |                          ^^^^ first in line 12"
        ),
        [("  number:", "  cross: [[user, item], [item, user]]\n  number:")],
    ),
    Slip(
        "an id that is also a bag",
        ('run.yaml:12:9  feature "item" is listed twice\n  12 |   bag: [item]\n     |         ^^^^ first in line 11'),
        [("  number:", "  bag: [item]\n  number:")],
    ),
    Slip(
        "a history without a user",
        (
            "run.yaml:13:13  features.history.clicked needs to know whose history it is\n"
            "  13 |   history: {clicked: {of: click, take: [item], last: 5}}\n"
            "     |             ^^^^^^^ add user: FIELD"
        ),
        [("user: user\n", "")],
    ),
    Slip(
        "a type of no field",
        (
            'run.yaml:5:9  types: "itm" is no id, bag, key or user of this run file\n'
            "   5 | types: {itm: integer}\n"
            '     |         ^^^ did you mean "item"?'
        ),
        [("user: user\n", "user: user\ntypes: {itm: integer}\n")],
    ),
    Slip(
        "ignore without a stage field",
        (
            "run.yaml:5:1  ignore holds values of the field that says what a line is, and no field is named "
            "as that\n"
            "   5 | ignore: [ping]\n"
            "     | ^^^^^^ add stage: FIELD"
        ),
        [("user: user\n", "user: user\nignore: [ping]\n")],
    ),
    Slip(
        "an unknown time zone",
        (
            'run.yaml:3:25  time.zone: "Asia/Shangai" is not an IANA time zone; write one such as '
            "Asia/Shanghai\n"
            "   3 | time: {field: ts, zone: Asia/Shangai}\n"
            "     |                         ^^^^^^^^^^^^"
        ),
        [("time: ts", "time: {field: ts, zone: Asia/Shangai}")],
    ),
    Slip(
        "a moment without an offset",
        (
            'run.yaml:15:17  metrics.from: "2026-09-21" has no offset; add Z for UTC or one such as +08:00\n'
            "  15 | metrics: {from: 2026-09-21}\n"
            "     |                 ^^^^^^^^^^"
        ),
        [("model:", "metrics: {from: 2026-09-21}\nmodel:")],
    ),
    # In a command.
    Slip(
        "an unknown setting",
        (
            '--set training.bach=64  unknown key "bach" in training\n'
            "     | --set training.bach=64\n"
            '     |                ^^^^ did you mean "batch"?'
        ),
        command=("check", "run.yaml", "--set", "training.bach=64"),
    ),
    Slip(
        "a setting without a value",
        (
            "--set training.seed  an override is written key=value\n"
            "     | --set training.seed\n"
            "     |       ^^^^^^^^^^^^^ such as training.seed=2"
        ),
        command=("check", "run.yaml", "--set", "training.seed"),
    ),
    Slip(
        "a run file that is not there",
        ("there is no run file rum.yaml; name one, or the directory of a run"),
        command=("check", "rum.yaml"),
    ),
    Slip(
        "a folder in place of a run file",
        ("logs is not a run directory: it holds no run.yaml; name a run file, or the directory of a run"),
        command=("check", "logs"),
    ),
    Slip(
        "until without an offset",
        ('--until "2026-09-21" has no offset; add Z for UTC or one such as +08:00'),
        command=("replay", "run.yaml", "--until", "2026-09-21"),
    ),
    Slip(
        "a resume with another config",
        (
            "runs/run cannot go on from snapshot 000000000055 with another config:\n"
            "  training.batch: 8 is now 4\n"
            "take the change back, choose another directory with --run, or start anew with --fresh"
        ),
        command=("replay", "run.yaml", "--set", "training.batch=4"),
        before=("replay", "run.yaml"),
    ),
    Slip(
        "topics of other stages",
        (
            'run.yaml:18:21  kafka.topics: "views" is no stage that has messages; those are view, click, order\n'
            "  18 | kafka: {servers: h, topics: {views: v}}\n"
            "     |                     ^^^^^^"
        ),
        [("threads: 1}\n", "threads: 1}\nkafka: {servers: h, topics: {views: v}}\n")],
    ),
    # In which files there are.
    Slip(
        "a file that is not there",
        (
            'run.yaml:1:8  files: "log/view.jsonl" matches no file in HERE; name event files, a folder or a '
            "pattern\n"
            "   1 | files: log/view.jsonl\n"
            "     |        ^^^^^^^^^^^^^^"
        ),
        [("files: logs", "files: log/view.jsonl")],
    ),
    Slip(
        "an empty folder",
        (
            "run.yaml:1:8  files: the folder logs holds no event file (hidden ones, and those that begin "
            "with _ or end in .bak, .tmp, ~, do not count); name event files, a folder or a pattern that "
            "does\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs=NONE,
    ),
    Slip(
        "a link that leads nowhere",
        (
            "run.yaml:1:8  files: logs/click.jsonl cannot be read: No such file or directory; mend it, or "
            "leave it out\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs={CLICK: "nowhere"},
    ),
    Slip(
        "a file of no stage",
        (
            "run.yaml:1:8  files: the name of logs/notes.jsonl says no stage; let it begin with one of view, "
            "click, order and go on with no letter, give each stage its files with files: {stages: {view: ...}}, "
            "leave it out of the pattern, or say with `stage:` which field of a message does\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs={"logs/notes.jsonl": b"{}\n"},
    ),
    Slip(
        "a suffix that is not read",
        (
            "run.yaml:1:8  files: logs/click.xlsx: .xlsx is not read; write JSON lines or CSV (plain, .gz, "
            ".zst or .bz2), Parquet or Arrow\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs={CLICK: None, "logs/click.xlsx": b"PK"},
    ),
    Slip(
        "gzip that is none",
        (
            "run.yaml:1:8  logs/click.jsonl.gz cannot be read behind byte 0: zlib inflate failed: incorrect "
            "header check; mend it, name it for what it is, or take it out\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs={CLICK: None, "logs/click.jsonl.gz": lines(clicks())},
    ),
    Slip(
        "half a gzip file",
        (
            "run.yaml:1:8  logs/click.jsonl.gz cannot be read behind byte 0: Truncated compressed stream; "
            "mend it, name it for what it is, or take it out\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs={CLICK: None, "logs/click.jsonl.gz": gzip.compress(lines(clicks()), mtime=0)[:-40]},
    ),
    Slip(
        "no file of the root",
        (
            "run.yaml:1:8  files: none is of the root stage view; nothing can be joined without its events\n"
            "   1 | files: logs\n"
            "     |        ^^^^"
        ),
        logs={VIEW: None},
    ),
    Slip("an empty file", ("  note       no click event was found in logs/click.jsonl"), logs={CLICK: b""}),
    Slip(
        "swapped stages",
        (
            "run.yaml:7:3  click stands first and is the root, but its events lack item, price, user, as "
            "view has\n"
            "   7 |   click: {}\n"
            "     |   ^^^^^ is view the event that is scored? Then it stands first"
        ),
        [("  view: {}\n  click: {observe: 10m}", "  click: {}\n  view: {observe: 10m}"), ("of: click", "of: view")],
    ),
    # In messages.
    Slip(
        "seconds read as milliseconds",
        (
            'run.yaml:3:7  no view and no click and no order event can be read: time "ts" is outside 2000 to '
            "2100 (a number counts as ms); set time.unit, or write ISO-8601\n"
            "   3 | time: ts\n"
            "     |       ^^ with unit: s they lie within: time: {field: ts, unit: s}"
        ),
        logs=each(lambda event: {"ts": event["ts"] // 1000}),
    ),
    Slip(
        "no JSON",
        (
            "run.yaml:1:8  no view event can be read: not JSON: unexpected content after document\n"
            "   1 | files: logs\n"
            "     |        ^^^^ wanted is one JSON object a line; CSV is told by the name .csv, or by "
            "format: csv"
        ),
        logs={VIEW: b"2026-09-21 v0 u0\n2026-09-21 v1 u1\n"},
    ),
    Slip(
        "a file that is malformed throughout",
        (
            "logs/click.jsonl: every one of its 2 messages is malformed, 2 of them because: not JSON: "
            'unexpected end of data. Line 1 is {. Wanted is one JSON object a line, with the key in "id" '
            'and the time in "ts": mend the file or the run file'
        ),
        logs={CLICK: b"{\n{\n"},
        command=("replay", "run.yaml"),
        exit_code=65,
    ),
    Slip(
        "NaN",
        (
            "  rejected   1 view event: not JSON: unexpected character, expected a JSON value; "
            'logs/view.jsonl:4 is {"id":"v3","ts":1790000180000,"user":"u3","item":3,"price":NaN}'
        ),
        logs={VIEW: but_for(views(), price=7).replace(b'"price":7', b'"price":NaN')},
    ),
    Slip(
        "1.0 as an id",
        (
            '  rejected   1 view event: id "item" is a number with a fraction, an exponent or more than 64 '
            "bits: write it without a fraction or as text, or list it under features.number; "
            'logs/view.jsonl:4 is {"id":"v3","ts":1790000180000,"user":"u3","item":1.0,"price":2.5}'
        ),
        logs={VIEW: but_for(views(), item=1.0)},
    ),
    Slip(
        "a word as a number",
        (
            '  rejected   1 view event: number "price" is "cheap", not a number; logs/view.jsonl:4 is '
            '{"id":"v3","ts":1790000180000,"user":"u3","item":3,"price":"cheap"}'
        ),
        logs={VIEW: but_for(views(), price="cheap")},
    ),
    Slip(
        "a part of a key that is missing",
        (
            '  rejected   1 view event: key "page" is missing; logs/view.jsonl:4 is '
            '{"id":"v3","ts":1790000180000,"user":"u3","item":3,"price":2.5,"page":null}'
        ),
        [("key: id", "key: [id, page]")],
        {VIEW: but_for(views(page=1), page=None), CLICK: lines(clicks(page=1)), ORDER: lines(orders(page=1))},
    ),
    Slip(
        "a flag that says yes",
        (
            '  rejected   1 view event: flag "is_click" is "yes", not 0, 1, true or false; logs/view.jsonl:4 '
            'is {"id":"v3","ts":1790000180000,"user":"u3","item":3,"price":2.5,"is_click":"yes"}'
        ),
        FLAGGED,
        {**NONE, VIEW: but_for(views(is_click=0), is_click="yes")},
    ),
    Slip(
        "a time before its message's",
        (
            '  rejected   1 click event: time "clicked" is before "ts", the time of the message that tells '
            "of it; logs/view.jsonl:4 is "
            '{"id":"v3","ts":1790000180000,"user":"u3","item":3,"price":2.5,"clicked":1789999995000}'
        ),
        [(FLAGGED[0][0], "click: {at: clicked, observe: 10m}"), FLAGGED[1]],
        {**NONE, VIEW: but_for(views(clicked=None), clicked=START_MS - 5000)},
    ),
    Slip(
        "a vector of another size",
        (
            '  rejected   1 view event: vector "face" has 2 numbers, not 3; logs/view.jsonl:4 is '
            '{"id":"v3","ts":1790000180000,"user":"u3","item":3,"price":2.5,"face":[1,2]}'
        ),
        [("  number:", "  vector: {face: 3}\n  number:")],
        {VIEW: but_for(views(face=[1, 2, 3]), face=[1, 2])},
    ),
    Slip(
        "a bag of more than count",
        (
            "  note       bag tags: 1 of 40 events have more values than the 2 that count; "
            "features.bag.tags.most says how many do"
        ),
        [("  number:", "  bag: {tags: {most: 2}}\n  number:")],
        {VIEW: but_for(views(tags=["a"]), tags=["a", "b", "c"])},
    ),
    Slip(
        "a key that never matches",
        (
            "  note       no click event names a known view: is the key the root's id? the first click has "
            '"c0", the first view "v0"; funnel.click.key names another field'
        ),
        logs={CLICK: lines([{**e, "id": f"c{n}"} for n, e in enumerate(clicks())])},
    ),
    Slip(
        "times out of order",
        (
            "  time       ts: numbers in ms; worst disorder 56 min, beyond lateness 5m: 36 events would be "
            "late, with 1h none"
        ),
        logs={VIEW: but_for(views(), ts=START_MS + 3_600_000)},
    ),
    Slip(
        "times without an offset",
        ("  note       ts is read as UTC; where it is another zone's, write time: {field: ts, zone: ...}"),
        logs=each(lambda event: {"ts": f"2026-09-21T13:{(event['ts'] - START_MS) // 60_000:02d}:00"}),
    ),
    Slip(
        "a window longer than the files",
        (
            "  note       order window 7d, the files span 39 min: no label of order becomes final; shorten "
            "it, or add files"
        ),
        [("30m}", "30m, window: 7d}")],
    ),
    Slip(
        "a stage field that is missing",
        (
            'run.yaml:5:8  field "typ" is in none of 55 messages\n'
            "   5 | stage: typ\n"
            '     |        ^^^ did you mean "type"?'
        ),
        [("user: user\n", "user: user\nstage: typ\n")],
        mixed("click"),
    ),
    Slip(
        "an unknown stage",
        (
            '  rejected   10 messages: stage "type" is "clik", none of view, click, order; list it under '
            "ignore, or under called in its stage; logs/view.jsonl:41 is "
            '{"id":"v0","ts":1790000001000,"type":"clik"}'
        ),
        [("user: user\n", "user: user\nstage: type\n")],
        mixed("clik"),
    ),
    # In tables.
    Slip(
        "CSV without a header",
        (
            "run.yaml:1:8  no field of view is a column of logs/view.csv, which begins "
            '"v0,1790000000000,u,1,2.5,0"\n'
            "   1 | files: logs\n"
            "     |        ^^^^ where that is no header, name the columns: csv: {columns: [...]}"
        ),
        FLAGGED,
        {**NONE, "logs/view.csv": RECORDS},
    ),
    Slip(
        "CSV with another delimiter",
        (
            "run.yaml:1:8  no field of view is a column of logs/view.csv, which begins "
            '"id;ts;user;item;price;is_click"\n'
            "   1 | files: logs\n"
            '     |        ^^^^ write csv: {delimiter: ";"}'
        ),
        FLAGGED,
        {**NONE, "logs/view.csv": (HEADER + RECORDS).replace(b",", b";")},
    ),
    Slip(
        "a quote that is not closed",
        (
            "  rejected   1 view event: a quote is not closed in its line (a line break within quotes is not "
            'supported); logs/view.csv:11 is "v9,1,u,1,2,0'
        ),
        FLAGGED,
        {**NONE, "logs/view.csv": HEADER + RECORDS + b'"v9,1,u,1,2,0\n'},
    ),
    Slip(
        "a lookup file that is not there",
        (
            "run.yaml:11:26  there is no file items.csv in HERE; name the file of the lookup\n"
            "  11 |   lookup: {items: {file: items.csv, key: item, take: [brand]}}\n"
            "     |                          ^^^^^^^^^"
        ),
        LOOKED_UP,
    ),
    Slip(
        "a lookup column that is not there",
        (
            'run.yaml:11:55  items.csv has no column "brand"; did you mean "brands"?\n'
            "  11 |   lookup: {items: {file: items.csv, key: item, take: [brand]}}\n"
            "     |                                                       ^^^^^"
        ),
        LOOKED_UP,
        {"items.csv": ITEMS.replace(b"brand", b"brands")},
    ),
    Slip(
        "a lookup key twice",
        (
            'run.yaml:11:26  items.csv: rows 4 and 8 both have the item "3"; leave one row of each key\n'
            "  11 |   lookup: {items: {file: items.csv, key: item, take: [brand]}}\n"
            "     |                          ^^^^^^^^^"
        ),
        LOOKED_UP,
        {"items.csv": ITEMS + b"3,red\n"},
    ),
    Slip(
        "another lookup file",
        (
            "run.yaml:11:26  items.csv is not the declared lookup table: its sha256 is "
            "c090c34a987d2fb00be250c2d745184439ee5da07a7628cf98c19a5a98e8378b, not 00ff; put that file back, "
            "or declare this one as a further version, `from` the time at which it holds\n"
            "  11 |   lookup: {items: {file: items.csv, sha256: 00ff, key: item, take: [brand]}}\n"
            "     |                          ^^^^^^^^^"
        ),
        [*LOOKED_UP, ("file: items.csv", "file: items.csv, sha256: 00ff")],
        {"items.csv": ITEMS},
    ),
    Slip(
        "a lookup that finds nothing",
        (
            '  note       lookup items finds nothing for any of 40 view events: does "item" stand in its '
            "table as in the events?"
        ),
        LOOKED_UP,
        {"items.csv": b"item,brand\nitem-1,red\n"},
    ),
    Slip(
        "a lookup column without a use",
        ('  note       "brand" of lookup items is taken and no feature uses it'),
        LOOKED_UP[:1],
        {"items.csv": ITEMS},
    ),
    Slip(
        "a lookup field taken twice",
        (
            'run.yaml:11:106  field "brand" is taken by two lookups, items and more\n'
            "  11 |   lookup: {items: {file: items.csv, key: item, take: [brand]}, more: {file: items.csv, "
            "key: user, take: [brand]}}\n"
            "     |                                                                                          "
            "                ^^^^^ first in line 11; name one otherwise: take: {NAME: brand}"
        ),
        [*LOOKED_UP, ("take: [brand]}", "take: [brand]}, more: {file: items.csv, key: user, take: [brand]}")],
        {"items.csv": ITEMS},
    ),
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
    told = [line for line in done.stderr.replace(str(tmp_path), "HERE").split("\n") if not line.startswith("replay ")]
    said = "\n".join(told)
    if slip.said.startswith("  "):
        assert (done.exit_code, said) == (0, "")
        assert slip.said in done.stdout.splitlines()
    else:
        assert said.removesuffix("\n").removesuffix("\n\n1 mistake; nothing was run.") == slip.said
        assert done.exit_code == slip.exit_code
