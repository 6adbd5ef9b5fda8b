"""The log of a run: one JSON object a line, in a few files of bounded length."""

import json

import pytest

from jobs.rundir import RunDirectory, run_log
from streamctr.errors import DiskFullError


def said(path):
    return [json.loads(line)["number"] for line in path.read_bytes().splitlines()]


def test_a_long_log_gets_a_number_and_five_old_ones_stay(tmp_path):
    path = tmp_path / "log.jsonl"
    with run_log(path, long_bytes=150) as log:  # a line is of about 80 bytes, so each file holds two
        for number in range(16):
            log.info("said", number=number)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", *(f"log.jsonl.{n}" for n in range(1, 6))]
    assert said(path) == [14, 15]
    assert [said(tmp_path / f"log.jsonl.{n}") for n in range(1, 6)] == [[12, 13], [10, 11], [8, 9], [6, 7], [4, 5]]


def test_a_log_goes_on_behind_what_is_there_and_two_may_write_it(tmp_path):
    path = tmp_path / "log.jsonl"
    with run_log(path) as first, run_log(path) as second:
        for number in range(3):
            first.info("said", number=number)
            second.info("said", number=number)
    with run_log(path) as third:
        third.info("said", number=3)
    assert said(path) == [0, 0, 1, 1, 2, 2, 3]


def test_old_logs_are_of_a_run_and_go_with_it(tmp_path):
    with run_log(tmp_path / "log.jsonl", long_bytes=1) as log:
        for number in range(3):
            log.info("said", number=number)
    for name in ("metrics-1.jsonl", "metrics-e00003-0.jsonl"):
        (tmp_path / name).touch()
    RunDirectory(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_by_the_name_of_the_log(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with run_log(tmp_path / "log.jsonl") as log, pytest.raises(DiskFullError, match=r"log.jsonl cannot be written: No"):
        log.info("said", number=1)
