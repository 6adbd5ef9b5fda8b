"""A seeded world with known click and conversion probabilities, delays and drift. Legend: N roots, F ids, M numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamctr.hashing import GOLDEN, U64, mix
from streamctr.kernel import kernel
from streamctr.schema import Config, DurationMs, InstantMs

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DAY_MS: Final = 86_400_000
CHUNK: Final = 8192
ID_FIELDS: Final = (
    *("user_id", "item_id", "query_id", "page_id", "slot", "channel"),
    *("campaign", "advertiser", "category", "brand", "city", "region", "device", "os", "browser", "carrier"),
)
NUMBER_FIELDS: Final = ("price", "bid", "fans", "seconds", "age_days", "quality", "match", "position")
USER_PARTS: Final = {"city": 500, "region": 50, "device": 200, "os": 10, "browser": 15, "carrier": 12}
"""Ids that a user brings along, and how many values each has."""
CLICK_SIGNS: Final = {
    **{
        "user_id": 0.35,
        "page_id": 0.2,
        "slot": 0.45,
        "channel": 0.2,
        "advertiser": 0.25,
        "category": 0.4,
        "device": 0.2,
    },
    **{"bid": 0.15, "quality": 0.35, "match": 0.25, "position": -0.3},
}
CONVERSION_SIGNS: Final = {
    **{"user_id": 0.3, "channel": 0.2, "advertiser": 0.35, "brand": 0.3, "category": 0.3, "city": 0.15, "os": 0.25},
    **{"price": -0.4, "quality": 0.3, "fans": 0.15},
}
"""Standard deviations, in logits, of what each id and number brings; those of `TURNING` come on top and drift."""
UNITS: Final = {
    **{"price": (True, 3.0, 1.2), "bid": (True, 0.0, 0.6), "fans": (True, 6.0, 2.0), "position": (True, 2.1, 0.8)},
    **{"quality": (False, 0.0, 1.0), "match": (False, 0.5, 0.29)},
}
"""Whether a number matters by its logarithm; mean and spread on that scale."""
TURNING: Final = {"item_id": 0.4, "campaign": 0.7}
INTEREST: Final = 0.5
"""Logits that a root gains when the user's recent clicks were all of a category like its own."""


class WorldConfig(Config):
    """How much world there is and what it is like; everything else of it follows from the seed."""

    seed: int = Field(default=0, ge=0)
    roots: int = Field(default=500_000, ge=1)
    days: float = Field(default=4.0, gt=0, description="how long the roots take, spread over each day by a rhythm")
    start: InstantMs = Field(default="2026-01-05T00:00Z")  # type: ignore[assignment]  # pydantic reads the text
    users: int = Field(default=100_000, ge=10)
    items: int = Field(default=1_000_000, ge=1000)
    click_rate: float = Field(default=0.08, gt=0, lt=1, description="about the mean over all roots")
    conversion_rate: float = Field(default=0.12, gt=0, lt=1, description="about the mean over clicked roots")
    drift: float = Field(default=40.0, ge=0, description="degrees a day by which item and campaign effects turn")
    rhythm: float = Field(default=0.6, ge=0, lt=1, description="how far the rate of roots swings within a day")
    click_delay: DurationMs = Field(default="20s")  # type: ignore[assignment]
    click_window: DurationMs = Field(default="10m")  # type: ignore[assignment]
    conversion_delay: DurationMs = Field(default="40m")  # type: ignore[assignment]
    conversion_window: DurationMs = Field(default="6h")  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Roots:
    """A chunk of roots in time order with their truth; a delay counts from the parent, if it happens."""

    id: U64
    time_ms: I64
    ids_NF: I64
    numbers_NM: F64
    p_click: F64
    p_conversion: F64
    """Given the click."""
    click: NDArray[np.bool_]
    conversion: NDArray[np.bool_]
    click_delay_ms: I64
    conversion_delay_ms: I64

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def click_ms(self) -> I64:
        """When each root is clicked, where it is."""
        return self.time_ms + self.click_delay_ms

    @property
    def conversion_ms(self) -> I64:
        """When each root converts, where it does."""
        return self.click_ms + self.conversion_delay_ms


class World:
    """Draws the roots of a world, the same for the same config.

    >>> roots = next(World(WorldConfig(roots=1000)).chunks())
    >>> len(roots), roots.ids_NF.shape, roots.numbers_NM.shape
    (1000, (1000, 16), (1000, 8))
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        small = max(10, config.items // 1000)
        self._item_parts = {"campaign": 20 * small, "advertiser": 2 * small, "category": small, "brand": 5 * small}
        grid = np.linspace(0.0, 1.0, 1441)
        swing = np.sin(2 * np.pi * (grid - 1 / 6)) + np.sin(np.pi / 3)
        self._clock = (grid - config.rhythm / (2 * np.pi) * swing, grid)

    def chunks(self) -> Iterator[Roots]:
        """All roots, `CHUNK` at a time, sorted by time within and across chunks; begins anew with each call."""
        taste_U2 = np.zeros((self.config.users, 2))
        for chunk in range(-(-self.config.roots // CHUNK)):
            yield self._draw(chunk, taste_U2)

    def _draw(self, chunk: int, taste_U2: F64) -> Roots:
        config = self.config
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((config.seed, chunk))))
        place = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, config.roots))
        size = len(place)
        time_ms = self._times(place + rng.random(size))
        ids = self._ids(rng, size)
        numbers = _numbers(rng, size, ids["item_id"])
        turn = np.deg2rad(config.drift) * (time_ms - config.start) / DAY_MS
        click_logit = _logits(config.click_rate, CLICK_SIGNS, ids, numbers, turn, salt=1)
        angle = 2 * np.pi * _uniform(ids["category"], 99)
        p_click, click = click_logit.copy(), np.empty(size, np.bool_)
        draw_clicks(p_click, ids["user_id"], angle, rng.random(size), taste_U2, click)
        # what pleases sells too: conversions share a part of the click's logit, as real ones do
        p_conversion = _sigmoid(
            _logits(config.conversion_rate, CONVERSION_SIGNS, ids, numbers, turn, salt=2)
            + 0.2 * (click_logit - np.log(config.click_rate / (1 - config.click_rate)))
        )
        return Roots(
            id=mix((place + (config.seed << 40)).astype(np.uint64)),
            time_ms=time_ms,
            ids_NF=np.stack([ids[name] for name in ID_FIELDS], axis=1),
            numbers_NM=np.stack([numbers[name] for name in NUMBER_FIELDS], axis=1),
            p_click=p_click,
            p_conversion=p_conversion,
            click=click,
            conversion=click & (rng.random(size) < p_conversion),
            click_delay_ms=_delays(rng, size, config.click_delay, config.click_window),
            conversion_delay_ms=_delays(rng, size, config.conversion_delay, config.conversion_window),
        )

    def _times(self, place: F64) -> I64:
        """Root number `place` of all stands at that quantile of the days, so that times are sorted as drawn."""
        quantile = place / self.config.roots * self.config.days
        day = np.floor(quantile)
        within = np.interp(quantile - day, *self._clock)
        return np.asarray(self.config.start + np.floor((day + within) * DAY_MS), np.int64)

    def _ids(self, rng: np.random.Generator, size: int) -> dict[str, I64]:
        items = self.config.items
        ids = {
            "user_id": _zipf(rng, size, self.config.users, 0.7),
            "item_id": _zipf(rng, size, items, 1.05),
            "query_id": _zipf(rng, size, items, 0.9),
            "page_id": _zipf(rng, size, max(10, items // 100), 0.9),
            "slot": rng.integers(0, 10, size),
            "channel": _zipf(rng, size, 20, 0.9),
        }
        for salt, (name, values) in enumerate((self._item_parts | USER_PARTS).items()):
            owner = ids["item_id"] if name in self._item_parts else ids["user_id"]
            # the square leans towards the first values, so that these are skewed as well
            ids[name] = np.asarray(np.floor(_uniform(owner, 50 + salt) ** 2 * values), np.int64)
        return ids


@kernel
def draw_clicks(p: F64, user: I64, angle: F64, uniform: F64, taste_U2: F64, click: NDArray[np.bool_]) -> None:
    """Whether each root is clicked, in order: a click draws its user's taste towards the category's direction.

    Turns `p`, (N,), from logits into probabilities, writes `click`, (N,), and moves `taste_U2`, a mean direction of
    recent clicks for each user.
    """
    for n in range(len(p)):
        x, y, u = np.cos(angle[n]), np.sin(angle[n]), user[n]
        p[n] = 1 / (1 + np.exp(-p[n] - INTEREST * (taste_U2[u, 0] * x + taste_U2[u, 1] * y)))
        click[n] = uniform[n] < p[n]
        if click[n]:
            taste_U2[u, 0] += 0.3 * (x - taste_U2[u, 0])
            taste_U2[u, 1] += 0.3 * (y - taste_U2[u, 1])


def _zipf(rng: np.random.Generator, size: int, values: int, exponent: float) -> I64:
    """Values 0 to `values` - 1, the k-th drawn in proportion to about k^-exponent (inverse of the continuous law)."""
    power = 1 - exponent
    drawn = (1 + rng.random(size) * ((values + 1) ** power - 1)) ** (1 / power)
    return np.asarray(np.minimum(drawn.astype(np.int64), values) - 1, np.int64)


def _uniform(value: I64, salt: int) -> F64:
    """In [0, 1), fixed for each value and salt."""
    with np.errstate(over="ignore"):
        mixed = mix(mix(value.astype(np.uint64)) + np.uint64(salt) * GOLDEN)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)


def _effect(value: I64, salt: int) -> F64:
    """About standard normal, fixed for each value and salt: the sum of three uniforms has variance 1/4."""
    return np.asarray(2 * (sum(_uniform(value, 10_000 * part + salt) for part in range(1, 4)) - 1.5))


def _of_id(ids: dict[str, I64], name: str, salt: int) -> F64:
    return _effect(ids[name], 100 * (1 + ID_FIELDS.index(name)) + salt)


def _numbers(rng: np.random.Generator, size: int, item: I64) -> dict[str, F64]:
    """Raw numbers; price, bid, fans and seconds are heavy-tailed, age_days and quality are missing at times."""
    numbers = {
        "price": np.exp(3 + 1.2 * _effect(item, 81)),
        "bid": np.exp(0.6 * rng.standard_normal(size)),
        "fans": np.floor(np.exp(6 + 2 * _effect(item, 82))),
        "seconds": np.exp(3.5 + 0.8 * _effect(item, 83)),
        "age_days": np.where(rng.random(size) < 0.1, np.nan, rng.exponential(30, size)),
        "quality": np.where(rng.random(size) < 0.05, np.nan, rng.standard_normal(size)),
        "match": rng.random(size),
        "position": rng.integers(1, 21, size).astype(np.float64),
    }
    return {name: np.round(column, 3) for name, column in numbers.items()}


def _unit(name: str, column: F64) -> F64:
    """A number on about the standard scale on which it matters; a missing one does not."""
    heavy, mean, spread = UNITS[name]
    return np.nan_to_num(((np.log(np.maximum(column, 1e-3)) if heavy else column) - mean) / spread)


def _logits(
    rate: float, signs: dict[str, float], ids: dict[str, I64], numbers: dict[str, F64], turn: F64, *, salt: int
) -> F64:
    """The sum of all effects, moved so that the mean of its sigmoid is about `rate`."""
    spread = np.sqrt(sum(sign**2 for sign in (*signs.values(), *TURNING.values())))
    # E sigmoid(b + s z) is about sigmoid(b / sqrt(1 + pi s^2 / 8)) (MacKay 1992)
    total = np.full(len(turn), np.log(rate / (1 - rate)) * np.sqrt(1 + np.pi * spread**2 / 8))
    for name, sign in signs.items():
        total += sign * (_of_id(ids, name, salt) if name in ids else _unit(name, numbers[name]))
    for name, sign in TURNING.items():
        total += sign * (np.cos(turn) * _of_id(ids, name, 10 + salt) + np.sin(turn) * _of_id(ids, name, 20 + salt))
    return np.asarray(total)


def _sigmoid(logit: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-logit)))


def _delays(rng: np.random.Generator, size: int, mean_ms: int, window_ms: int) -> I64:
    """Exponential, cut off below the window, at least 1 ms."""
    share = -np.expm1(-window_ms / mean_ms)
    delay_ms = np.floor(-mean_ms * np.log1p(-rng.random(size) * share))
    return np.asarray(np.clip(delay_ms, 1, window_ms - 1), np.int64)
