"""The roots of a sample as they are encoded: a few shown whole, and how full the tables get. Legend: N roots."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from rich.table import Table
from rich.text import Text

from jobs.lookups import read_lookups
from jobs.runfile import RunConfig
from jobs.sample import Beginning, Decoded, messages_of, text_of
from streamctr.events import EventBatch
from streamctr.features import Encoder
from streamctr.features.columns import Layout, RootFields
from streamctr.hashing import MISSING_ID
from streamctr.names import Names
from streamctr.schema import instant_text

_ROOTS: Final = 2
_LINES: Final = 11
_WIDTH: Final = 40
"""Characters of a value that are shown."""
_WORST: Final = 3


@dataclass(frozen=True, slots=True)
class Roots:
    """The root events of a sample, as columns and as what they are encoded to."""

    events: EventBatch
    encoded: RootFields
    names: Names
    found: dict[str, int]
    """By lookup: for how many roots it finds something."""


def texts_of(config: RunConfig) -> Names:
    """To decode with: it remembers what every id of the sample stands for."""
    return Names((*dict.fromkeys((*config.features.event_ids, *config.features.ids)),), limit=1 << 20)


def encode(config: RunConfig, events: EventBatch, names: Names) -> Roots:
    """Encode root events as the run does.

    Raises:
        ConfigError: the parts do not fit one another, or a lookup file is not the declared one.
        DataError: a lookup file cannot be read.
    """
    features = config.features
    named = config.metrics.model_copy(update={"slices": features.ids})
    lookups = read_lookups(config.model_copy(update={"metrics": named}))
    encoder = Encoder(features, config.tree, ZoneInfo(config.time.zone), config.users, names, lookups)
    for lookup in lookups.values():
        for field, texts in lookup.texts.items():
            names.offer(field, texts)
    sample = encoder.encode_roots(events)
    encoded = Layout.of_samples(features).split(sample.ids_NF, sample.numbers_NM)
    before = Layout.of_events(features).split(events.ids_NF, events.numbers_NM)
    for field, column in (*before.ids.items(), *encoded.ids.items()):
        names.claim(field, column)
    ids = {**before.ids, **encoded.ids}
    fields = RootFields(ids, encoded.bags, encoded.numbers, encoded.vectors)
    found = {
        name: _found(lookup.apply(ids[lookup.key], events.time_ms), len(events))
        for name, lookup in lookups.items()
        if lookup.key in ids
    }
    return Roots(events, fields, names, found)


def _found(fields: RootFields, n: int) -> int:
    """Of how many roots any field is not missing."""
    found = np.zeros(n, np.bool_)
    for ids in (*fields.ids.values(), *fields.bags.values()):
        found |= (ids.reshape(n, -1) != MISSING_ID).any(axis=1)
    for numbers in (*fields.numbers.values(), *fields.vectors.values()):
        found |= ~np.isnan(numbers.reshape(n, -1)).all(axis=1)
    return int(found.sum())


def shown(config: RunConfig, roots: Roots, beginnings: Sequence[Beginning], decoded: Decoded) -> list[dict[str, Any]]:
    """The first roots, field by field: as they stand in the message, and what becomes of it."""
    messages = list(_messages(config, beginnings, decoded))[: min(_ROOTS, len(roots.events))]
    return [_plain(config, roots, row, message) for row, message in enumerate(messages)]


def table_of(plain: Sequence[dict[str, Any]]) -> Table:
    """What `shown` gave, as a small table."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    fields = list(plain[0])
    for field in fields[:_LINES]:
        table.add_row(Text(field), *(Text(_cut(root[field])) for root in plain))
    if len(fields) > _LINES:
        table.add_row(f"and {len(fields) - _LINES} more")
    return table


def fullness(config: RunConfig, roots: Roots) -> dict[str, dict[str, Any]]:
    """Of each table: its rows, the distinct ids of the sample, and which share of those shares a row with another."""
    columns: dict[str, list[Any]] = {}
    for name in config.features.tables:
        column = roots.encoded.bags[name] if name in config.features.bag else roots.encoded.ids[name]
        columns.setdefault(config.tables.shared.get(name, name), []).append(column.ravel())
    found = {}
    for table, parts in columns.items():
        ids = np.unique(np.concatenate(parts))
        distinct, rows = int((ids != MISSING_ID).sum()), config.tables.sizes.get(table, config.tables.rows)
        # An id is alone in its row with probability (1 - 1 / rows)^(distinct - 1).
        share = -math.expm1(max(distinct - 1, 0) * math.log1p(-1 / rows)) if rows > 1 else float(distinct > 1)
        found[table] = {"rows": rows, "distinct": distinct, "sharing": share}
    return found


def fullness_text(tables: dict[str, dict[str, Any]]) -> str:
    """The tables that are fullest, in a line."""
    worst = sorted(tables.items(), key=lambda item: (-item[1]["sharing"], item[0]))[:_WORST]
    told = (f"{name} {t['distinct']:,} on {_power(t['rows'])} rows ({t['sharing']:.2%})" for name, t in worst)
    return f"distinct ids, and how many share a row in the sample alone: {' · '.join(told)}"


def _messages(config: RunConfig, beginnings: Sequence[Beginning], decoded: Decoded) -> Iterator[dict[str, Any]]:
    """Of each root event its message's fields, in order."""
    features, stage = config.features, config.tree.stages[0].config
    fields = [*(stage.key or config.key), *config.user, *features.event_ids, *features.event_bags]
    fields += [*features.event_numbers, *features.event_vectors]
    refused = {(letter["path"], letter["line"]) for letter in decoded.letters}
    for path, line, message in messages_of(beginnings, 0, fields, config):
        if (path, line) not in refused:
            yield message


def _plain(config: RunConfig, roots: Roots, row: int, message: dict[str, Any]) -> dict[str, Any]:
    features, encoded = config.features, roots.encoded
    keys = config.tree.stages[0].config.key or config.key
    plain = {"key": ":".join(text_of(message[name]) for name in keys)}
    plain["time"] = instant_text(int(roots.events.time_ms[row]))
    if config.user:
        plain["user"] = ":".join(text_of(message[name]) for name in config.user)
    for name in features.number:
        number = f"{encoded.numbers[name][row]:.4g}".replace("nan", "missing")
        plain[name] = f"{text_of(message[name])} -> {number}" if name in message else number
    for name in features.bag:
        used = int((encoded.bags[name][row] != MISSING_ID).sum())
        plain[name] = f"{text_of(message[name])} -> {used} ids" if name in message else f"{used} ids of a lookup"
    for name, size in features.vector.items():
        plain[name] = "missing" if np.isnan(encoded.vectors[name][row]).any() else f"{size} numbers"
    for name in (*features.bucket, *features.id, *features.time):
        text = text_of(roots.names.text(name, int(encoded.ids[name][row])))
        plain[name] = f"{plain[name]}; id {text}" if name in features.number else text
    for members in features.cross:
        plain["*".join(members)] = " x ".join(_member(roots, name, row, message) for name in members)
    return plain


def _member(roots: Roots, name: str, row: int, message: dict[str, Any]) -> str:
    if name in roots.encoded.ids:
        return text_of(roots.names.text(name, int(roots.encoded.ids[name][row])))
    return text_of(message.get(name))


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _power(rows: int) -> str:
    return f"2^{rows.bit_length() - 1}" if rows & (rows - 1) == 0 else f"{rows:,}"
