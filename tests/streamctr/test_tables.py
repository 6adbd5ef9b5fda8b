import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from streamctr.errors import ConfigError
from streamctr.hashing import hash_text, mix
from streamctr.tables import FusedTable, TablesConfig

A = np.array([0])


def table(width: int = 2, init_std: float = 0.0, seed: int = 0, features: str = "a", **config: object) -> FusedTable:
    tables = TablesConfig(**{"rows": 64, "lr": 0.5, "decay": 1.0, **config})
    return FusedTable(tables, tuple(features), width, init_std, seed)


def ids(*values: int) -> np.ndarray:
    """One id feature, a sample each."""
    return np.array(values, np.uint64)[:, None]


def look(held: FusedTable, rows_NTC: np.ndarray) -> np.ndarray:
    out = torch.full((*rows_NTC.shape, held.width), 7.0)
    held.gather(rows_NTC, out)
    return out.numpy()


def learn(held: FusedTable, values: list[int], grads: list[list[float]]) -> None:
    rows = held.rows(ids(*values), A)
    held.update(held.sum_gradients([rows], [np.array(grads, np.float32).reshape(*rows.shape, -1)]))


def test_an_id_goes_to_the_row_that_its_hash_salted_by_the_table_names() -> None:
    held = table(features="ab", sizes={"b": 7}, shared={})
    rows = held.rows(np.array([[5, 5]], np.uint64), np.array([0, 1])).ravel().tolist()
    mixed = [int(mix(np.array([5 ^ hash_text(name)], np.uint64))[0]) for name in ("a", "b")]
    assert rows == [mixed[0] % 64, 64 + mixed[1] % 7]


def test_features_that_share_a_table_share_their_rows() -> None:
    held = table(features="abc", shared={"c": "a"})
    a, b, c = held.rows(np.array([[5, 5, 5]], np.uint64), np.arange(3)).ravel().tolist()
    assert a == c
    assert a != b


def test_equal_rows_sum_their_gradients_and_share_one_rate() -> None:
    held = table()
    learn(held, [5, 5], [[1.0, 4.0], [2.0, 0.0]])
    # g = (3, 4): mean square 12.5, so the step is .5 g / sqrt(12.5).
    assert look(held, held.rows(ids(5), A)).ravel() == pytest.approx([-1.5 / 12.5**0.5, -2.0 / 12.5**0.5], rel=1e-6)
    assert held.state()["accumulator"].tolist() == [12.5]


def test_the_accumulator_forgets_at_each_touch_of_its_row() -> None:
    held = table(decay=0.5, initial_accumulator=2.0)
    learn(held, [5], [[1.0, 1.0]])
    assert held.state()["accumulator"].tolist() == [2.0]
    learn(held, [5], [[2.0, 2.0]])
    learn(held, [6], [[1.0, 1.0]])
    assert sorted(held.state()["accumulator"].tolist()) == [2.0, 5.0]


def test_steps_behind_the_length_are_zero_and_learn_nothing() -> None:
    held = table(init_std=0.1)
    rows = held.rows(np.array([[[5], [6], [0]]], np.uint64), A, np.array([1], np.int32))
    assert rows[0, 1:, 0].tolist() == [-1, -1]
    assert not look(held, rows)[0, 1:].any()
    held.update(held.sum_gradients([rows], [np.ones((1, 3, 1, 2), np.float32)]))
    assert len(held) == 1


def test_rows_behind_the_batch_are_padded_with_zeros() -> None:
    held = table(init_std=0.1)
    out = torch.ones(3, 1, 1, 2)
    held.gather(held.rows(ids(5), A), out)
    assert out[0].all()
    assert not out[1:].any()


def test_gradients_that_are_views_count_as_their_copies_do() -> None:
    rows = table().rows(np.array([[[5], [6]]], np.uint64), A)
    view = np.broadcast_to(np.array([1.0, 2.0], np.float32), (1, 2, 1, 2))
    once, again = table().sum_gradients([rows], [view]), table().sum_gradients([rows], [view.copy()])
    assert once.sums_UW.tolist() == again.sums_UW.tolist() == [[1.0, 2.0], [1.0, 2.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_gradient_that_is_not_finite_is_noticed(bad: float) -> None:
    held = table()
    grads = np.array([1.0, bad], np.float32).reshape(1, 1, 1, 2)
    assert not held.sum_gradients([held.rows(ids(5), A)], [grads]).finite


def test_looking_at_rows_changes_nothing() -> None:
    held = table(init_std=0.1)
    assert look(held, held.rows(ids(5, 6), A)).any()
    assert (len(held), held.bytes(), held.state()["rows"].tolist()) == (0, 0, [])


def test_new_rows_do_not_depend_on_the_order_of_first_touch() -> None:
    grads = [[0.5, -1.0], [2.0, 0.25]]
    one, other = table(init_std=0.1), table(init_std=0.1)
    learn(one, [5, 6], grads)
    look(other, other.rows(ids(9, 6), A))
    learn(other, [6], grads[1:])
    learn(other, [5], grads[:1])
    for name, array in one.state().items():
        assert array.tolist() == other.state()[name].tolist()


def test_new_rows_differ_by_seed_table_and_place_and_have_the_deviation_asked_for() -> None:
    everything = np.arange(4096).reshape(-1, 1, 1)
    drawn = look(table(8, 0.05, rows=2048, features="ab"), everything).reshape(2, 2048, 8)
    other = look(table(8, 0.05, seed=1, rows=2048, features="ab"), everything).reshape(2, 2048, 8)
    assert len(np.unique(drawn)) > 32_000
    assert (other == drawn).mean() < 0.001
    assert drawn.std() == pytest.approx(0.05, rel=0.02)
    assert abs(drawn.mean()) < 0.001
    assert np.abs(drawn).max() <= 0.05 * 3**0.5


def test_a_restored_table_goes_on_as_the_first_would() -> None:
    first, second = table(init_std=0.1), table(init_std=0.1)
    learn(first, [5, 6], [[1.0, 2.0], [3.0, 4.0]])
    learn(second, [8], [[1.0, 1.0]])
    second.restore(first.state())
    for held in (first, second):
        learn(held, [6, 7], [[1.0, -2.0], [0.5, 0.5]])
    assert first.state()["rows"].tolist() == sorted(first.state()["rows"].tolist())
    for name, array in first.state().items():
        assert array.tobytes() == second.state()[name].tobytes()
    assert len(first) == len(second) == 3


def test_what_names_no_feature_or_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'tables.shared: "x" is not an id feature'):
        table(shared={"x": "a"})
    with pytest.raises(ConfigError, match=r'tables.sizes: "x" is not a table'):
        table(sizes={"x": 4})


def test_rows_may_be_written_as_a_power_of_two() -> None:
    assert TablesConfig(rows="2^18", sizes={"a": "1000"}).model_dump(include={"rows", "sizes"}) == {
        "rows": 262_144,
        "sizes": {"a": 1000},
    }


SCRIPT = """
import json, numpy as np, torch
from streamctr.tables import FusedTable, TablesConfig
held = FusedTable(TablesConfig(rows=50), ("a", "b"), 3, 0.1, 4)
rows = held.rows(np.arange(24, dtype=np.uint64).reshape(4, 3, 2) % 7, np.arange(2), np.array([3, 0, 1, 2]))
grads = np.sin(np.arange(72, dtype=np.float32)).reshape(4, 3, 2, 3)
out = torch.empty(4, 3, 2, 3)
held.gather(rows, out)
held.update(held.sum_gradients([rows], [grads]))
print(json.dumps([rows.ravel().tolist(), out.ravel().tolist(), held.state()["weights"].ravel().tolist()]))
"""


def test_kernels_do_the_same_as_plain_python() -> None:
    """Integers to the bit, floats to rounding."""
    runs = []
    for plain in ("0", "1"):
        command = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", SCRIPT]
        environment = {**os.environ, "NUMBA_DISABLE_JIT": plain}
        runs.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    compiled, plain_python = (json.loads(run) for run in runs)
    assert compiled[0] == plain_python[0]
    for one, other in zip(compiled[1:], plain_python[1:], strict=True):
        assert one == pytest.approx(other, rel=1e-6)
