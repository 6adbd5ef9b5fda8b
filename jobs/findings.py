"""What `check` tells of a sample: counts, time, keys, and what to be wary of. Legend: K stages."""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from jobs.runfile import RunConfig
from jobs.sample import MESSAGES, Beginning, Decoded, Seen, messages_of, named_roots, parse, text_of
from streamctr.decode import OTHER
from streamctr.decode.values import bag, times
from streamctr.hashing import MISSING_ID
from streamctr.schema import BagConfig, duration_text

_OFFSET: Final = re.compile(r"([Zz]|[+-]\d\d(:?\d\d)?)\s*$")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d*)?\s*$")
_COUNTER: Final = re.compile(r"count|cnt|num|total|sum|rate|ctr|cvr|avg|mean|click|view|like|play|sold|sales|order")
_ZEROS: Final = re.compile(r"^(-?)0+(?=\d+$)")
"""Leading zeros of a whole number."""
_EXAMPLE_BYTES: Final = 120
_REASONS: Final = 2
"""Why messages of a stage were rejected, of which so many are told."""
_STEPS_MS: Final = (60_000, 300_000, 600_000, 1_800_000, 3_600_000, 21_600_000, 43_200_000)
_DAY_MS: Final = 86_400_000
_UNITS: Final = ((2 * _DAY_MS, _DAY_MS, "d"), (7_200_000, 3_600_000, "h"), (120_000, 60_000, "min"), (1000, 1000, "s"))


@dataclass(slots=True)
class Findings:
    """The report on a sample: lines for people, notes, and the same as JSON holds it."""

    config: RunConfig
    beginnings: Sequence[Beginning]
    decoded: Decoded
    seen: Sequence[Seen]
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plain: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: RunConfig, beginnings: Sequence[Beginning], decoded: Decoded, seen: Sequence[Seen]
    ) -> "Findings":
        """Everything that a sample shows without its features."""
        findings = cls(config, beginnings, decoded, seen)
        findings._counts()
        findings._time()
        findings._keys()
        findings._windows()
        findings._features()
        return findings

    def _counts(self) -> None:
        decoded, names = self.decoded, self.config.tree.names
        paths = {block.path for beginning in self.beginnings for block in beginning.blocks if block.path}
        of = paths.pop() if len(paths) == 1 else "each stage"
        self.lines.append(f"Checked on the first {MESSAGES:,} lines of {of if of != '-' else 'standard input'}")
        counts = " · ".join(f"{name} {decoded.accepted[place]:,}" for place, name in enumerate(names))
        counts += f" · rejected {decoded.rejected.sum():,}"
        if decoded.skipped.sum():
            counts += f" · skipped {decoded.skipped.sum():,}"
        self.lines.append(f"  stages     {counts}")
        self.plain["skipped"] = int(decoded.skipped.sum())
        self.plain["stages"] = {name: self._stage(place) for place, name in enumerate(names)}
        for place, stage in enumerate((*names, OTHER)):
            self._reasons(stage)
            accepted, rejected = int(decoded.accepted[place]), int(decoded.rejected[place])
            if accepted and rejected > self.config.rejects.share * (accepted + rejected):
                share = f"{self.config.rejects.share:g}"
                self.notes.append(f"a run stops where a share of more than {share} is rejected, as here of {stage}")
            if stage != OTHER and not accepted + rejected:
                path = next((b.path for part in self.beginnings if part.stage == place for b in part.blocks), "")
                where = f" in {path}" if path else ""
                self.notes.append(f"no {stage} event was found{where}")

    def _reasons(self, stage: str) -> None:
        """The commonest reasons for which messages of a stage were rejected, and how many have others."""
        reasons = list(self.decoded.reasons(stage).items())
        for reason, count in reasons[:_REASONS]:
            example = self._example(stage, reason)
            if stage == OTHER and "none of" in reason:
                reason += "; list it under ignore, or under called in its stage"
            self.lines.append(f"  rejected   {count:,} {_messages(stage, count)}: {reason}; {example}")
        more = sum(count for _, count in reasons[_REASONS:])
        if more:
            self.lines.append(f"  rejected   and {more:,} more {_messages(stage, more)} for other reasons")

    def _example(self, stage: str, reason: str) -> str:
        letter = next(
            letter for letter in self.decoded.letters if (letter["stage"], letter["reason"]) == (stage, reason)
        )
        text = text_of(base64.b64decode(letter["bytes"]).decode(errors="replace"))
        text = text if len(text) <= _EXAMPLE_BYTES else f"{text[:_EXAMPLE_BYTES]}..."
        return f"{letter['path']}:{letter['line']} is {text}"

    def _stage(self, place: int) -> dict[str, Any]:
        decoded, tree = self.decoded, self.config.tree
        events = decoded.of(place)
        named, of = named_roots(events, decoded.of(0))
        return {
            "accepted": int(decoded.accepted[place]),
            "rejected": int(decoded.rejected[place]),
            "reasons": decoded.reasons(tree.names[place]),
            "disorder_ms": int(decoded.behind_ms[decoded.events.stage == place].max(initial=0)),
            "named_roots": named,
            "named_roots_of": of,
        }

    def _time(self) -> None:
        config, behind_ms = self.config, self.decoded.behind_ms
        time = config.tree.stages[0].config.time or config.time.field
        forms = self._forms(time)
        worst_ms, late = int(behind_ms.max(initial=0)), int((behind_ms > config.lateness).sum())
        lateness = duration_text(config.lateness)
        verdict = f"inside lateness {lateness}"
        if late:
            wanted = duration_text(_roundly(worst_ms))
            verdict = f"beyond lateness {lateness}: {late:,} event{'s'[: late > 1]} would be late, with {wanted} none"
        self.lines.append(
            f"  time       {time}: {' and '.join(forms[:2]) or 'nothing'}; worst disorder {_about(worst_ms)}, {verdict}"
        )
        self.plain["time"] = {"field": time, "forms": forms, "disorder_ms": worst_ms, "late": late}
        if any("no offset" in form for form in forms) and config.time.zone == "UTC":
            self.notes.append(
                f"{time} is read as UTC; where it is another zone's, write time: {{field: {time}, zone: ...}}"
            )

    def _forms(self, field: str) -> list[str]:
        """How the root's times are written, of those that can be read."""
        forms: dict[str, None] = {}
        for beginning in (beginning for beginning in self.beginnings if beginning.stage <= 0):
            for block in beginning.blocks[:1]:
                parsed = parse(block, [field], self.config)
                cells, readable = parsed.cells[field], np.ones(len(parsed.places), np.bool_)
                readable[list(times(cells, len(readable), self.config.time).faults)] = False
                for array in (array.filter(pa.array(readable)).drop_null() for array in cells.arrays):
                    forms |= dict.fromkeys(_form(value, array.type, self.config) for value in array)
        return list(forms)

    def _keys(self) -> None:
        """How many child events name a root, as far as the sample can tell."""
        tree, roots = self.config.tree, self.decoded.of(0)
        root = tree.names[0]
        found = [(place, *named_roots(self.decoded.of(place), roots)) for place in tree.tellers if place]
        if found:
            told = ", ".join(f"{named:,} of {of:,} {tree.names[place]}" for place, named, of in found)
            self.lines.append(f"  key        {told} events up to the last {root} of the sample name one in it")
        else:
            self.lines.append(f"  key        all stages are told of by {root} events themselves")
        for place, named, of in found:
            if of and not named:
                stage = tree.names[place]
                keys = f"the first {stage} has {self._key_of(place)}, the first {root} {self._key_of(0)}"
                way_out = self._without_zeros(place, of) or f"funnel.{stage}.key names another field"
                self.notes.append(f"no {stage} event names a known {root}: is the key the root's id? {keys}; {way_out}")
        again = len(roots) - len(np.unique(roots.root))
        if again:
            self.notes.append(f"{again:,} of {len(roots):,} {root} events repeat a key: they count as duplicates")

    def _key_of(self, place: int) -> str:
        """The key of the first message of a stage, as an example."""
        first = next(self._key_texts(place), None)
        return "none" if first is None else f'"{":".join(first)}"'

    def _key_fields(self, place: int) -> tuple[str, ...]:
        return self.config.tree.stages[place].config.key or self.config.key

    def _key_texts(self, place: int) -> Iterator[tuple[str, ...]]:
        fields = self._key_fields(place)
        for _, _, message in messages_of(self.beginnings, place, fields, self.config):
            yield tuple(text_of(message[field]) for field in fields)

    def _without_zeros(self, place: int, of: int) -> str:
        """The way out where leading zeros alone keep most of a stage's keys, `of` those due, from naming a root."""
        roots, own = list(self._key_texts(0)), list(self._key_texts(place))
        known = set(map(_bare, roots))
        named = sum(_bare(key) in known for key in own)
        pairs = enumerate(zip(self._key_fields(0), self._key_fields(place), strict=False))
        padded = [pair for at, pair in pairs if any(_ZEROS.match(key[at]) for key in (*roots, *own))]
        if 2 * named <= of or not padded:
            return ""
        types = ", ".join(f"{field}: integer" for field in dict.fromkeys(field for pair in padded for field in pair))
        return f"without leading zeros {named:,} of {len(own):,} do: write types: {{{types}}}"

    def _windows(self) -> None:
        roots, events = self.decoded.of(0), self.decoded.events
        span_ms = int(events.time_ms.max() - roots.time_ms.min()) if len(roots) else 0
        whole = all(beginning.whole for beginning in self.beginnings)
        for stage in self.config.tree.stages[1:] if len(roots) else ():
            name, window = stage.name, duration_text(stage.window_ms)
            if stage.window_ms > span_ms and whole:
                judged = f"the files span {_about(span_ms)}: no label of {name} becomes final; shorten it, or add files"
            else:
                judged = f"the sample spans {_about(span_ms)}: how much can be judged for {name} shows only at the end"
            if stage.window_ms > span_ms:
                self.notes.append(f"{name} window {window}, {judged}")
        self.plain["span_ms"] = span_ms

    def _features(self) -> None:
        """What tells nothing, too much, or is cut."""
        config = self.config
        absent = [name for name in config.outcomes if name not in self.seen[-1].fields]
        if absent and self.seen[-1].messages:
            self.notes.append(f"outcomes: {', '.join(absent)} stands in no event")
        unversioned = {name: lookup for name, lookup in config.features.lookup.items() if len(lookup.versions) == 1}
        if unversioned:
            told = ", ".join(name + _likely(lookup.take.values()) for name, lookup in unversioned.items())
            what = "a column that is only known later than the event tells the future, and streamctr cannot see that"
            self.notes.append(f"lookup {told}: {what}")
        unused = [f'"{name}" of lookup {by}' for name, by in config.features.taken.items() if not _used(config, name)]
        if unused:
            self.notes.append(f"{', '.join(unused)} is taken and no feature uses it")
        for name, config_of in config.features.event_bags.items():
            longer = self._longer(name, config_of)
            if longer:
                what = f"{longer:,} of {len(self.decoded.of(0)):,} events have more values than the {config_of.most}"
                self.notes.append(f"bag {name}: {what} that count; features.bag.{name}.most says how many do")

    def _longer(self, name: str, config: BagConfig) -> int:
        """Messages with more values of a bag than count."""
        most = config.most + 1
        blocks = [b for beginning in self.beginnings if beginning.stage <= 0 for b in beginning.blocks]
        cells = [(parsed.cells[name], len(parsed.places)) for parsed in (parse(b, [name], self.config) for b in blocks)]
        read = [bag(cell, n, config.model_copy(update={"most": most})).values for cell, n in cells]
        return sum(int((ids_NC[:, -1] != MISSING_ID).sum()) for ids_NC in read)


def _bare(key: tuple[str, ...]) -> tuple[str, ...]:
    """A key whose whole numbers have no leading zeros."""
    return tuple(_ZEROS.sub(r"\1", text) for text in key)


def _messages(stage: str, count: int) -> str:
    return f"{'message' if stage == OTHER else f'{stage} event'}{'s'[: count > 1]}"


def _form(value: Any, kind: Any, config: RunConfig) -> str:
    if pa.types.is_timestamp(kind):
        return "timestamps" if kind.tz else f"timestamps without a zone, read in {config.time.zone}"
    text = str(value.as_py())
    if not pa.types.is_string(kind) or _NUMBER.match(text):
        return f"numbers in {config.time.unit}"
    if _OFFSET.search(text[10:]):
        return "ISO-8601 with offset"
    return f"ISO-8601 with no offset, read in {config.time.zone}"


def _likely(columns: Any) -> str:
    likely = [column for column in columns if _COUNTER.search(column.lower())]
    return f" (perhaps {', '.join(likely[:3])})" if likely else ""


def _used(config: RunConfig, name: str) -> bool:
    features = config.features
    used = {*features.id, *features.bag, *features.number, *features.vector}
    used |= {bucket.of for bucket in features.bucket.values()} | {lookup.key for lookup in features.lookup.values()}
    return name in used or any(name in members for members in features.cross)


def _about(span_ms: int) -> str:
    """A span of time for people: 41 s, 89 min, 6 h, 7 d."""
    for from_ms, unit_ms, unit in _UNITS:
        if span_ms >= from_ms:
            return f"{span_ms // unit_ms:,} {unit}"
    return f"{span_ms} ms"


def _roundly(worst_ms: int) -> int:
    """The next readable duration."""
    return next((step for step in _STEPS_MS if step >= worst_ms), -(-worst_ms // _DAY_MS) * _DAY_MS)
