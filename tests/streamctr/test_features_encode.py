"""Every kind of feature by hand; roots encoded now as they would be next; any stop."""

from zoneinfo import ZoneInfo

import numpy as np
import pytest

from streamctr.errors import ConfigError
from streamctr.events import EventBatch
from streamctr.features import Encoder
from streamctr.features.transforms import bucket_texts, crossed
from streamctr.hashing import hash_text
from streamctr.join import JoinConfig, Joiner
from streamctr.names import Names
from streamctr.order import FIRST_MS
from streamctr.samples import NEVER_MS
from streamctr.schema import FeaturesConfig, Funnel, StageConfig
from streamctr.testing import check_stateful, frozen, same

FUNNEL = Funnel.from_mapping(
    {"view": StageConfig(value="bid"), "click": StageConfig(observe=50), "buy": StageConfig(observe=90, value="paid")}
)
NAN = float("nan")
MASK = (1 << 64) - 1


def events(*rows, n_ids=1, n_numbers=0):
    """Rows of (time, stage, root, ids, numbers) of the user 7, in order."""
    times, stages, roots = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    ids = np.array([row[3] if len(row) > 3 else [0] * n_ids for row in rows], np.uint64).reshape(len(rows), n_ids)
    numbers = np.array([row[4] if len(row) > 4 else [NAN] * n_numbers for row in rows]).reshape(len(rows), n_numbers)
    users = np.where(stages == 0, 7, 0).astype(np.uint64)
    bare = roots.astype(np.uint64)
    return EventBatch(times, stages, bare, users, ids, numbers, bare, times * 0.5, np.full(len(rows), 2.0))


def encoder(features, names=None, zone="UTC", lookups=()):
    names = names or Names(())
    return Encoder(FeaturesConfig.model_validate(features), FUNNEL, ZoneInfo(zone), 10, names, dict(lookups))


def encode_all(of, joiner, batch):
    """The samples of a batch that is pushed at once."""
    return [of.encode(joined) for joined in joiner.push(batch, FIRST_MS)]


def one(features, ids, numbers, time_ms=0, zone="UTC"):
    """The ids and numbers of a single root."""
    row = events((time_ms, 0, 1, ids, numbers), n_ids=len(ids), n_numbers=len(numbers))
    samples = encoder(features, zone=zone).encode_roots(row)
    return samples.ids_NF[0].tolist(), samples.numbers_NM[0].tolist()


def test_ids_times_buckets_crosses_and_bags_stand_in_this_order():
    features = {
        "id": ["user", "item"],
        "bag": {"tags": {"most": 3}},
        "time": ["hour"],
        "bucket": {"age_range": {"of": "age", "at": [18, 30]}},
        "cross": [["item", "place"], ["hour", "age_range"]],
    }
    ids, _ = one(features, [11, 12, 13, 21, 22, 0], [18.0], time_ms=3 * 3_600_000)  # user, item, place, then tags
    hour, age = hash_text("3"), hash_text("18..30")
    assert ids == [11, 12, hour, age, cross(12, 13), cross(hour, age), 21, 22, 0]


def cross(*members):
    """The hash of a cross in integers: splitmix64's finaliser after each member, and once more with a constant."""
    total = 0
    for member in (*members, int.from_bytes(b"crossed!", "big")):
        total = ((total ^ member) + 0x9E3779B97F4A7C15) & MASK
        total = ((total ^ (total >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        total = ((total ^ (total >> 27)) * 0x94D049BB133111EB) & MASK
        total ^= total >> 31
    return total


def test_hour_and_weekday_are_those_of_the_zone():
    monday_23 = 4 * 86_400_000 + 23 * 3_600_000  # 5 January 1970 was a Monday
    assert one({"time": ["hour", "weekday"]}, [], [], monday_23)[0] == [hash_text("23"), hash_text("0")]
    in_berlin = one({"time": ["hour", "weekday"]}, [], [], monday_23, "Europe/Berlin")
    assert in_berlin[0] == [hash_text("0"), hash_text("1")]


@pytest.mark.parametrize(
    ("age", "text"), [(-1e300, "<18"), (17.9, "<18"), (18.0, "18..30.5"), (30.4, "18..30.5"), (30.5, ">=30.5")]
)
def test_a_bucket_is_a_half_open_range_with_a_name(age, text):
    assert one({"bucket": {"b": {"of": "age", "at": [18, 30.5]}}}, [], [age])[0] == [hash_text(text)]


def test_a_missing_number_lies_in_no_bucket():
    assert one({"bucket": {"b": {"of": "age", "at": [18]}}}, [], [NAN])[0] == [0]


def test_names_of_buckets_tell_every_bound_apart():
    assert bucket_texts((1e6, 1e6 + 1, 1e6 + 1.5, 1e20)) == [
        "<1000000",
        "1000000..1000001",
        "1000001..1000001.5",
        "1000001.5..1e+20",
        ">=1e+20",
    ]


def test_a_bucket_sees_the_number_as_it_was_not_clipped_or_transformed():
    features = {"bucket": {"b": {"of": "p", "at": [10]}}, "number": {"p": {"transform": "log1p", "clip": [0, 5]}}}
    ids, numbers = one(features, [], [100.0])
    assert ids == [hash_text(">=10")]
    assert numbers == [pytest.approx(np.log(6))]


def test_clip_is_in_raw_units_and_leaves_missing_numbers_missing():
    features = {
        "number": {"a": {"transform": "log1p", "clip": [0, None]}, "b": {"clip": [-1, 1]}, "c": {"clip": [0, 1]}}
    }
    numbers = one(features, [], [-5.0, -7.0, NAN])[1]
    assert numbers[:2] == [0.0, -1.0]
    assert np.isnan(numbers[2])


def test_vectors_are_raw_and_stand_behind_the_numbers():
    numbers = one({"vector": {"v": 2, "w": 1}, "number": {"n": "log1p"}}, [], [0.0, -1.0, 5.0, NAN])[1]
    assert numbers[:3] == [0.0, -1.0, 5.0]
    assert np.isnan(numbers[3])


def test_a_number_beyond_float32_is_infinite_and_warns_nobody():
    assert one({"vector": {"v": 1}, "number": {"n": "none"}}, [], [1e300, -1e300])[1] == [np.inf, -np.inf]


def test_a_cross_tells_order_and_missing_members_apart_and_is_never_missing():
    a, b, none = (np.array([value], np.uint64) for value in (5, 6, 0))
    hashes = [int(crossed(list(pair))[0]) for pair in ((a, b), (b, a), (a, none), (none, a), (none, none), (a, a))]
    assert len(set(hashes)) == 6
    assert 0 not in hashes


def test_slices_can_name_buckets_and_times():
    names = Names(("b", "hour"))
    of = encoder({"bucket": {"b": {"of": "age", "at": [18]}}, "time": ["hour"]}, names)
    joiner = Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    encode_all(of, joiner, events((3_600_000, 0, 1, [], [17.0]), n_ids=0, n_numbers=1))
    assert names.text("b", hash_text("<18")) == "<18"
    assert names.text("hour", hash_text("1")) == "1"


def test_slices_can_name_crosses_by_their_members_though_these_are_no_features_of_their_own():
    config = {"cross": [["item", "hour"]], "time": ["hour"]}
    names = Names(("item*hour",), parts={"item*hour": ("item", "hour")})
    of = encoder(config, names)
    names.offer("item", {11: "shoe"})  # as the decoder does
    joiner = Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    encode_all(of, joiner, events((3_600_000, 0, 1, [11]), (3_600_001, 0, 2, [0])))
    hour = hash_text("1")
    assert [names.text("item*hour", cross(item, hour)) for item in (11, 0)] == ["shoe x 1", "missing x 1"]


def test_a_history_takes_crosses_and_buckets_too():
    features = {
        "id": ["item"],
        "bucket": {"b": {"of": "age", "at": [18]}},
        "cross": [["item", "b"]],
        "history": {"seen": {"of": "click", "take": ["item*b", "b"], "last": 2}},
    }
    of, joiner = encoder(features), Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    rows = events((0, 0, 1, [5], [17.0]), (1, 1, 1), (2, 0, 2, [6], [18.0]), n_numbers=1)
    (samples,) = encode_all(of, joiner, rows)
    young = hash_text("<18")
    assert samples.histories[0].padded()[-1].tolist() == [[cross(5, young), young], [0, 0]]


HISTORY = {
    "id": ["item"],
    "number": {"price": "log1p"},
    "history": {
        "now": {"of": "click", "take": ["item"], "last": 2},
        "late": {"of": "click", "take": ["item"], "last": 2, "lag": "10ms"},
    },
}
STREAM = [
    events((0, 0, 1, [11], [1.0]), (1, 1, 1), n_numbers=1),
    events((2, 0, 2, [12], [2.0]), (3, 1, 2), n_numbers=1),
    events((3, 0, 3, [13], [NAN]), n_numbers=1),
    events((11, 0, 4, [14], [3.0]), (12, 1, 4), (13, 1, 3), n_numbers=1),
    events((14, 0, 5, [15], [4.0]), n_numbers=1),
]


def test_a_root_does_not_see_behaviours_that_lie_within_the_lag():
    of, joiner = encoder(HISTORY), Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    samples = [encode_all(of, joiner, batch)[0] for batch in STREAM]
    at = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]  # the first row of each batch announces its root
    seen = [[samples[b].histories[h].padded()[r, :, 0].tolist() for b, r in at] for h in (0, 1)]
    assert seen[0] == [[0, 0], [11, 0], [11, 0], [11, 12], [14, 13]]
    assert seen[1] == [[0, 0], [0, 0], [0, 0], [0, 0], [11, 12]]


def test_roots_encoded_now_are_the_rows_that_announce_them_next_and_nothing_is_remembered():
    names = Names(("item",))
    of, joiner = encoder(HISTORY, names), Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    for batch in STREAM:
        before = frozen(of.state()), frozen(names.state())
        shown = of.encode_roots(batch.take(slice(0, 1)))
        assert same((frozen(of.state()), frozen(names.state())), before)
        (samples,) = encode_all(of, joiner, batch)
        row = samples.take(slice(0, 1)).to_arrays()
        assert all(same(shown.to_arrays()[name], row[name]) for name in row if name != "ordinal"), (shown, row)
    assert shown.at_ms.tolist() == [[14, NEVER_MS, NEVER_MS]]
    assert (shown.value_NV[0, 0], shown.weight[0]) == (7.0, 2.0)


def test_roots_encoded_now_come_in_any_order_and_each_sees_what_lies_before_it():
    of, joiner = encoder(HISTORY), Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    for batch in STREAM[:4]:
        encode_all(of, joiner, batch)
    asked = events((99, 0, 9, [1], [0.0]), (12, 0, 8, [1], [0.0]), (13, 0, 8, [1], [0.0]), n_numbers=1)
    now, late = of.encode_roots(asked).histories
    assert now.padded()[:, :, 0].tolist() == [[14, 13], [11, 12], [12, 14]]
    assert late.padded()[:, :, 0].tolist() == [[14, 13], [11, 0], [11, 0]]
    assert late.length.tolist() == [2, 1, 1]


def test_a_lookup_by_what_nobody_knows_yet_is_refused():
    lookup = {"file": "f.csv", "key": "hour", "take": ["city"]}
    features = {"id": ["city"], "time": ["hour"], "lookup": {"places": lookup}}
    with pytest.raises(ConfigError, match=r'features.lookup.places.key: "hour" is no field of the root'):
        encoder(features, lookups={"places": None})


def test_stateful():
    features = HISTORY | {"bag": {"tags": {"most": 2}}, "cross": [["item", "b"]], "vector": {"v": 2}}
    features |= {"bucket": {"b": {"of": "price", "at": [2]}}}
    rng = np.random.default_rng(1)
    joiner = Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL, chunk_rows=4)
    rows = [
        (t, k, root, rng.integers(1, 9, 3), rng.random(3) * 4)
        for t, k, root in zip(range(40), rng.integers(0, 3, 40), rng.integers(0, 9, 40), strict=True)
    ]
    chunks = list(joiner.push(events(*rows, n_ids=3, n_numbers=3), FIRST_MS))
    assert len(chunks) > 3
    check_stateful(lambda: encoder(features), [lambda e, c=c: e.encode(c) for c in chunks])
