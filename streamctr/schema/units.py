"""The base of every config, and the texts that stand for durations, moments and lists of one."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration_ms(value: Any) -> int:
    """Milliseconds of a duration such as `30s`, `5m`, `1h`, `7d` or `250ms`; an integer already is milliseconds.

    >>> parse_duration_ms("30m")
    1800000
    """
    if isinstance(value, int) and value >= 0:
        return value
    text = str(value).strip()
    match = re.fullmatch(r"(\d+)\s*(ms|s|m|h|d)", text)
    if match is None and text != "0":
        raise ValueError(f'"{text}" is not a duration; write a whole number and ms, s, m, h or d, such as 30m')
    return int(match[1]) * _UNITS_MS[match[2]] if match else 0


def duration_text(duration_ms: int) -> str:
    """The shortest text that `parse_duration_ms` reads as `duration_ms`.

    >>> duration_text(1_800_000)
    '30m'
    """
    unit = next((unit for unit, size in reversed(_UNITS_MS.items()) if duration_ms % size == 0 < duration_ms), "ms")
    return f"{duration_ms // _UNITS_MS[unit]}{unit}"


def parse_instant_ms(value: Any) -> int:
    """Milliseconds since the epoch of an ISO-8601 moment with an offset or Z; an integer already is milliseconds.

    >>> parse_instant_ms("2022-04-26T00:00Z")
    1650931200000
    """
    if isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError(f'"{value}" is not a moment; write ISO-8601 such as 2022-04-26T00:00Z') from None
    if moment.tzinfo is None:
        raise ValueError(f'"{value}" has no offset; add Z for UTC or one such as +08:00')
    return round(moment.timestamp() * 1000)


def instant_text(instant_ms: int) -> str:
    """ISO-8601 in UTC, which `parse_instant_ms` reads as `instant_ms`.

    >>> instant_text(1_650_931_200_000)
    '2022-04-26T00:00:00Z'
    """
    precision = "milliseconds" if instant_ms % 1000 else "seconds"
    moment = datetime.fromtimestamp(instant_ms // 1000, UTC).replace(microsecond=instant_ms % 1000 * 1000)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


DurationMs = Annotated[int, BeforeValidator(parse_duration_ms), PlainSerializer(duration_text, when_used="json")]
InstantMs = Annotated[int, BeforeValidator(parse_instant_ms), PlainSerializer(instant_text, when_used="json")]
"""Milliseconds that a run file writes as text: JSON dumps of a config write them so too, and load again."""


class Config(BaseModel):
    """Base of every config: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A list of texts, for which a single text may stand."""
