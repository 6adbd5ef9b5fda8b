"""The rule of a good message once more, over the standard library's parser, one line at a time."""

import json
from datetime import datetime
from zoneinfo import ZoneInfo

from streamctr.hashing import MISSING_ID, hash_text

SPACE = b" \t\r\n"


def number_by_rule(digits: str) -> int | float:
    return int(digits) if -(2**63) <= int(digits) < 2**64 else double_by_rule(digits)


def double_by_rule(digits: str) -> float:
    if abs(float(digits)) == float("inf"):
        raise ValueError(digits)
    return float(digits)


def refuse(token: str) -> None:
    raise ValueError(token)


def members_by_rule(pairs: list[tuple[str, object]]) -> dict[str, object]:
    json.dumps(pairs, ensure_ascii=False).encode()  # fails for a lone surrogate
    return dict(pairs)


def parse_by_rule(line: bytes) -> dict[str, object] | None:
    hooks = {"parse_constant": refuse, "parse_int": number_by_rule, "parse_float": double_by_rule}
    try:
        parsed = json.loads(line.decode(), object_pairs_hook=members_by_rule, **hooks)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def text_by_rule(value: object, kinds: tuple[type, ...]) -> str | None:
    if type(value) not in kinds or (type(value) is int and not -(2**63) <= value < 2**63):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def time_by_rule(value: object, seconds: bool) -> int | None:
    if isinstance(value, str):
        if len(value) < len("2022-04-26T00:00"):
            return None
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        value = moment.replace(tzinfo=moment.tzinfo or ZoneInfo("UTC")).timestamp() * (1 if seconds else 1000)
    elif type(value) is float and not seconds:
        return None
    if type(value) not in (int, float) or abs(value) > 1e15:
        return None
    ms = round(value * 1000) if seconds else round(value)
    return ms if 946_684_800_000 <= ms < 4_102_444_800_000 else None


def event_by_rule(line: bytes, seconds: bool) -> tuple[object, ...] | None:
    parsed = parse_by_rule(line)
    if parsed is None:
        return None
    key = text_by_rule(parsed.get("id"), (str, int))
    time_ms = time_by_rule(parsed.get("t"), seconds)
    price = parsed.get("price")
    texts = {name: text_by_rule(parsed.get(name), (str, int, bool)) for name in ("ad", "user")}
    if not key or time_ms is None or type(price) not in (int, float, type(None)):
        return None
    if any(texts[name] is None and parsed.get(name) is not None for name in texts):
        return None
    ids = [MISSING_ID if text is None else hash_text(text) for text in texts.values()]
    return time_ms, 0, hash_text(key), ids[1], ids, [float("nan") if price is None else float(price) + 0.0]
