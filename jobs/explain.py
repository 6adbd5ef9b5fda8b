"""`streamctr explain`: what became of one root and its events, told by running the front half again over the source."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from connectors.files import FileSource, find_files
from connectors.scores import read_score
from jobs.console import Call, Result
from jobs.encoded import encode, texts_of
from jobs.extents import kept_extent
from jobs.progress import Gauge, Progress
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from jobs.scoring import Scorer, probabilities
from jobs.summary import figures_table
from jobs.wiring import decoder, encoder, joiner, no_events
from streamctr.decode import Decoded
from streamctr.errors import ConfigError, DataError
from streamctr.events import EventBatch, Outcome
from streamctr.hashing import MISSING_ID, hash_text, mix_one
from streamctr.heads import heads
from streamctr.names import Names
from streamctr.order import LAST_MS, Orderer
from streamctr.ports import RawBlock
from streamctr.samples import NEVER_MS, SAYS, SampleBatch
from streamctr.schema import instant_text
from streamctr.snapshot import SnapshotStore


@dataclass(slots=True)
class _Told:
    """One event of the root: where it stands, and what became of it."""

    stage: int
    time_ms: int
    path: str
    line: int
    outcome: Outcome = Outcome.WAITING


@dataclass(slots=True)
class _Story:
    """What is found on the way."""

    events: list[_Told] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    """Malformed messages that hold the id as it was asked for."""
    rows: list[SampleBatch] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)
    encoded: SampleBatch | None = None


def explain(call: Call, run: Path, event_id: str) -> Result:
    """Tell what became of a root and its events: outcomes, features, rows of the emission log, score.

    Raises:
        ConfigError: there are no event files.
        DataError: no event and no malformed message of them has this id.
    """
    config = load_run(run, call.sets).config
    if config.files is None:
        raise ConfigError(
            f"explain reads event files, and {run} names none; add files: PATHS that hold the same events"
        )
    story = _Reading(config, event_id).story()
    if not story.events and not story.letters:
        raise DataError(
            f"no event of {run} has the id {event_id}; it is the value of {', '.join(config.key)}"
            + (", joined by :" if len(config.key) > 1 else "")
            + ("; topics are not looked at, only files" if config.kafka is not None else "")
        )
    directory = RunDirectory.of(run)
    scores = {"served": _served(config, directory, story), "score": _score(config, directory, story)}
    result = _result(config, story, event_id) | scores
    call.show(*_shown(result))
    return result, 0


class _Reading:
    """The front half of a run over its whole source, with an eye on one root.

    A second joiner is given this root's events alone, one at a time: what changes in its counts is what became of each.
    """

    def __init__(self, config: RunConfig, event_id: str) -> None:
        self._config, self._id = config, event_id
        self._root = _root_of(config, event_id)
        self._partitions = find_files(config.event_files, config.tree, config.stage is not None)
        self._source = FileSource(self._partitions, config.event_files, config.csv)
        self._names = Names(())
        self._decoder = decoder(config, self._names)
        self._orderer = Orderer(self._source.partitions, config.lateness, no_events(config.features))
        self._joiner, self._alone = joiner(config), joiner(config)
        self._encoder = encoder(config, self._names)
        self._story = _Story()

    def story(self) -> _Story:
        """Read everything."""
        gauge = Gauge(self._partitions, self._config.event_files)
        with Progress("explain", gauge.total) as progress:
            while not self._orderer.all_ended:
                partition = self._orderer.behind()
                block = self._source.poll(partition)
                decoded = self._decoder.decode(block)
                late = self._orderer.push(partition, decoded.events, decoded.derived, decoded.line_of)
                self._look(block, decoded, late)
                if block.ended:
                    self._orderer.end(partition)
                self._release()
                progress.reach(gauge.read(self._source.positions()), "")
        self._source.close()
        return self._story

    def _look(self, block: RawBlock, decoded: Decoded, late: Any) -> None:
        """Note the root's events in a block, and malformed messages that speak of it."""
        mine = np.flatnonzero(decoded.events.root == self._root)
        derived = np.flatnonzero(decoded.derived.root == self._root)
        places = [*mine.tolist(), *decoded.line_of[derived].tolist()]
        events = EventBatch.concat([decoded.events.take(mine), decoded.derived.take(derived)])
        for event, place in enumerate(places):
            told = _Told(int(events.stage[event]), int(events.time_ms[event]), block.path, int(decoded.lines[place]))
            told.outcome = Outcome.LATE if late[place] else Outcome.WAITING
            self._story.events.append(told)
        roots = mine[(decoded.events.stage[mine] == 0) & ~late[mine]]
        if len(roots) and not self._story.features:
            self._describe(block, decoded.events.take(roots[:1]))
        self._story.letters += [letter for letter in decoded.letters if self._speaks(letter)]

    def _speaks(self, letter: dict[str, Any]) -> bool:
        return all(part.encode() in base64.b64decode(letter["bytes"]) for part in self._id.split(":"))

    def _describe(self, block: RawBlock, root: EventBatch) -> None:
        """The root's features as texts: its block is read once more by a decoder that keeps them all."""
        features, names = self._config.features, texts_of(self._config)
        decoder(self._config, names).decode(block)
        encoded = encode(self._config, root, names).encoded

        def text(name: str) -> str:
            members = features.crosses.get(name, ())
            if members and all(member in encoded.ids for member in members):
                return " x ".join(map(text, members))
            return names.text(name, int(encoded.ids[name][0]))

        found: dict[str, Any] = {name: text(name) for name in features.ids}
        for name in features.bag:
            found[name] = f"{np.count_nonzero(encoded.bags[name] != MISSING_ID)} ids"
        for name in features.numbers:
            number = float(encoded.numbers[name][0])
            found[name] = number if np.isfinite(number) else None
        for name, size in features.vector.items():
            found[name] = None if np.isnan(encoded.vectors[name]).any() else f"{size} numbers"
        self._story.features = found

    def _release(self) -> None:
        watermark_ms = self._orderer.watermark_ms()
        events = self._orderer.release(watermark_ms)
        fire_ms = self._orderer.newest_released_ms if watermark_ms == LAST_MS else watermark_ms
        mine = events.take(events.root == self._root)
        for place in range(len(mine)):
            self._follow(mine.take(slice(place, place + 1)), int(mine.time_ms[place]))
        self._follow(mine.take(slice(0, 0)), fire_ms)
        for joined in self._joiner.push(events, fire_ms):
            samples = self._encoder.encode(joined)
            rows = samples.take(samples.root == self._root)
            self._story.rows.append(rows)
            for arrived in np.flatnonzero(rows.arrived)[:1]:
                for (name, wanted), history in zip(self._config.features.history.items(), rows.histories, strict=True):
                    self._story.features[name] = f"{history.length[arrived]} of the last {wanted.last}"

    def _follow(self, event: EventBatch, advance_ms: int) -> None:
        before = self._alone.counts.copy()
        for _ in self._alone.push(event, advance_ms):
            pass
        changed = self._alone.counts - before
        changed[:, Outcome.WAITING] = 0
        for stage, outcome in zip(*np.nonzero(changed > 0), strict=True):
            for told in self._waiting(int(stage), event)[: int(changed[stage, outcome])]:
                told.outcome = Outcome(int(outcome))

    def _waiting(self, stage: int, event: EventBatch) -> list[_Told]:
        """Events of a stage of which nothing is known yet, the one at hand first."""
        open_now = [told for told in self._story.events if told.stage == stage and told.outcome == Outcome.WAITING]
        now_ms = int(event.time_ms[0]) if len(event) and event.stage[0] == stage else None
        return sorted(open_now, key=lambda told: (told.time_ms != now_ms, told.time_ms))


def _root_of(config: RunConfig, event_id: str) -> np.uint64:
    if len(config.key) == 1 and config.types.get(config.key[0]) == "integer":
        whole = re.fullmatch(r"[+-]?[0-9]{1,19}", event_id)
        if not whole or not -(1 << 63) <= int(event_id) < 1 << 63:
            raise DataError(f'"{event_id}" is no whole number of 64 bits, and types says that {config.key[0]} is one')
        return np.uint64(int(mix_one(np.int64(event_id).view(np.uint64))) or 1)
    return np.uint64(hash_text(event_id))


def _served(config: RunConfig, directory: RunDirectory, story: _Story) -> dict[str, float] | None:
    """What the root was scored with when it came, where the run keeps its samples."""
    ordinals = [int(rows.ordinal[rows.arrived][0]) for rows in story.rows if rows.arrived.any()]
    extent = kept_extent("scores", directory.snapshots)
    logits = read_score(directory.samples, ordinals[0], extent) if ordinals else None
    return None if logits is None else _by_head(config, probabilities(logits[None], config.tree))


def _by_head(config: RunConfig, probabilities_1H: NDArray[np.float64]) -> dict[str, float]:
    names = [head.name for head in heads(config.tree)]
    return {name: float(p) for name, p in zip(names, probabilities_1H[0], strict=True)}


def _score(config: RunConfig, directory: RunDirectory, story: _Story) -> dict[str, Any] | None:
    """What the newest snapshot's weights give the root as it was encoded; not what it was served with."""
    arrived = [rows.take(rows.arrived) for rows in story.rows if rows.arrived.any()]
    snapshot = SnapshotStore(directory.snapshots, config.snapshots.keep).newest()[0] if arrived else None
    if snapshot is None:
        return None
    found = Scorer(config, snapshot.arrays).probabilities(arrived[0].take(slice(0, 1)))
    return {"snapshot": snapshot.name, **_by_head(config, found)}


def _result(config: RunConfig, story: _Story, event_id: str) -> dict[str, Any]:
    stages = config.tree.names
    events = [
        {
            "stage": stages[told.stage],
            "time": instant_text(told.time_ms),
            "outcome": told.outcome.name.lower(),
            "at": f"{told.path}:{told.line}",
        }
        for told in sorted(story.events, key=lambda told: (told.time_ms, told.stage))
    ]
    rows = [row for batch in story.rows for row in _rows(batch, stages)]
    malformed = [{"reason": letter["reason"], "at": f"{letter['path']}:{letter['line']}"} for letter in story.letters]
    return {"id": event_id, "events": events, "malformed": malformed, "features": story.features, "rows": rows}


def _rows(batch: SampleBatch, stages: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for row in range(len(batch)):
        said = {
            stage: {
                "says": [word for bit, word in SAYS.items() if batch.says[row, k] & bit],
                "label": int(batch.label[row, k]),
            }
            for k, stage in enumerate(stages)
            if batch.says[row, k]
        }
        happened = {s: instant_text(int(t)) for s, t in zip(stages, batch.at_ms[row], strict=True) if t != NEVER_MS}
        yield {
            "ordinal": int(batch.ordinal[row]),
            "emitted": instant_text(int(batch.emit_ms[row])),
            "says": said,
            "happened": happened,
        }


def _shown(result: dict[str, Any]) -> Iterator[Any]:
    if result["malformed"]:
        yield Text("".join(f"malformed  {letter['at']}: {letter['reason']}\n" for letter in result["malformed"]))
    if result["events"]:
        events = figures_table("event", ["time", "outcome"])
        events.add_column("at", overflow="fold")
        for event in result["events"]:
            events.add_row(event["stage"], event["time"], event["outcome"], Text(event["at"]))
        yield events
    if not result["rows"]:
        yield Text(f"\nno row: {_why_not(result)}")
        return
    described = figures_table("\nfeature", ["\nvalue"])
    for name, value in result["features"].items():
        described.add_row(
            name, Text("missing" if value is None else f"{value:.6g}" if isinstance(value, float) else value)
        )
    yield described
    rows = figures_table("\nrow", ["\nemitted"])
    rows.add_column("\nsays", overflow="fold")
    for row in result["rows"]:
        said = [f"{stage} {' '.join(of['says'])} {of['label']}" for stage, of in row["says"].items()]
        rows.add_row(f"{row['ordinal']}", row["emitted"], " · ".join(said) or "arrived")
    yield rows
    yield from _shown_scores(result)


def _shown_scores(result: dict[str, Any]) -> Iterator[Any]:
    if result["served"] is not None:
        served = " · ".join(f"{name} {p:.5f}" for name, p in result["served"].items())
        yield Text(f"\nserved     {served}, when it came")
    if result["score"] is not None:
        scores = " · ".join(f"{name} {p:.5f}" for name, p in result["score"].items() if name != "snapshot")
        yield Text(f"\nscore      {scores}, by the weights of snapshot {result['score']['snapshot']}, not of its time")


def _why_not(result: dict[str, Any]) -> str:
    outcomes = {event["outcome"] for event in result["events"]}
    if not result["events"]:
        return "its messages are malformed"
    if "orphan" in outcomes or "waiting" in outcomes:
        return "the root itself never came, or has not come yet"
    return f"its events are {', '.join(sorted(outcomes))}"
