import os
import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamctr.hashing import mix, mix_one
from streamctr.idmap import find, grown, insert, new_map, remove, reserve

# 17 keys of which many share a home in a map of 8 or 16 places, so that chains, wraps and shifts all occur
keys = st.integers(0, 16) | st.sampled_from([2**63, 2**64 - 1])
steps = st.lists(st.tuples(st.sampled_from(["insert", "remove"]), keys, st.integers(0, 5)), max_size=60)


@given(steps)
@settings(max_examples=int(os.environ.get("IDMAP_EXAMPLES", "150")))
def test_any_inserts_and_removals_leave_what_a_dict_holds(steps):
    ids, expected = new_map(2), {}
    for verb, key, value in steps:
        if verb == "insert":
            ids = reserve(ids, 1)
            insert(ids, np.uint64(key), value)
            expected[key] = value
        else:
            remove(ids, np.uint64(key))
            expected.pop(key, None)
        assert int(ids.n_keys[0]) == len(expected)
        assert 2 * len(expected) <= len(ids.keys)
    for key in [*range(17), 2**63, 2**64 - 1]:
        assert int(find(ids, np.uint64(key))) == expected.get(key, -1)
    assert int((ids.values >= 0).sum()) == len(expected)


def test_key_zero_is_a_key_like_any_other():
    ids = new_map(1)
    assert find(ids, np.uint64(0)) == -1
    insert(ids, np.uint64(0), 0)
    assert find(ids, np.uint64(0)) == 0
    remove(ids, np.uint64(0))
    assert find(ids, np.uint64(0)) == -1


def test_reserve_gives_the_same_map_while_there_is_room_and_the_same_keys_when_it_grows():
    ids = reserve(new_map(4), 4)
    assert len(ids.keys) == 8
    for key in range(4):
        insert(ids, np.uint64(key), key)
    assert reserve(ids, 0) is ids
    larger = reserve(ids, 29)
    assert len(larger.keys) == 128  # 33 keys need 66 places
    assert [int(find(larger, np.uint64(key))) for key in range(5)] == [0, 1, 2, 3, -1]
    assert len(grown(ids).keys) == 16


def test_one_mixed_value_is_the_mixed_column():
    values = np.array([0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15], np.uint64)
    assert [int(mix_one(value)) for value in values] == mix(values).tolist()


def test_as_plain_python_all_of_this_holds_without_a_warning():
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return
    command = [sys.executable, "-m", "pytest", __file__]
    plain = {**os.environ, "NUMBA_DISABLE_JIT": "1", "IDMAP_EXAMPLES": "50"}
    run = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
