"""Five logs of good messages, and the mutations that make bad ones of them."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa

from streamctr.ports import RawBlock
from streamctr.schema import CsvConfig, FeaturesConfig, Funnel, MessagesConfig, RejectsConfig, StageConfig
from tests.bench.oddcolumns import TIMES, as_json, odd_column, usual_column

START_MS = 1_650_812_741_436
NEVER = RejectsConfig(share=1)
"""Stops no run: there is no more than all of the messages."""
POOL = 2000
"""Good messages of each log."""

SEEN = {"imp.seen": (), "imp.share": (">= 0.5",), "imp.size": (">= 3", "1")}
FLAT_FUNNEL = Funnel.from_mapping({"imp": StageConfig(), "click": StageConfig(observe="10s")})
FLAT_FEATURES = FeaturesConfig(id=("ad", "user", "n"), number={"price": {}, "w": {}})
FLAT = MessagesConfig(
    key="id", time={"field": "ts", "unit": "s"}, user="user", weight="w", types={"n": "integer"}, rejects=NEVER
)
FUNNEL = Funnel.from_mapping(
    {
        "imp": StageConfig(value="imp.bid"),
        "seen": StageConfig(after="imp", observe="1m", when=SEEN, delay=7),
        "click": StageConfig(after="imp", observe="1m", key="of", called="tap"),
        "install": StageConfig(observe="1m", at="install_ts", value="fee", told_by="click"),
        "big": StageConfig(after="click", observe="1m", when={"kind": ("1", "x", "true")}, told_by="click"),
        "order": StageConfig(after="click", observe="1m", key=("user.id", "n"), value="fee", time="paid_ts"),
    }
)
FEATURES = FeaturesConfig(
    id=("imp.ad", "imp.size", "kind"),
    bag={"geo": {"most": 2}, "tags": {}},
    number={"imp.bid": {}, "w": {}},
    vector={"emb": 2},
)
MIXED = MessagesConfig(
    key="imp.id",
    time={"field": "ts", "zone": "Asia/Shanghai"},
    user=("user.id", "user.kind"),
    stage="type",
    ignore="beat",
    weight="w",
    types={"imp.size": "integer", "n": "integer", "tags": "integer"},
    csv=CsvConfig(missing="NULL"),
    rejects=NEVER,
)

_JSON_VALUE = re.compile(rb':("(?:[^"\\]|\\.)*"|[-+.0-9eE]+|true|false|null|\[[^\]]*\]|\{[^{}]*\})')
_CSV_VALUE = re.compile(rb'(?:^|(?<=,))("(?:[^"]|"")*"|[^,"]*)')
_RECORD = re.compile(r'(?:"(?:[^"]|"")*"|[^,"]*)(?:,(?:"(?:[^"]|"")*"|[^,"]*))*', re.DOTALL)
_FIELD = re.compile(r'(?:^|,)(?:"((?:[^"]|"")*)"|([^,"]*))', re.DOTALL)


def _odd_values() -> list[bytes]:
    """What may stand in the place of any value."""
    words = (
        "null true false NaN -Infinity [] {} [null] [[1]] [1,2,3] [1,2.5] [true] ['a'] nul 1.0 -0 0 1 7 007 -7 +7 .5"
    )
    words += (
        " 1e3 1e400 -1e-400 1650812741436 1650812741 1650812741436999 1e300 2.5 9223372036854775807 9223372036854775808"
    )
    words += " 18446744073709551616 -9223372036854775809 1,2 {'id':1,'id':2} [1,'a',true] [1.5,'2'] ['1',null,'2'] x y"
    texts = [
        "",
        " ",
        "a",
        "007",
        " 7",
        "7 ",
        "1.0",
        "NaN",
        "inf",
        "-inf",
        "1e999",
        "0x10",
        "1_000",
        "all",
        "imp",
        "tap",
    ]
    texts += [
        "beat",
        "true",
        "True",
        "yes",
        "null",
        "NULL",
        "2022-04-24T15:05:41Z",
        "2022-04-24 15:05",
        "2022-02-30T00:00",
    ]
    texts += [
        "[0.1, 0.2]",
        "0.1 0.2",
        "a, b,,",
        ",",
        "٣",
        "é\\u0000",
        "\\ud83d\\ude00",
        "\\ud800",
        "\\x",
        "}{",
        "[",
        "a:b",
    ]
    texts += [
        "9" * 400,
        "1" + "0" * 30,
        "-9223372036854775808",
        "2022-04-24T15:05:41.436999+08:00",
        "1969-12-31T23:59Z",
    ]
    odd = [word.replace("'", '"').encode() for word in words.split(" ")] + [f'"{text}"'.encode() for text in texts]
    odd += [b'1,"kind":2', b'null,"ts":null', b'"a""b"', b'"a"b', b'a"b', b'"', b"", b" 1", b"\t1 ", b"9" * 400]
    odd += [b'"' + b"long" * 5000 + b'"', b"[" * 600 + b"]" * 600, b'{"a":' * 1100 + b"1" + b"}" * 1100, b"[" * 9000]
    return odd


ODD = _odd_values()
PIECES = [
    b'"',
    b'\\"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x00",
    b"\x0b",
    b"\x1f",
    b"\x7f",
    b"\\",
]
PIECES += [
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\\u12",
    b"\\ud800",
]

Mutation = Callable[[bytes, int, int, bytes], bytes]
"""A line, a place in it, a number below 2^32 and another line to a line."""
MUTATIONS: dict[str, Mutation] = {
    "flip": lambda line, at, draw, other: line[:at] + bytes([line[at] ^ (1 << draw % 8)]) + line[at + 1 :],
    "insert": lambda line, at, draw, other: line[:at] + bytes([draw % 256]) + line[at:],
    "delete": lambda line, at, draw, other: line[:at] + line[at + 1 + draw % 3 :],
    "duplicate": lambda line, at, draw, other: line[: at + draw % 40] + line[at:],
    "splice": lambda line, at, draw, other: line[:at] + other[draw % len(other) :],
    "truncate": lambda line, at, draw, other: line[:at],
    "pieces": lambda line, at, draw, other: line[:at] + PIECES[draw % len(PIECES)] + line[at:],
    "digits": lambda line, at, draw, other: line[:at] + b"9" * (draw % 330) + line[at:],
    "join": lambda line, at, draw, other: line + (b"", b" ", b"\r", b",")[draw % 4] + other,
    "space": lambda line, at, draw, other: (b" ", b"\t", b"\r", b"\xef\xbb\xbf")[draw % 4] + line + b" \r"[draw % 3 :],
    "blank": lambda line, at, draw, other: (b"", b" ", b"\r", b"\t \r", b"\x00", b"\x0c")[draw % 6],
}
VALUE_MUTATIONS = ("odd", "odd", "swap")


@dataclass(frozen=True)
class Log:
    """One shape of log, and good messages of it."""

    name: str
    kind: str
    config: MessagesConfig
    funnel: Funnel
    features: FeaturesConfig
    stage: int
    pool: list[Any]
    header: tuple[str, ...] = ()


def message(draw: random.Random) -> dict[str, Any]:
    """A good message, nested, of any stage."""
    t = START_MS + draw.randrange(10**6)
    number = draw.randrange(10**6)
    return {
        "type": draw.choice(("imp", "imp", "imp", "click", "tap", "order", "beat")),
        "ts": t,
        "imp": {
            "id": f"r{number}",
            "ad": draw.randrange(500),
            "size": draw.randrange(9),
            "bid": draw.randrange(400) / 64,
            "seen": draw.random() < 0.5,
            "share": draw.randrange(64) / 64,
        },
        "user": {"id": draw.randrange(999), "kind": draw.choice("abc")},
        "of": f"r{number}",
        "n": draw.randrange(99),
        "kind": draw.choice(("x", "y", "häß", "1")),
        "geo": draw.sample(("de", "bw", "ka", "süd"), draw.randrange(4)),
        "tags": [draw.randrange(9) for _ in range(draw.randrange(4))],
        "emb": [draw.randrange(64) / 64, draw.random()],
        "w": draw.randrange(8) / 4,
        "fee": draw.random() * 10,
        "install_ts": draw.choice((None, t + 5000, t - 1)),
        "paid_ts": t + 60_000,
    }


def flat(message: dict[str, Any]) -> dict[str, Any]:
    """The fields by their paths."""
    parents = {name: value for name, value in message.items() if isinstance(value, dict)}
    members = {f"{name}.{member}": value for name, parent in parents.items() for member, value in parent.items()}
    return {name: value for name, value in message.items() if name not in parents} | members


def nested(message: dict[str, Any]) -> dict[str, Any]:
    """Fields by their paths to a message."""
    made: dict[str, Any] = {}
    for path, value in message.items():
        parent, _, member = path.rpartition(".")
        (made.setdefault(parent, {}) if parent else made)[member] = value
    return made


def text(value: Any) -> str | None:
    """A value as a CSV field has it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _record(message: dict[str, Any]) -> bytes:
    texts = [text(value) or "" for value in flat(message).values()]
    return ",".join(f'"{t}"' if "," in t or len(t) % 7 == 0 else t for t in texts).encode()


def logs(seed: int) -> list[Log]:
    """The five logs."""
    draw = random.Random(seed)
    messages = [message(draw) for _ in range(POOL)]
    impressions = [
        {"id": m["of"], "ts": m["ts"] / 1000, "user": m["user"]["kind"], "ad": m["imp"]["ad"], "price": m["fee"]}
        | {name: m[name] for name in ("n", "w", "geo")}
        for m in messages
    ]
    texts = [nested({name: text(value) for name, value in flat(m).items()}) for m in messages]
    mixed = (MIXED, FUNNEL, FEATURES, -1)
    us = MIXED.model_copy(update={"time": MIXED.time.model_copy(update={"unit": "us"})})
    for m in texts:
        m.update({name: m[name] and f"{m[name]}999.5" for name in TIMES})
    return [
        Log("flat", "json", FLAT, FLAT_FUNNEL, FLAT_FEATURES, 0, [orjson.dumps(m) for m in impressions]),
        Log("nested", "json", *mixed, [orjson.dumps(m) for m in messages]),
        Log("texts", "json", us, FUNNEL, FEATURES, -1, [orjson.dumps(m) for m in texts]),
        Log("csv", "csv", *mixed, [_record(m) for m in messages], tuple(flat(messages[0]))),
        Log("arrow", "arrow", *mixed, messages),
    ]


@dataclass(frozen=True)
class Trial:
    """A block of mutated messages, and the JSON lines that mean the same."""

    block: RawBlock
    meant: bytes
    mutated: int


class Trials:
    """Draws the blocks of one log."""

    def __init__(self, log: Log, seed: int) -> None:
        self.log, self._draw = log, random.Random(seed)
        found = _JSON_VALUE if log.kind == "json" else _CSV_VALUE
        self._spans = [] if log.kind == "arrow" else [[m.span(1) for m in found.finditer(line)] for line in log.pool]

    def draw(self) -> Trial:
        """One block."""
        draw, n = self._draw, self._draw.choice((1, 8, 60, 300, 1000))
        rows = draw.choices(range(POOL), k=n)
        if self.log.kind == "arrow":
            return self._columns([self.log.pool[row] for row in rows])
        kinds = draw.sample((*MUTATIONS, *VALUE_MUTATIONS), draw.randint(1, 3))
        share = draw.choice((1.0, 1.0, 0.01))
        hit = [row for row in range(n) if draw.random() < share]
        lines = [self.log.pool[row] for row in rows]
        for place in hit:
            lines[place] = self._mutated(rows[place], draw.choice(kinds))
        payload = b"\n".join(lines)
        block = self._block(payload)
        meant = payload if self.log.kind == "json" else b"\n".join(map(self._as_json, payload.split(b"\n")))
        return Trial(block, meant, len(hit))

    def _mutated(self, row: int, kind: str) -> bytes:
        draw, line, other = self._draw, self.log.pool[row], self.log.pool[self._draw.randrange(POOL)]
        if kind in MUTATIONS:
            return MUTATIONS[kind](line, draw.randrange(len(line)), draw.getrandbits(32), other)
        (start, end), (first, last) = draw.choices(self._spans[row], k=2)
        value = line[first:last] if kind == "swap" else ODD[draw.randrange(len(ODD))]
        return line[:start] + value + line[end:]

    def _columns(self, messages: list[dict[str, Any]]) -> Trial:
        """Rows, most columns of which are as usual."""
        draw, listed = self._draw, [flat(message) for message in messages]
        share, odd = draw.choice((0.0, 0.05)), draw.randrange(4)
        chosen = set(draw.sample(list(listed[0]), odd))
        columns = {
            path: odd_column(draw, len(listed))
            if path in chosen
            else usual_column(draw, [m[path] for m in listed], share)
            for path in listed[0]
        }
        rows = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        start = draw.randrange(len(rows)) if draw.random() < 0.3 else 0
        rows = rows.slice(start)
        meant = b"\n".join(as_json(rows, tuple(columns)))
        inner = {path: columns[path].slice(start) for path in columns}
        if draw.random() < 0.5:
            rows = _with_structs(inner)
        return Trial(replace(self._block(b""), rows=rows), meant, len(rows) if odd or share else 0)

    def _block(self, payload: bytes) -> RawBlock:
        log = self.log
        return RawBlock(0, log.stage, f"{log.name} log", 1, payload, False, False, log.kind, log.header)  # type: ignore[arg-type]

    def _as_json(self, line: bytes) -> bytes:
        """What a CSV record means; no JSON where it is none."""
        line = line.removesuffix(b"\r")
        try:
            record = line.decode()
        except UnicodeDecodeError:
            return b"!"
        if not line:
            return b""
        if "\0" in record or not _RECORD.fullmatch(record):
            return b"!"
        values = [quoted.replace('""', '"') or bare for quoted, bare in _FIELD.findall(record)]
        if len(values) != len(self.log.header):
            return b"!"
        named = zip(self.log.header, values, strict=True)
        return orjson.dumps(nested({name: None if value in ("", "NULL") else value for name, value in named}))


def _with_structs(columns: dict[str, Any]) -> Any:
    """The same rows, with the fields of a parent in a struct."""
    made = {path: column for path, column in columns.items() if "." not in path}
    for parent in dict.fromkeys(path.split(".")[0] for path in columns if "." in path):
        members = {path.split(".")[1]: column for path, column in columns.items() if path.startswith(f"{parent}.")}
        made[parent] = pa.StructArray.from_arrays(list(members.values()), list(members))
    return pa.RecordBatch.from_arrays(list(made.values()), list(made))
