"""Scores on disk: found by ordinal, cut where a snapshot says, half a message at the end is none."""

import numpy as np
import pytest

from connectors.scores import ScoreLog, read_score
from streamctr.errors import DataError


def scores(first, n):
    ordinal = np.arange(first, first + n)
    return ordinal, np.stack([ordinal, -ordinal], axis=1).astype(np.float32)


def test_a_score_is_found_by_the_ordinal_of_its_row(tmp_path):
    log = ScoreLog(tmp_path / "samples")
    log.write(*scores(0, 3))
    log.write(*scores(10, 2))
    log.close()
    assert read_score(tmp_path / "samples", 11).tolist() == [11, -11]
    assert read_score(tmp_path / "samples", 5) is None
    assert read_score(tmp_path, 0) is None


def test_what_was_written_behind_a_length_is_forgotten(tmp_path):
    log = ScoreLog(tmp_path)
    log.write(*scores(0, 3))
    kept = log.flush()
    log.write(*scores(3, 3))
    log.truncate(kept)
    log.write(*scores(7, 1))
    with pytest.raises(DataError, match="put the file back"):
        log.truncate('[["scores.arrows",9999]]')
    log.close()
    assert read_score(tmp_path, 4) is None
    assert read_score(tmp_path, 7).tolist() == [7, -7]


def test_half_a_message_at_the_end_hides_nothing_before_it(tmp_path):
    log = ScoreLog(tmp_path)
    log.write(*scores(0, 3))
    log.write(*scores(3, 300))
    log.close()
    path = tmp_path / "scores.arrows"
    path.write_bytes(path.read_bytes()[:-50])
    assert read_score(tmp_path, 2).tolist() == [2, -2]
    assert read_score(tmp_path, 200) is None


def test_scores_of_several_owners_are_found_as_far_as_they_are_listed(tmp_path):
    old = ScoreLog(tmp_path, epoch=1)
    old.write(*scores(0, 3))
    kept = old.flush()
    old.write(*scores(3, 1))
    new = ScoreLog(tmp_path, epoch=2)
    new.truncate(kept)
    new.write(*scores(5, 1))
    extent = new.flush()
    old.close()
    new.close()
    assert read_score(tmp_path, 2, extent).tolist() == [2, -2]
    assert read_score(tmp_path, 5, extent).tolist() == [5, -5]
    assert read_score(tmp_path, 3, extent) is None
    assert read_score(tmp_path, 2) is None


def test_a_long_log_goes_on_in_further_files(tmp_path):
    log = ScoreLog(tmp_path, segment_bytes=1)
    for first in (0, 3, 6):
        log.write(*scores(first, 3))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scores-1.arrows", "scores-2.arrows", "scores.arrows",
    ]  # fmt: skip
    assert read_score(tmp_path, 7).tolist() == [7, -7]
