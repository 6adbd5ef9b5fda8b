"""What other forms of log and lookup tables cost: `python -m tests.bench.cost`, and part of `make bench`.

1. The synthetic world is written flat, a file a stage; nested, all stages in one file; as CSV and as Parquet. Blocks of
   all four are decoded in turn, several times over; the medians are printed.
2. Two pipelines over the world alternate, window by window: in one the features of users and items stand in the events,
   in the other two lookup tables of 100,000 rows add them. Both learn from the same samples.
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from connectors.files import FileSource, find_files
from jobs import wiring
from jobs.runfile import RunConfig, RunFile
from jobs.synthetic_data import write
from streamctr.names import Names
from streamctr.ports import RawBlock
from streamctr.synthetic import ID_FIELDS, NUMBER_FIELDS, WorldConfig
from tests.bench.stages import built
from tests.bench.timing import Stopwatch, Timed

ROUNDS = 5
"""Times that each form is decoded behind the first; the first warms up."""
WINDOWS = 5
ROOTS = 12_000
"""Roots of a window; the first window warms up."""
WORLD = WorldConfig(roots=2 * (WINDOWS + 2) * ROOTS, days=2, users=50_000, items=50_000)
TABLE_ROWS = 100_000
STAGES = ("impression", "click", "conversion")
FRONT = ("decode", "order", "join", "history+encode")
TAKEN = {"user_id": ("city", "region", "carrier", "age_days"), "item_id": ("category", "brand", "price", "fans")}
"""What a table adds, by its key."""
PARENTS = {"user": (*TAKEN["user_id"], "os", "device", "browser"), "item": (*TAKEN["item_id"], "quality")}
"""Under which object a field stands in a nested message; the others under `imp`, user and item as `id` under theirs."""
WANTED = {"ratio_of_nested_to_flat": 0.7, "lookups_of_pipeline": 0.1}

RUN: dict[str, Any] = {
    "key": "id",
    "time": "time_ms",
    "user": "user_id",
    "funnel": {"impression": {}, "click": {"observe": "10m"}, "conversion": {"observe": "1h", "window": "6h"}},
    "features": {
        "id": list(ID_FIELDS),
        "number": dict.fromkeys(NUMBER_FIELDS, "log1p"),
        "history": {"clicked": {"of": "click", "take": ["item_id", "category"], "last": 50}},
    },
    "model": {"name": "esmm", "towers": [256, 128]},
    "tables": {"width": 16},
    "training": {"batch": 1024},
}


def path_of(field: str) -> str:
    """Where a field of the flat log stands in a nested message."""
    if field in ("id", "time_ms"):
        return field
    if field in TAKEN:
        return field.replace("_", ".")
    return next((f"{parent}.{field}" for parent, fields in PARENTS.items() if field in fields), f"imp.{field}")


def nested_line(stage: str, message: dict[str, Any]) -> bytes:
    """A message of the flat log as one of the nested one."""
    made: dict[str, Any] = {"type": stage}
    for field, value in message.items():
        parent, _, member = path_of(field).rpartition(".")
        (made.setdefault(parent, {}) if parent else made)[member] = value
    return orjson.dumps(made)


def nested_run() -> dict[str, Any]:
    """The run of the nested log."""
    features = RUN["features"]
    history = features["history"]["clicked"]
    return {
        **RUN,
        "stage": "type",
        "user": path_of("user_id"),
        "features": {
            "id": [path_of(field) for field in features["id"]],
            "number": {path_of(field): how for field, how in features["number"].items()},
            "history": {"clicked": {**history, "take": [path_of(field) for field in history["take"]]}},
        },
    }


def parsed(run: dict[str, Any], files: Path) -> RunConfig:
    """A run over these files."""
    return RunFile.parse(orjson.dumps({"files": str(files), **run}).decode(), "bench.yaml").config


def write_forms(folder: Path) -> dict[str, RunConfig]:
    """The world's events in four forms, and the run of each."""
    write(str(folder / "flat"), WORLD, lambda roots: None, compress=False)
    timed = []
    for place, stage in enumerate(STAGES):
        lines = (folder / "flat" / f"{stage}.jsonl").read_bytes().splitlines()
        messages = list(map(orjson.loads, lines))
        timed += [(message["time_ms"], place, nested_line(stage, message)) for message in messages]
        table = pa.Table.from_pylist(messages)
        for form in ("csv", "parquet"):
            (folder / form).mkdir(exist_ok=True)
        pyarrow.csv.write_csv(table, folder / "csv" / f"{stage}.csv", pyarrow.csv.WriteOptions(quoting_style="needed"))
        pq.write_table(table, folder / "parquet" / f"{stage}.parquet")
    (folder / "nested.jsonl").write_bytes(b"\n".join(line for *_, line in sorted(timed, key=lambda e: e[:2])) + b"\n")
    nested = parsed(nested_run(), folder / "nested.jsonl")
    return {
        "flat": parsed(RUN, folder / "flat" / "*.jsonl"),
        "nested": nested,
        "csv": parsed(RUN, folder / "csv" / "*.csv"),
        "parquet": parsed(RUN, folder / "parquet" / "*.parquet"),
    }


def blocks_of(config: RunConfig) -> Iterator[RawBlock]:
    """All blocks of a run's files."""
    partitions = find_files(config.event_files, config.tree, mixed=config.stage is not None)
    source = FileSource(partitions, config.event_files, config.csv)
    for partition in range(source.partitions):
        ended = False
        while not ended:
            block = source.poll(partition)
            ended = block.ended
            yield block
    source.close()


def forms(folder: Path) -> dict[str, float]:
    """How many events of each form are decoded a second."""
    runs = write_forms(folder)
    blocks = {form: list(blocks_of(config)) for form, config in runs.items()}
    rates: dict[str, list[float]] = defaultdict(list)
    counts = set()
    for number in range(ROUNDS + 1):
        decoders = {form: wiring.decoder(config, Names(())) for form, config in runs.items()}
        events, clock = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0.0)
        for beside in zip_longest(*blocks.values()):  # block by block, so that a busy machine slows all of them
            for form, block in list(zip(runs, beside, strict=True))[:: 1 - 2 * (number % 2)]:
                if block is not None:
                    start = time.perf_counter()
                    events[form] += len(decoders[form].decode(block).events)
                    clock[form] += time.perf_counter() - start
        for form in runs:
            rates[form].append(events[form] / clock[form])
        counts |= set(events.values())
    assert len(counts) == 1, f"the forms hold different numbers of events: {counts}"
    medians = {form: statistics.median(of[1:]) for form, of in rates.items()}
    to_flat = (nested / flat for nested, flat in zip(rates["nested"][1:], rates["flat"][1:], strict=True))
    return {f"decode_{form}_per_s": rate for form, rate in medians.items()} | {
        "ratio_of_nested_to_flat": statistics.median(to_flat)
    }


def write_lookups(folder: Path) -> dict[str, RunConfig]:
    """Events with all features inside, the same without those of users and items, and tables of these."""
    whole, bare = folder / "inside", folder / "lookups"
    for place in (whole, bare):
        place.mkdir()
        for stage in STAGES[1:]:
            (place / f"{stage}.jsonl").write_bytes((folder / "flat" / f"{stage}.jsonl").read_bytes())
    messages = [orjson.loads(line) for line in (folder / "flat" / "impression.jsonl").read_bytes().splitlines()]
    tables: dict[str, dict[Any, dict[str, Any]]] = {key: {} for key in TAKEN}
    with (whole / "impression.jsonl").open("wb") as inside, (bare / "impression.jsonl").open("wb") as without:
        for message in messages:
            for key, taken in TAKEN.items():  # a key's first values are those of all its events
                message |= tables[key].setdefault(message[key], {name: message[name] for name in taken})
            inside.write(orjson.dumps(message) + b"\n")
            added = {name for taken in TAKEN.values() for name in taken}
            without.write(orjson.dumps({k: value for k, value in message.items() if k not in added}) + b"\n")
    lookup = {}
    for key, rows in tables.items():
        listed = [{key: str(value), **row} for value, row in rows.items()]
        listed += [{**listed[row % len(rows)], key: f"none{row}"} for row in range(TABLE_ROWS - len(rows))]
        pq.write_table(pa.Table.from_pylist(listed), folder / f"{key}.parquet")
        lookup[key] = {"file": str(folder / f"{key}.parquet"), "key": key, "take": list(TAKEN[key])}
    looked = {**RUN, "features": {**RUN["features"], "lookup": lookup}}
    return {"inside": parsed(RUN, whole / "*.jsonl"), "lookups": parsed(looked, bare / "*.jsonl")}


class Side:
    """One of the two pipelines, with its parts wrapped."""

    def __init__(self, config: RunConfig, run: Path) -> None:
        self.pipeline = built(config, run, beside=False)
        self.watch = Stopwatch()
        parts, watch = self.pipeline.parts, self.watch
        roots: Any = parts.encoder._roots
        roots._lookups = [Timed(lookup, {"apply": "lookups"}, watch) for lookup in roots._lookups]
        self.pipeline.parts = replace(
            parts,
            decoder=Timed(parts.decoder, "decode", watch),
            orderer=Timed(parts.orderer, "order", watch),
            joiner=Timed(parts.joiner, "join", watch),
            encoder=Timed(parts.encoder, "history+encode", watch),
        )

    def window(self) -> dict[str, float]:
        """Microseconds a root of the front half, of the lookups and of all."""
        self.watch.clear()
        before, start = self._roots(), time.perf_counter()
        while self._roots() < before + ROOTS and self.pipeline.advance():
            pass
        elapsed, roots = time.perf_counter() - start, self._roots() - before
        own = self.watch.spent["lookups"].wall_s
        front = own + sum(self.watch.spent[stage].wall_s for stage in FRONT)
        return {name: 1e6 * s / roots for name, s in (("front", front), ("all", elapsed), ("own", own))}

    def _roots(self) -> int:
        roots = self.pipeline.roots()
        return roots["final"] + roots["open"]


def lookups(folder: Path) -> dict[str, float]:
    """What two lookup tables cost."""
    start = time.perf_counter()
    sides = {name: Side(config, folder / f"run-{name}") for name, config in write_lookups(folder).items()}
    print(f"lookups made and read in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    windows = []
    for number in range(WINDOWS + 1):
        turn = list(sides)[:: 1 - 2 * (number % 2)]
        windows.append({name: sides[name].window() for name in turn})
    for side in sides.values():
        side.pipeline.close()
    inside, looked = ([window[name] for window in windows[1:]] for name in ("inside", "lookups"))
    pairs = list(zip(inside, looked, strict=True))
    return {
        "front_inside_us": statistics.median(i["front"] for i in inside),
        "front_lookups_us": statistics.median(b["front"] for b in looked),
        "lookups_us": statistics.median(b["own"] for b in looked),
        "ratio_of_front_with_lookups": statistics.median(b["front"] / i["front"] for i, b in pairs),
        "ratio_of_pipeline_with_lookups": statistics.median(b["all"] / i["all"] for i, b in pairs),
        "lookups_of_front": statistics.median(b["own"] / b["front"] for b in looked),
        "lookups_of_pipeline": statistics.median(b["own"] / b["all"] for b in looked),
    }


def costs() -> tuple[dict[str, float], dict[str, float]]:
    """The figures, printed as lines too, and what is wanted of some: at least that ratio, at most that share."""
    with tempfile.TemporaryDirectory() as name:
        found = forms(Path(name)) | lookups(Path(name))
    for form in ("flat", "nested", "csv", "parquet"):
        print(f"decode {form:<9}{found[f'decode_{form}_per_s']:12,.0f} events a second")
    print(f"nested, all stages mixed: {found['ratio_of_nested_to_flat']:.2f} of the flat log's rate")
    print(f"front half {found['front_inside_us']:6.1f} us a root with all columns in the events,")
    print(
        f"           {found['front_lookups_us']:6.1f} with two lookups, {found['lookups_us']:.1f} of which they take:"
    )
    print(f"           {found['lookups_of_front']:.1%} of the front half, {found['lookups_of_pipeline']:.1%} of all")
    return {key: round(value, 3) for key, value in found.items()}, WANTED


if __name__ == "__main__":
    print(orjson.dumps(costs()[0]).decode())
