import numpy as np
import pytest

from streamctr.synthetic import CHUNK, DAY_MS, ID_FIELDS, NUMBER_FIELDS, Roots, World, WorldConfig, draw_clicks

CONFIG = WorldConfig(roots=60_000, days=3, users=3000, items=2000, seed=5)


def roots_of(config: WorldConfig) -> Roots:
    chunks = list(World(config).chunks())
    return Roots(*(np.concatenate([getattr(c, name) for c in chunks]) for name in Roots.__slots__))


@pytest.fixture(scope="module")
def roots() -> Roots:
    return roots_of(CONFIG)


def test_the_same_config_gives_the_same_world_bit_for_bit_and_another_seed_another(roots: Roots) -> None:
    again, other = roots_of(CONFIG), roots_of(CONFIG.model_copy(update={"seed": 6}))
    for name in Roots.__slots__:
        assert getattr(roots, name).tobytes() == getattr(again, name).tobytes()
    assert not np.isin(other.id, roots.id).any()
    assert np.mean(other.ids_NF[:, 1] == roots.ids_NF[:, 1]) < 0.2


def test_a_chunk_has_the_named_columns_and_all_roots_are_there(roots: Roots) -> None:
    assert len(next(World(CONFIG).chunks())) == CHUNK
    assert len(roots) == 60_000 == len(np.unique(roots.id))
    assert roots.ids_NF.shape == (60_000, len(ID_FIELDS)) == (60_000, 16)
    assert roots.numbers_NM.shape == (60_000, len(NUMBER_FIELDS)) == (60_000, 8)


def test_times_are_sorted_inside_the_days_and_swing_with_the_hour(roots: Roots) -> None:
    assert (np.diff(roots.time_ms) >= 0).all()
    assert CONFIG.start <= roots.time_ms[0] < roots.time_ms[-1] < CONFIG.start + 3 * DAY_MS
    per_day = np.bincount((roots.time_ms - CONFIG.start) // DAY_MS)
    assert np.abs(per_day - 20_000).max() <= 1
    per_hour = np.bincount((roots.time_ms - CONFIG.start) // 3_600_000 % 24)
    # density 1 - 0.6 cos(2 pi (x - 4/24)): lowest in the hours around 4, 0.4 of the mean; highest 12 hours later
    assert per_hour[3:5].sum() == pytest.approx(0.4 * 2 * 60_000 / 24, rel=0.05)
    assert per_hour[15:17].sum() == pytest.approx(1.6 * 2 * 60_000 / 24, rel=0.05)


def test_labels_come_up_as_often_as_their_probabilities_say(roots: Roots) -> None:
    for label, p in ((roots.click, roots.p_click), (roots.conversion[roots.click], roots.p_conversion[roots.click])):
        for band in np.array_split(np.argsort(p), 5):
            deviation = np.sqrt((p[band] * (1 - p[band])).sum())
            assert abs(label[band].sum() - p[band].sum()) < 4 * deviation
    assert not roots.conversion[~roots.click].any()
    assert 0.05 < roots.p_click.mean() < 0.10
    assert 0.08 < roots.p_conversion[roots.click].mean() < 0.15


def test_delays_stay_below_their_windows_and_have_the_stated_scale(roots: Roots) -> None:
    assert roots.click_delay_ms.min() >= 1
    assert roots.click_delay_ms.max() < CONFIG.click_window
    assert roots.click_delay_ms.mean() == pytest.approx(20_000, rel=0.03)
    assert roots.conversion_delay_ms.max() < CONFIG.conversion_window
    # of an exponential with mean 40 m, cut at 6 h = 9 means: 1 - e^-1 are below the mean
    assert np.mean(roots.conversion_delay_ms < 2_400_000) == pytest.approx(1 - np.exp(-1), abs=0.01)


def test_numbers_are_heavy_tailed_or_missing_where_stated(roots: Roots) -> None:
    numbers = dict(zip(NUMBER_FIELDS, roots.numbers_NM.T, strict=True))
    assert numbers["fans"].mean() > 3 * np.median(numbers["fans"]) > 0
    assert np.isnan(numbers["age_days"]).mean() == pytest.approx(0.10, abs=0.01)
    assert np.isnan(numbers["quality"]).mean() == pytest.approx(0.05, abs=0.01)
    assert not np.isnan(roots.numbers_NM[:, [NUMBER_FIELDS.index("price"), NUMBER_FIELDS.index("bid")]]).any()


def campaign_effects(roots: Roots, day: int) -> np.ndarray:
    """Mean click logit of each of the campaigns on one day."""
    at = (roots.time_ms - CONFIG.start) // DAY_MS == day
    campaign, logit = roots.ids_NF[at, ID_FIELDS.index("campaign")], np.log(roots.p_click[at] / (1 - roots.p_click[at]))
    size = 20 * 10
    return np.bincount(campaign, logit, size) / np.maximum(np.bincount(campaign, minlength=size), 1)


def test_effects_of_campaigns_turn_over_days_and_stand_still_without_drift() -> None:
    drifting = roots_of(CONFIG.model_copy(update={"drift": 60.0}))
    still = roots_of(CONFIG.model_copy(update={"drift": 0.0}))
    corr = [np.corrcoef(campaign_effects(world, 0), campaign_effects(world, 2))[0, 1] for world in (drifting, still)]
    assert corr[0] < 0.5 < 0.8 < corr[1]


def test_a_click_draws_its_users_taste_towards_its_category() -> None:
    taste, p, click = np.zeros((2, 2)), np.zeros(4), np.empty(4, np.bool_)
    angle = np.array([0.0, 0.0, np.pi, 0.0])
    # user 0 clicks the first (uniform 0 < 1/2) and has moved 0.3 of the way; user 1 has no taste yet
    draw_clicks(p, np.array([0, 0, 0, 1]), angle, np.array([0.0, 0.999, 0.999, 0.999]), taste, click)
    assert click.tolist() == [True, False, False, False]
    sway = 1 / (1 + np.exp(-0.5 * 0.3))
    assert p == pytest.approx([0.5, sway, 1 - sway, 0.5])
    assert taste == pytest.approx(np.array([[0.3, 0.0], [0.0, 0.0]]))
