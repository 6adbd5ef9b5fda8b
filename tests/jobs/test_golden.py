"""The synthetic world in small: figures that a refactoring may not move. Change them only with the reason beside it."""

import pytest

from jobs.console import Call
from jobs.demo import RUN_FILE
from jobs.replay import Request, replay
from jobs.synthetic_data import write
from streamctr.synthetic import WorldConfig

JOINED = {"impression": 20_000, "click": 1_782, "conversion": 318}
GOLDEN = {  # rows, AUC, normalised entropy, PCOC
    # Histories now stand before numbers in a model's input, so that its first weights are drawn for other inputs; drawn
    # for the same ones, the figures were those of before within 2e-4.
    "click": (20_000, 0.67911, 0.97373, 1.12443),
    "conversion|click": (1_616, 0.60715, 1.00708, 0.84972),
    "click&conversion": (19_834, 0.73125, 1.00855, 1.34892),
}


def test_the_golden_replay_ends_with_its_figures(tmp_path):
    world = WorldConfig(roots=20_000, days=2.0, users=500, items=1000, click_rate=0.1, conversion_rate=0.2)
    write(str(tmp_path), world, lambda _: None)
    settings = (f"files={tmp_path}/*.jsonl.zst", "tables.rows=2^12", "training.threads=1", "snapshots.every=0")
    result, exit_code = replay(Call(settings, True), Request(RUN_FILE, directory=tmp_path / "run"))
    assert exit_code == 0
    assert {stage: counts["joined"] for stage, counts in result["events"].items()} == JOINED
    assert (result["roots"], result["steps"]) == ({"final": 19_834, "open": 166}, 106)
    found = {head: (f["rows"], f["auc"], f["ne"], f["pcoc"]) for head, f in result["judged"].items()}
    assert found == {head: pytest.approx(values, abs=2e-4) for head, values in GOLDEN.items()}
