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
        log.truncate(kept * 9)
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
