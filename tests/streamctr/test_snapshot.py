"""Snapshots: whole or not at all."""

import os

import numpy as np
import pytest

from streamctr.errors import FencedError, SnapshotError
from streamctr.snapshot import SnapshotStore
from streamctr.testing import same


def arrays(value=1.0):
    return {
        "weights": np.full((3, 2), value, np.float32),
        "ids": np.array([2**64 - 1], np.uint64),
        "none": np.empty((0, 4)),
        "flags": np.array([True, False]),
        "view": np.arange(12).reshape(3, 4)[:, ::2],
    }


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    store = SnapshotStore(tmp_path, keep=5)
    name = store.save(7, arrays(), {"steps": 3}, ["weights"])
    snapshot, refused = store.newest()
    assert (snapshot.name, snapshot.manifest["about"], refused) == (name, {"steps": 3}, [])
    assert same(dict(sorted(snapshot.arrays.items())), dict(sorted(arrays().items())))


def test_the_newest_ones_stay_and_a_second_of_one_position_comes_behind_the_first(tmp_path):
    store = SnapshotStore(tmp_path, keep=2)
    names = [store.save(count, arrays(), {}, []) for count in (5, 5, 5, 10, 10)]
    assert names == ["000000000005", "000000000005-01", "000000000005-02", "000000000010", "000000000010-01"]
    assert store.names() == names[-2:]


def test_one_flipped_bit_refuses_a_snapshot_and_the_one_before_it_is_used(tmp_path):
    store = SnapshotStore(tmp_path, keep=5)
    store.save(1, arrays(1.0), {}, [])
    path = tmp_path / store.save(2, arrays(2.0), {}, []) / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match="should have checksum"):
        store.verify("000000000002")
    snapshot, refused = store.newest()
    assert snapshot.name == "000000000001"
    assert len(refused) == 1


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"format": 1}', '{"format": 99, "about": {}, "xxh3_128": {}}'])
def test_a_manifest_that_cannot_be_used_refuses_the_snapshot(tmp_path, broken):
    store = SnapshotStore(tmp_path, keep=5)
    (tmp_path / store.save(1, arrays(), {}, []) / "manifest.json").write_text(broken)
    assert store.newest()[0] is None


def test_a_weight_that_is_not_finite_is_never_written(tmp_path):
    store = SnapshotStore(tmp_path, keep=5)
    with pytest.raises(SnapshotError, match="weights holds a value that is not finite"):
        store.save(1, arrays(float("nan")), {}, ["weights"])
    assert store.names() == []


def test_what_was_left_half_written_neither_counts_nor_disturbs(tmp_path, monkeypatch):
    store = SnapshotStore(tmp_path, keep=5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            store.save(1, arrays(), {}, [])
    assert store.names() == []
    assert store.save(1, arrays(), {}, []) == "000000000001"


def test_a_copy_that_somebody_keeps_beside_them_is_no_snapshot(tmp_path):
    store = SnapshotStore(tmp_path, keep=1)
    (tmp_path / "backup").mkdir()
    (tmp_path / "000000000001-old").mkdir()
    assert store.save(1, arrays(), {}, []) == "000000000001"
    assert store.save(2, arrays(), {}, []) == "000000000002"
    assert store.names() == ["000000000002"]
    assert (tmp_path / "backup").exists()


def test_the_one_just_written_stays_also_where_others_sort_behind_it(tmp_path):
    store = SnapshotStore(tmp_path, keep=1)
    store.save(100, arrays(), {}, [])
    assert store.save(90, arrays(), {}, []) in store.names()


def test_the_snapshots_of_whoever_took_the_run_over_count_first_and_are_not_cleared_away_by_the_older_owner(tmp_path):
    older, newer = (SnapshotStore(tmp_path, keep=2, epoch=epoch) for epoch in (1, 2))
    older.save(500, arrays(), {}, [])
    newer.save(100, arrays(), {}, [])
    for count in (600, 700, 800):
        older.save(count, arrays(), {}, [])
    assert newer.names() == ["e00001-000000000700", "e00001-000000000800", "e00002-000000000100"]
    assert newer.newest()[0].name == "e00002-000000000100"
    newer.save(200, arrays(), {}, [])
    assert newer.names() == ["e00002-000000000100", "e00002-000000000200"]


def test_a_snapshot_that_is_not_let_through_leaves_nothing(tmp_path):
    store = SnapshotStore(tmp_path, keep=5, epoch=3)

    def refuse():
        assert [path.name for path in tmp_path.iterdir()] == [".writing-e00003"]
        raise FencedError("taken over")

    with pytest.raises(FencedError):
        store.save(1, arrays(), {}, [], commit=refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_hundred_snapshots_of_one_position_and_a_hundred_thousand_owners_keep_their_order(tmp_path):
    quiet = SnapshotStore(tmp_path, keep=2, epoch=7)
    for _ in range(102):
        last = quiet.save(100, arrays(), {}, [])
    assert quiet.names() == ["e00007-000000000100-100", "e00007-000000000100-101"]
    assert quiet.newest()[0].name == last == "e00007-000000000100-101"
    for epoch in (99_999, 100_000):
        last = SnapshotStore(tmp_path, keep=2, epoch=epoch).save(50, arrays(), {}, [])
    assert quiet.names() == ["e99999-000000000050", "e100000-000000000050"]
    assert quiet.newest()[0].name == last


def test_what_killed_owners_left_half_written_is_cleared_away_and_one_that_was_not_killed_is_told(tmp_path):
    for name in (".writing", ".writing-e00001", ".writing-e00003"):
        (tmp_path / name).mkdir()
    older, newer = (SnapshotStore(tmp_path, keep=5, epoch=epoch) for epoch in (1, 2))
    asked = []

    def commit():
        asked.append(len(asked))
        if len(asked) == 2:
            raise FencedError("another")
        newer.save(100, arrays(), {}, [])  # while the older owner stands still behind its commit

    with pytest.raises(FencedError, match="another"):
        older.save(100, arrays(), {}, [], commit)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing-e00003", "e00002-000000000100"]
