"""The example on real events: every event accounted for, and figures that a worse pipeline would not reach."""

from pathlib import Path

import pytest
from bench.kuairand import broken, measure

from jobs.kuairand import convert

DATA = Path(__file__).parents[3] / "shared" / "data" / "kuairand"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/kuairand is absent")
def test_the_example_reaches_its_figures_with_one_seed(tmp_path):
    convert(str(DATA), str(tmp_path))
    found = measure(tmp_path, seeds=(0,))
    told = {stage: (counts["read"], counts["duplicate"]) for stage, counts in found["events"].items()}
    assert told == {"impression": (94_784, 2_979), "click": (41_503, 407), "conversion": (29_019, 188)}
    for counts in found["events"].values():
        assert counts["read"] == counts["joined"] + counts["duplicate"]
    assert broken(found) == []
