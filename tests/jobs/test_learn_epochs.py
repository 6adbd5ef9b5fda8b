"""`learn --epochs N`: roots of the last bucket are held out, epochs are compared on them, and the best one is kept."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from test_cli import streamctr
from test_halves import ROOT, did, here  # noqa: F401 - the fixture

from connectors.logs import read_samples
from streamctr.samples import FINAL

HELD_OUT = ["2022-04-15T05:22:00Z", "2022-04-15T05:23:00Z"]
"""Events end at 05:24:01; a root's last label is final 50 s behind it: 05:23:00 + 50 s is before that, 05:24:50 not."""
GENTLE = ["--set", "training.lr=0.002", "--set", "tables.lr=0.02"]
"""So that some epochs are better than the one before."""


def test_epochs_end_when_one_is_no_better_and_the_best_one_is_kept(here):  # noqa: F811
    did("join")
    many = did("learn", "--epochs", "30", *GENTLE)
    compared = many["held_out"]
    nll, best = compared["nll"], compared["best"]
    assert compared["roots"] == HELD_OUT
    assert 1 < best == len(nll) - 1 < 29
    assert nll[:best] == sorted(nll[:best], reverse=True)
    assert nll[best] >= nll[best - 1]
    few = did("learn", "--epochs", str(best), "--fresh", *GENTLE)
    assert few["held_out"] == {"roots": HELD_OUT, "nll": nll[:best], "best": best}
    assert few["weights_sha256"] == many["weights_sha256"]
    more = did("learn", "--epochs", str(best + 1), "--fresh", *GENTLE)
    assert more["weights_sha256"] == many["weights_sha256"]


def test_figures_and_lines_are_those_of_the_first_epoch(here):  # noqa: F811
    did("join")
    results, lines = [], []
    for epochs in ("2", "3"):
        results.append(did("learn", "--epochs", epochs, "--fresh", *GENTLE))
        lines.append((here / "runs/ads/metrics.jsonl").read_bytes())
    assert lines[0] == lines[1]
    for key in ("judged", "judged_from", "slices", "slices_from"):
        assert results[0][key] == results[1][key]
    assert results[0]["steps"] < results[1]["steps"]
    assert results[0]["judged"]["click"]["rows"] == 222  # those held out, too


def test_the_summary_and_the_snapshot_tell_the_epochs(here):  # noqa: F811
    did("join")
    _, out, err = streamctr("learn", "ads.yaml", "--epochs", "2", *GENTLE)
    about = json.loads(streamctr("snapshots", "show", "ads.yaml", "--json")[1])["about"]
    nll = about["held_out"]["nll"]
    assert f"epochs    NLL of the roots held out {nll[0]:.4f} {nll[1]:.4f}, epoch 2 is kept" in out
    assert f"epoch 1: NLL {nll[0]:.4f} of the roots held out; best is epoch 1\n" in err
    assert (about["epochs"], about["command"], about["ended"]) == (2, "learn", True)


@pytest.mark.parametrize("kill_before", [12, 27])
def test_killed_in_an_epoch_the_end_is_the_same(here, kill_before):  # noqa: F811
    did("join")
    arguments = ["learn", "ads.yaml", "--epochs", "3", "--set", "snapshots.every_events=150", "--json"]
    whole = json.loads(streamctr(*arguments)[1])
    child = [sys.executable, ROOT / "tests/jobs/halves_child.py", str(kill_before), *arguments, "--fresh"]
    killed = subprocess.run(child, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    code, out, err = streamctr(*arguments)
    assert (code, "going on from snapshot" in err) == (0, True)
    again = json.loads(out)
    for ended in (again, whole):  # whether there are two snapshots of the same place, and so a number, is up to time
        ended |= {"seconds": 0, "snapshot": ended["snapshot"].partition("-")[0]}
    assert again == whole


def test_samples_of_a_join_that_stopped_early_are_judged_to_their_last_row(here):  # noqa: F811
    did("join", "--until", "2022-04-15T05:23:33Z")
    settings = ("metrics.bucket=30s", "metrics.tick=1h", "training.batch=100")
    found = did("learn", "--epochs", "2", *(word for setting in settings for word in ("--set", setting)))
    says = np.concatenate([batch.says for batch in read_samples("runs/ads/samples")])
    assert found["judged"]["click"]["rows"] == (says[:, 1] & FINAL != 0).sum() > 150


def test_other_epochs_and_grown_samples_are_refused(here):  # noqa: F811
    did("join", "--until", "2022-04-15T05:23:30Z")
    did("learn", "--epochs", "2", "--set", "metrics.bucket=30s")
    did("join")
    code, _, err = streamctr("learn", "ads.yaml", "--epochs", "3", "--set", "metrics.bucket=30s")
    assert code == 78
    assert "--epochs: 2 is now 3\n" in err
    assert "rows are now 567\n" in err


@pytest.mark.parametrize(("bucket", "counted"), [("1h", "1, final: 0"), ("3m", "2, final: 1")])
def test_one_bucket_is_too_few_for_epochs(here, bucket, counted):  # noqa: F811
    did("join")
    code, _, err = streamctr("learn", "ads.yaml", "--epochs", "2", "--set", f"metrics.bucket={bucket}")
    assert code == 78
    assert err == (
        "more than one epoch holds out the last metrics.bucket of root time whose labels are all final, and needs an "
        f"earlier one to learn from; buckets here: {counted}. Make metrics.bucket smaller, or take one epoch\n"
    )
