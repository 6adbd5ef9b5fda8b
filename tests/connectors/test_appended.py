"""Segmented logs: what counts is what was listed, owners leave each other's files alone, and a full disk says so."""

import json
import os

import pytest

from connectors.appended import SegmentedFile, read_extent
from connectors.logs import JsonLines
from streamctr.errors import DataError, DiskFullError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def counted(folder, extent=None):
    """What a reader is given of `metrics`."""
    return b"".join(path.read_bytes()[:size] for path, size in read_extent(folder, "metrics", ".jsonl", extent))


def written(folder, *payloads, epoch=0, extent="", **bounds):
    """A log that went on from an extent and appended; and the new extent."""
    log = SegmentedFile(folder / "metrics.jsonl", epoch, **bounds)
    log.truncate(extent)
    for payload in payloads:
        log.append(payload)
    extent = log.flush()
    log.close()
    return extent


def test_no_file_is_there_before_something_is_written(tmp_path):
    log = SegmentedFile(tmp_path / "made" / "metrics.jsonl", epoch=3)
    assert (log.flush(), names(tmp_path / "made")) == ("[]", [])
    log.append(b"a")
    assert (log.flush(), names(tmp_path / "made")) == ('[["metrics-e00003-0.jsonl",1]]', ["metrics-e00003-0.jsonl"])
    log.close()


def test_a_file_of_segment_bytes_is_followed_by_another_which_begins_with_the_header(tmp_path):
    log = SegmentedFile(tmp_path / "part-0.arrows", segment_bytes=4)
    for payload in (b"ab", b"cd", b"ef"):
        log.append(payload, header=b"H")
    assert json.loads(log.flush()) == [["part-0.arrows", 5], ["part-1.arrows", 3]]
    log.close()
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"Habcd", b"Hef"]


def test_files_are_read_in_the_order_of_their_numbers(tmp_path):
    extent = written(tmp_path, *(b"%x" % number for number in range(12)), segment_bytes=1)
    assert names(tmp_path)[:4] == ["metrics-1.jsonl", "metrics-10.jsonl", "metrics-11.jsonl", "metrics-2.jsonl"]
    assert counted(tmp_path) == counted(tmp_path, extent) == b"0123456789ab"


def test_under_epoch_0_what_came_after_the_extent_is_cut_and_deleted(tmp_path):
    kept = written(tmp_path, b"ab", b"c", segment_bytes=2)
    written(tmp_path, b"d", b"e", b"f", extent=kept, segment_bytes=2)
    assert names(tmp_path) == ["metrics-1.jsonl", "metrics-2.jsonl", "metrics.jsonl"]
    assert written(tmp_path, b"X", extent=kept, segment_bytes=2) == '[["metrics.jsonl",2],["metrics-1.jsonl",2]]'
    assert names(tmp_path) == ["metrics-1.jsonl", "metrics.jsonl"]
    assert counted(tmp_path) == b"abcX"
    assert written(tmp_path, extent="") == "[]"
    assert names(tmp_path) == []


def test_files_of_an_older_owner_are_neither_cut_nor_appended_to(tmp_path):
    old = SegmentedFile(tmp_path / "metrics.jsonl", epoch=3)
    old.append(b"abc")
    kept = old.flush()
    old.append(b"lost")
    new = SegmentedFile(tmp_path / "metrics.jsonl", epoch=4)
    new.truncate(kept)
    new.append(b"d")
    old.append(b"still alive")
    assert old.flush() == '[["metrics-e00003-0.jsonl",18]]'
    extent = new.flush()
    old.close()
    new.close()
    assert extent == '[["metrics-e00003-0.jsonl",3],["metrics-e00004-0.jsonl",1]]'
    assert counted(tmp_path, extent) == b"abcd"
    assert (tmp_path / "metrics-e00003-0.jsonl").read_bytes() == b"abcloststill alive"
    assert counted(tmp_path) == b""  # where nothing is listed, only files of epoch 0 are read


def test_an_owner_goes_on_from_files_that_had_no_epoch_and_from_nothing_leaves_all_there(tmp_path):
    kept = written(tmp_path, b"abc")
    extent = written(tmp_path, b"d", epoch=1, extent=kept)
    assert extent == '[["metrics.jsonl",3],["metrics-e00001-0.jsonl",1]]'
    assert written(tmp_path, b"e", epoch=2) == '[["metrics-e00002-0.jsonl",1]]'
    assert counted(tmp_path, extent) == b"abcd"
    # and back under a lock: behind files of others comes a further one
    extent = written(tmp_path, b"f", extent=extent)
    assert extent == '[["metrics.jsonl",3],["metrics-e00001-0.jsonl",1],["metrics-1.jsonl",1]]'
    assert counted(tmp_path, extent) == b"abcdf"


def test_other_logs_of_the_same_folder_are_not_taken_for_segments(tmp_path):
    for name in ("metrics.jsonl.old", "my-metrics.jsonl", "metrics-extra.jsonl", "metrics-e1-0.jsonl", "letters.jsonl"):
        (tmp_path / name).write_text("other")
    before = names(tmp_path)
    written(tmp_path, extent="")
    assert (counted(tmp_path), names(tmp_path)) == (b"", before)


def test_the_oldest_files_are_deleted_and_what_they_held_is_counted(tmp_path):
    log = SegmentedFile(tmp_path / "metrics.jsonl", segment_bytes=2, most_bytes=5)
    extents = []
    for payload in (b"ab", b"cd", b"ef", b"gh"):
        log.append(payload)
        extents.append(log.flush())
    assert (log.dropped_bytes, names(tmp_path)) == (4, ["metrics-2.jsonl", "metrics-3.jsonl"])
    log.close()
    assert extents[-1] == '[["metrics-2.jsonl",2],["metrics-3.jsonl",2]]'
    # an older snapshot lists files that are gone
    assert json.loads(extents[2]) == [["metrics-1.jsonl", 2], ["metrics-2.jsonl", 2]]
    assert counted(tmp_path, extents[2]) == b"ef"
    assert written(tmp_path, b"xy", extent=extents[2], segment_bytes=2, most_bytes=5) == (
        '[["metrics-2.jsonl",2],["metrics-3.jsonl",2]]'
    )
    assert counted(tmp_path) == b"efxy"


def test_the_file_that_is_written_is_never_deleted_however_long(tmp_path):
    log = SegmentedFile(tmp_path / "metrics.jsonl", most_bytes=1)
    log.append(b"abc")
    assert log.flush() == '[["metrics.jsonl",3]]'
    assert log.dropped_bytes == 0
    log.close()


def test_a_file_that_is_shorter_than_listed_is_refused_and_nothing_was_changed(tmp_path):
    extent = written(tmp_path, b"ab", b"cd", b"ef", segment_bytes=2)
    (tmp_path / "metrics-1.jsonl").write_bytes(b"c")
    words = "metrics-1.jsonl has 1 bytes where 2 were saved with the snapshot; put the file back as it was, or start"
    with pytest.raises(DataError, match=words):
        written(tmp_path, extent=extent)
    with pytest.raises(DataError, match=words):
        read_extent(tmp_path, "metrics", ".jsonl", extent)
    assert len(names(tmp_path)) == 3
    (tmp_path / "metrics-1.jsonl").write_bytes(b"cd")
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match=r"metrics.jsonl has 0 bytes where 2 were saved"):
        written(tmp_path, extent=extent)  # nothing deletes files where no bound is set
    (tmp_path / "metrics-2.jsonl").unlink()
    with pytest.raises(DataError, match=r"metrics-2.jsonl has 0 bytes where 2 were saved"):
        written(tmp_path, extent=extent, most_bytes=1)  # the newest is never deleted


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_full_disk_is_said_by_name_and_closing_adds_nothing(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    before = descriptors()
    log = JsonLines(tmp_path / "metrics.jsonl")
    words = f"{tmp_path}/metrics.jsonl cannot be written: No space left on device; make room and start again"
    with pytest.raises(DiskFullError, match=words) as first:
        log.write([{"a": 1}])
    assert first.value.exit_code == 73
    for again in (log.flush, lambda: log.write([{"a": 2}])):  # half a record must not be listed as one
        with pytest.raises(DiskFullError, match=words):
            again()
    log.close()
    log.close()
    assert descriptors() == before


def test_other_failures_stay_what_they_are(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    log = SegmentedFile(tmp_path / "metrics.jsonl")
    with pytest.raises(IsADirectoryError):
        log.append(b"a")
    log.close()
