import numpy as np
import pytest
import torch

from streamctr import feedback
from streamctr.errors import ConfigError
from streamctr.samples import ABSENT, FINAL, LATE, OBSERVED
from streamctr.schema import Funnel, StageConfig

# Root, click, conversion.
SAYS = np.array(
    [
        [0, 0, 0],
        [0, OBSERVED | FINAL, ABSENT],
        [0, OBSERVED, 0],
        [0, 0, LATE],
        [0, 0, FINAL],
        [0, FINAL, ABSENT],
    ],
    np.uint8,
)
LABEL = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]], np.uint8)


def test_observed_and_late_rows_train_and_final_alone_does_not() -> None:
    assert feedback.trains("cross_entropy", SAYS, entire_space=False).tolist() == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_absent_trains_models_with_entire_space_heads() -> None:
    trains_N = feedback.trains("cross_entropy", SAYS, entire_space=True)
    assert np.flatnonzero(trains_N).tolist() == [1, 2, 3, 5]


def test_a_row_weighs_only_on_the_heads_of_the_stages_it_speaks_of() -> None:
    targets = feedback.targets("cross_entropy", SAYS, LABEL, np.ones(len(SAYS), np.float32))
    assert targets.labels_BS.tolist() == [[0, 0], [0, 0], [1, 0], [0, 1], [0, 1], [0, 0]]
    assert targets.given_BS.tolist() == [[0, 0], [1, 0], [1, 0], [0, 1], [0, 0], [0, 0]]
    assert targets.entire_BS.tolist() == [[0, 0], [1, 1], [1, 0], [0, 1], [0, 0], [0, 1]]


def test_cross_entropy_takes_any_observe_and_a_method_that_does_not_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    funnel = Funnel.from_mapping({"view": None, "click": StageConfig(observe="10s")})
    feedback.check("cross_entropy", funnel)
    strict = feedback.Method(OBSERVED, feedback.METHODS["cross_entropy"].weigh, observe_ms=0)
    monkeypatch.setitem(feedback.METHODS, "cross_entropy", strict)
    with pytest.raises(ConfigError, match=r"needs an observe of 0ms, but click\.observe is 10000ms"):
        feedback.check("cross_entropy", funnel)


def test_the_weight_of_a_row_counts_on_every_head_it_speaks_of() -> None:
    targets = feedback.targets("cross_entropy", SAYS[:2], LABEL[:2], np.array([5.0, 2.5], np.float32))
    assert targets.given_BS.tolist() == [[0, 0], [2.5, 0]]
    assert targets.entire_BS.tolist() == [[0, 0], [2.5, 2.5]]


def test_what_a_model_is_told_is_in_32_bits() -> None:
    targets = feedback.targets("cross_entropy", SAYS, LABEL, np.ones(len(SAYS), np.float32))
    assert {targets.labels_BS.dtype, targets.given_BS.dtype, targets.entire_BS.dtype} == {torch.float32}


def test_a_row_trains_if_any_stage_of_many_says_so() -> None:
    says = np.zeros((4, 9), np.uint8)
    says[1, 8], says[2, 4], says[3, 1] = OBSERVED, LATE, FINAL
    assert feedback.trains("cross_entropy", says, entire_space=False).tolist() == [False, True, True, False]
    assert feedback.trains("cross_entropy", says[:0], entire_space=False).shape == (0,)
