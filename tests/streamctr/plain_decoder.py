"""The rule of a good message once more, over the standard library's parser, one line at a time."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from streamctr.hashing import MISSING_ID, hash_text, mix

SPACE = b" \t\r\n"
NAN = float("nan")
BLANK, SKIPPED = "blank", "skipped"
FLAGS = {"0": False, "1": True, "false": False, "true": True}


class MalformedError(Exception):
    pass


def demand(good):
    if not good:
        raise MalformedError


def number_by_rule(digits):
    return int(digits) if -(2**63) <= int(digits) < 2**63 else double_by_rule(digits)


def double_by_rule(digits):
    if math.isinf(float(digits)):
        raise ValueError(digits)
    return float(digits)


def refuse(token):
    raise ValueError(token)


def members_by_rule(pairs):
    json.dumps(pairs, ensure_ascii=False).encode()  # fails for a lone surrogate
    return dict(pairs)


def parse_by_rule(line):
    hooks = {"parse_constant": refuse, "parse_int": number_by_rule, "parse_float": double_by_rule}
    try:
        parsed = json.loads(line.decode(), object_pairs_hook=members_by_rule, **hooks)
    except (ValueError, RecursionError):
        raise MalformedError from None
    demand(isinstance(parsed, dict))
    return parsed


def text_by_rule(value, integer=False):
    """The canonical text of an id, None for missing."""
    if value is None or (type(value) is int):
        return None if value is None else str(value)
    if integer:
        demand(isinstance(value, str) and re.fullmatch("-?[0-9]+", value) and -(2**63) <= int(value) < 2**63)
        return str(int(value))
    demand(isinstance(value, str | bool))
    return value if isinstance(value, str) else str(value).lower()


def hash_by_rule(text, integer=False):
    if text is None:
        return MISSING_ID
    return (int(mix(np.array([int(text)]).view(np.uint64))[0]) or 1) if integer else hash_text(text)


def decimal_by_rule(text):
    demand(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII))
    demand(not math.isinf(float(text)))
    return float(text) + 0.0


def value_by_rule(value):
    """A number, NaN for missing."""
    if isinstance(value, str):
        return decimal_by_rule(value)
    demand(isinstance(value, bool | int | float | None))
    return NAN if value is None else float(value) + 0.0


def instant_by_rule(text, zone):
    try:
        moment = datetime.fromisoformat(text) if len(text) >= len("2022-04-26T00:00") else None
    except ValueError:
        return None
    if moment is None:
        return None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)  # what is finer is cut off


def time_by_rule(value, config):
    """Milliseconds, None for missing."""
    if value is None:
        return None
    ms = instant_by_rule(value, config.zone) if isinstance(value, str) else None
    if ms is None:
        if isinstance(value, str):
            demand(config.unit != "ms" or re.fullmatch("[+-]?[0-9]+", value))
            value = decimal_by_rule(value)
        else:
            demand(type(value) is int or (type(value) is float and config.unit != "ms"))
        demand(abs(value) < 1e16)
        ms = {"ms": int, "s": lambda s: round(float(s) * 1000), "us": lambda us: math.floor(us) // 1000}[config.unit](
            value
        )
    demand(946_684_800_000 <= ms < 4_102_444_800_000)
    return ms


def flag_by_rule(value):
    if value is None:
        return False
    demand(type(value) in (str, int, bool))
    demand((value if isinstance(value, str) else str(value).lower()) in FLAGS)
    return FLAGS[str(value).lower()]


def bag_by_rule(value, config, integer):
    if isinstance(value, str):
        items = [item.strip() for item in (value.split(config.split) if config.split else [value])]
        value = [item for item in items if item]
    items = value if isinstance(value, list) else [value]
    texts = [text_by_rule(item, integer) for item in items if item is not None]
    hashes = [hash_by_rule(text, integer) for text in texts][: config.most]
    return hashes + [MISSING_ID] * (config.most - len(hashes))


def vector_by_rule(value, size):
    if value is None:
        return [NAN] * size
    if isinstance(value, str):
        value = re.split(r"[ \t\n\f\r]*,[ \t\n\f\r]*|[ \t\n\f\r]+", value.strip("[] "))
    demand(isinstance(value, list) and len(value) == size and not {bool, type(None)} & set(map(type, value)))
    demand(not {float, str} <= set(map(type, value)))  # a list is of one type
    return [value_by_rule(item) for item in value]


class PlainDecoder:
    """What each line of a block means, by the same config."""

    def __init__(self, config, funnel, features):
        self.config, self.funnel, self.features = config, funnel, features

    def line(self, line, stage):
        """BLANK, SKIPPED, a stage's place at which it is rejected, or an event, derived ones and early ones' places."""
        if not line.strip(SPACE):
            return BLANK
        place = len(self.funnel.stages) if stage < 0 else stage
        try:
            message = parse_by_rule(line)
            place = self.stage(message) if stage < 0 else stage
            return SKIPPED if place == SKIPPED else self.message(message, place)
        except MalformedError:
            return place if isinstance(place, int) else len(self.funnel.stages)

    def stage(self, message):
        text = text_by_rule(self.find(message, self.config.stage))
        if text in self.config.ignore:
            return SKIPPED
        meant = {called: p for p in self.funnel.tellers for called in self.funnel.stages[p].config.called}
        meant |= {self.funnel.names[p]: p for p in self.funnel.tellers}
        return meant.get(text)

    @staticmethod
    def find(message, path):
        for name in path.split("."):
            if message is None:
                return None
            demand(isinstance(message, dict))
            message = message.get(name)
        return message

    def integer(self, name):
        return self.config.types.get(name) == "integer"

    def text(self, message, name):
        return text_by_rule(self.find(message, name), self.integer(name))

    def identity(self, message, names):
        texts = [self.text(message, name) for name in names]
        if len(texts) == 1:
            return hash_by_rule(texts[0], self.integer(names[0]))
        return MISSING_ID if None in texts or not texts else hash_text(":".join(texts))

    def number(self, message, name):
        return NAN if name is None else value_by_rule(self.find(message, name))

    def message(self, message, place):
        demand(place is not None)
        stage, config = self.funnel.stages[place].config, self.config
        keys = stage.key or config.key
        demand(all(type(self.find(message, name)) is not bool and self.text(message, name) for name in keys))
        root = self.identity(message, keys)
        time_ms = time_by_rule(self.find(message, stage.time or config.time.field), config.time)
        demand(time_ms is not None)
        value = self.number(message, stage.value)
        told = [(p, s) for p, s in enumerate(self.funnel.stages) if s.told_by == place and p != place]
        derived = [self.derived(message, p, s.config, time_ms, root) for p, s in told]
        features = self.described(message) if place == 0 else self.nothing()
        happened = [event for event in derived if event is not None]
        late = [event for event in happened if event[0] >= time_ms]
        early = [event[1] for event in happened if event[0] < time_ms]
        return (time_ms, place, root, *features[:3], value, features[3]), late, early

    def nothing(self):
        return (
            MISSING_ID,
            [MISSING_ID] * self.features.event_id_columns,
            [NAN] * self.features.event_number_columns,
            1.0,
        )

    def described(self, message):
        features = self.features
        ids = [self.identity(message, (name,)) for name in features.event_ids]
        for name, bag in features.event_bags.items():
            ids += bag_by_rule(self.find(message, name), bag, self.integer(name))
        numbers = [self.number(message, name) for name in features.event_numbers]
        for name, size in features.event_vectors.items():
            numbers += vector_by_rule(self.find(message, name), size)
        weight = self.number(message, self.config.weight)
        demand(not weight < 0 and not weight > 3.4028234663852886e38)  # the largest that 32 bits hold
        return self.identity(message, self.config.user), ids, numbers, 1.0 if math.isnan(weight) else weight

    def derived(self, message, place, stage, time_ms, root):
        happened = [self.holds(message, name, wanted) for name, wanted in stage.when.items()]
        if stage.at is not None:
            at = self.find(message, stage.at)
            time_ms = time_by_rule(None if at == "" else at, self.config.time)
        value = self.number(message, stage.value)
        if not all(happened) or time_ms is None:
            return None
        features = self.nothing()
        return time_ms + stage.delay, place, root, *features[:3], value, features[3]

    def holds(self, message, name, wanted):
        value = self.find(message, name)
        if not wanted:
            return flag_by_rule(value)
        held = []
        for text in wanted:
            try:
                if text[0] not in "<>":
                    held.append(self.text(message, name) == text)
                else:
                    sign, bound = re.fullmatch("([<>]=?) *(.*)", text).groups()
                    number, bound = value_by_rule(value), float(bound)
                    held.append(
                        {">": number > bound, ">=": number >= bound, "<": number < bound, "<=": number <= bound}[sign]
                    )
            except MalformedError:
                continue
        demand(held)
        return any(held)
