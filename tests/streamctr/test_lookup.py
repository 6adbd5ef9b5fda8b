"""Lookup tables: by hand; the same bits as columns inside the events; what is no good is named."""

from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from streamctr.decode import values
from streamctr.decode.cells import Cells, Parsed
from streamctr.errors import DataError
from streamctr.events import EventBatch
from streamctr.features import Encoder, Lookup
from streamctr.hashing import hash_text, hash_texts
from streamctr.join import JoinConfig, Joiner
from streamctr.names import Names
from streamctr.order import FIRST_MS
from streamctr.schema import FeaturesConfig, Funnel, StageConfig
from streamctr.testing import same

FUNNEL = Funnel.from_mapping({"view": StageConfig(), "click": StageConfig(observe=50)})


def table(**columns):
    """A table as the readers give it."""
    cells = {name: Cells((pa.array(column),)) for name, column in columns.items()}
    return Parsed(cells, np.arange(len(next(iter(columns.values())))), {}, lambda _, __: b"")


def lookup(features, *tables, name="items", types=(), named=()):
    features = FeaturesConfig.model_validate(features)
    return Lookup(features.lookup[name], features, tables, dict(types), named)


ITEMS = {"file": "items.csv", "key": "item", "take": ["brand", "price", "tags", "vec"]}
FEATURES = {
    "id": ["item", "brand"],
    "bag": {"tags": {"most": 2}},
    "number": {"price": "none"},
    "vector": {"vec": 2},
    "lookup": {"items": ITEMS},
}
ROWS = {
    "item": ["b", "a"],
    "brand": ["x", None],
    "price": [2.5, 4.0],
    "tags": ["p,q,r", "q"],
    "vec": [[1.0, 2.0], None],
}


def keys(*texts):
    return np.array([0 if text is None else hash_text(text) for text in texts], np.uint64)


def test_a_known_key_gets_its_row_and_any_other_is_missing():
    found = lookup(FEATURES, table(**ROWS)).apply(keys("a", "b", "c", None), np.zeros(4, np.int64))
    assert found.ids["brand"].tolist() == [0, hash_text("x"), 0, 0]
    p, q = hash_text("p"), hash_text("q")
    assert found.bags["tags"].tolist() == [[q, 0], [p, q], [0, 0], [0, 0]]
    np.testing.assert_array_equal(found.numbers["price"], [4.0, 2.5, np.nan, np.nan])
    np.testing.assert_array_equal(found.vectors["vec"], [[np.nan] * 2, [1.0, 2.0], [np.nan] * 2, [np.nan] * 2])


def test_keys_below_and_above_all_that_the_table_has_are_missing():
    found = lookup(FEATURES, table(**ROWS)).apply(np.array([1, 2**64 - 1], np.uint64), np.zeros(2, np.int64))
    assert found.ids["brand"].tolist() == [0, 0]
    assert np.isnan(found.numbers["price"]).all()


def test_a_column_of_another_name_and_another_key_column():
    items = {"file": "f", "key": "item", "column": "id", "take": {"brand": "maker"}}
    of = lookup({"id": ["brand"], "lookup": {"items": items}}, table(id=["a"], maker=["x"]))
    assert of.apply(keys("a"), np.zeros(1, np.int64)).ids["brand"].tolist() == [hash_text("x")]


def test_a_field_is_read_as_all_that_it_is_used_for():
    features = {"id": ["age"], "bucket": {"b": {"of": "age", "at": [18]}}, "number": {"age": "log1p"}}
    features["lookup"] = {"users": {"file": "f", "key": "user", "take": ["age"]}}
    found = lookup(features, table(user=["u"], age=[20]), name="users").apply(keys("u"), np.zeros(1, np.int64))
    assert (found.ids["age"].tolist(), found.numbers["age"].tolist()) == ([hash_text("20")], [20.0])


def test_the_newest_version_that_holds_at_the_roots_time_counts():
    versions = [{"from": 1_000, "file": "a"}, {"from": 2_000, "file": "b"}]
    items = {"key": "item", "take": ["brand"], "versions": versions}
    of = lookup(
        {"id": ["brand"], "lookup": {"items": items}},
        table(item=["a", "b"], brand=["x", "y"]),
        table(item=["a"], brand=["z"]),
    )
    times = np.array([2_000, 999, 1_000, 1_999, 2_000, 1_500, 5_000])
    asked = keys("a", "a", "a", "a", "b", "b", "a")
    found = of.apply(asked, times).ids["brand"].tolist()
    x, y, z = (hash_text(text) for text in "xyz")
    assert found == [z, 0, x, x, 0, y, z]


def test_a_first_version_without_a_start_holds_since_ever():
    items = {"key": "item", "take": ["brand"], "versions": [{"file": "a"}, {"from": 5, "file": "b"}]}
    of = lookup(
        {"id": ["brand"], "lookup": {"items": items}}, table(item=["a"], brand=["x"]), table(item=["a"], brand=["y"])
    )
    assert of.apply(keys("a", "a"), np.array([-(1 << 60), 5])).ids["brand"].tolist() == [hash_text("x"), hash_text("y")]


def test_types_hold_for_the_key_and_for_what_is_taken():
    items = {"file": "f", "key": "item", "take": ["brand"]}
    features = {"id": ["brand"], "lookup": {"items": items}}
    of = lookup(features, table(item=["007"], brand=["+1"]), types={"item": "integer"})
    seven = values.ids(Cells((pa.array([7]),)), 1, integer=True).values
    assert of.apply(seven, np.zeros(1, np.int64)).ids["brand"].tolist() == [hash_text("+1")]
    assert of.apply(keys("7"), np.zeros(1, np.int64)).ids["brand"].tolist() == [0]


def test_a_lookup_may_be_keyed_by_what_one_above_takes():
    features = {
        "id": ["item"],
        "cross": [["item", "country"]],
        "lookup": {
            "items": {"file": "i", "key": "item", "take": ["brand"]},
            "brands": {"file": "b", "key": "brand", "take": ["country"]},
        },
    }
    config = FeaturesConfig.model_validate(features)
    assert config.event_ids == ("item",)
    items = lookup(features, table(item=["a"], brand=["x"]))
    brands = lookup(features, table(brand=["x"], country=["de"]), name="brands")
    inside = FeaturesConfig.model_validate({"id": ["item"], "cross": [["item", "country"]]})
    expected = samples(inside, (np.array([[hash_text("a"), hash_text("de")], [7, 0]], np.uint64), np.empty((2, 0))))
    found = samples(
        config, (np.array([[hash_text("a")], [7]], np.uint64), np.empty((2, 0))), {"items": items, "brands": brands}
    )
    assert same(found.to_arrays(), expected.to_arrays())


def samples(features, columns, lookups=(), names=None):
    """All rows of roots with these ids and numbers, of two users, each clicked at once."""
    ids_NF, numbers_NM = columns
    n = len(ids_NF)
    time_ms, stage = np.repeat(np.arange(n), 2) * 20, np.tile([0, 1], n)
    root = np.repeat(np.arange(n), 2).astype(np.uint64)
    events = EventBatch(
        time_ms,
        stage,
        root,
        root % np.uint64(2) + np.uint64(1),
        np.repeat(ids_NF, 2, axis=0),
        np.repeat(numbers_NM, 2, axis=0),
        root,
        np.full(2 * n, np.nan),
        np.ones(2 * n),
    )
    joiner = Joiner(JoinConfig(orphan_wait=0, remember=0), FUNNEL)
    encoder = Encoder(features, FUNNEL, ZoneInfo("UTC"), 10, names or Names(()), dict(lookups))
    (joined,) = joiner.push(events, FIRST_MS)
    return encoder.encode(joined)


def test_looked_up_columns_give_the_bits_of_the_same_columns_inside_the_events():
    features = FEATURES | {
        "bucket": {"dear": {"of": "price", "at": [3]}},
        "cross": [["brand", "dear"]],
        "history": {"seen": {"of": "click", "take": ["brand", "brand*dear"], "last": 3}},
    }
    with_table = FeaturesConfig.model_validate(features)
    without = FeaturesConfig.model_validate({name: part for name, part in features.items() if name != "lookup"})
    rng = np.random.default_rng(3)
    n_items = 20
    brands = [f"brand{k}" for k in rng.integers(0, 5, n_items)]
    prices, vectors = rng.random(n_items) * 6, rng.random((n_items, 2))
    tags = [[f"t{k}" for k in rng.integers(0, 5, rng.integers(0, 4))] for _ in range(n_items)]
    items = table(item=list(range(n_items)), brand=brands, price=prices.tolist(), tags=tags, vec=vectors.tolist())
    drawn = rng.integers(0, n_items, 60)
    item_hash, brand_hash = hash_texts([str(k) for k in range(n_items)]), hash_texts(brands)
    tag_hash = np.array([[hash_text(t) for t in bag[:2]] + [0] * (2 - len(bag[:2])) for bag in tags], np.uint64)
    ids = np.column_stack([item_hash, brand_hash, tag_hash])[drawn]
    numbers = np.column_stack([prices, vectors])[drawn]
    inside = samples(without, (ids, numbers))
    outside = samples(with_table, (ids[:, :1], np.empty((60, 0))), {"items": lookup(features, items)})
    assert inside.histories[0].length.max() == 3
    assert same(outside.to_arrays(), inside.to_arrays())


def test_slices_name_looked_up_values_of_roots_that_came_and_keep_no_other():
    names = Names(("brand",))
    of = lookup(FEATURES, table(**ROWS | {"brand": ["x", "unseen"]}), named=names.fields)
    samples(
        FeaturesConfig.model_validate(FEATURES), (keys("b", "c").reshape(-1, 1), np.empty((2, 0))), {"items": of}, names
    )
    assert [names.text("brand", value) for value in (hash_text("x"), 0)] == ["x", "missing"]
    assert b"unseen" not in names.state()["names"].tobytes()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"item": ["a", "b", "a"]}, 'items.csv: rows 1 and 3 both have the item "a"; leave one row of each key'),
        ({"item": [7, 8, 7]}, 'items.csv: rows 1 and 3 both have the item "7"; leave one row of each key'),
        ({"item": ["a", None, "b"]}, 'items.csv: row 2 has no key "item"; give it one, or take it out'),
        ({"item": [0.5, 1.5, 2.5]}, 'items.csv: row 1: "item" is a number with a fraction'),
        ({"price": ["1", "2", "dear"]}, 'items.csv: row 3: "price" is "dear", not a number; mend the table'),
        ({"vec": [[1.0, 2.0], [1.0], None]}, 'items.csv: row 2: "vec" has 1 number, not 2; mend the table'),
    ],
)
def test_what_is_no_good_in_a_table_is_named(rows, message):
    good = {
        "item": ["a", "b", "c"],
        "brand": [1, 2, 3],
        "price": [1, 2, 3],
        "tags": ["p", "q", "r"],
        "vec": [[1.0, 2.0]] * 3,
    }
    with pytest.raises(DataError) as raised:
        lookup(FEATURES, table(**good | rows))
    assert str(raised.value).startswith(message)


def test_a_table_without_rows_is_refused():
    empty = {name: pa.array([], pa.string()) for name in ROWS}
    with pytest.raises(DataError, match=r"items.csv: a lookup table without a row finds nothing"):
        lookup(FEATURES, table(**empty))
