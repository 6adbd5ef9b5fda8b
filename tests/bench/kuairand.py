"""`make kuairand`: what the models reach on KuaiRand, seed by seed, against the bounds that they must keep.

Prints a table for people and one JSON line; ends with 1 when a bound is broken.
"""

import json
import sys
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from jobs.console import Call
from jobs.kuairand import convert
from jobs.replay import Request, replay

EXAMPLE, EXAMPLE_LR = Path("jobs/examples/kuairand.yaml"), Path("jobs/examples/kuairand-lr.yaml")
LR = ("model=lr", "tables.lr=0.1", "training.batch=64")
RUNS = {"lr, five ids": (EXAMPLE_LR, ()), "lr": (EXAMPLE, LR), "esmm": (EXAMPLE, ())}
LATER = "2022-04-27T16:00Z"
PCOC = {"0": (0.9, 1.1), "1": (0.95, 1.05), "2": (0.95, 1.05), "4": (0.95, 1.05)}


def run(folder, example, sets, frozen=None):
    """One replay of an example on the event files in `folder`; what `--json` prints."""
    settings = (f"files={folder}/*.jsonl.zst", "snapshots.every=0", *sets)
    request = Request(example, frozen=frozen, directory=Path(folder) / "run", fresh=True)
    result, exit_code = replay(Call(settings, True), request)
    assert exit_code == 0
    return result


def measure(folder, seeds):
    """Figures of all runs over the seeds: click AUC, PCOC by tab, and what learning on after `LATER` is worth."""
    found = {"auc": {}, "pcoc": [], "later": {"learning": [], "frozen": []}}
    for name, (example, sets) in RUNS.items():
        runs = [run(folder, example, (*sets, f"training.seed={seed}")) for seed in seeds]
        found["auc"][name] = [one["judged_from"]["click"]["auc"] for one in runs]
        if name == "esmm":
            slices = [one["slices_from"]["tab"] for one in runs]
            found["pcoc"] = [{tab: values[tab]["click"]["pcoc"] for tab in PCOC} for values in slices]
            found["events"] = runs[0]["events"]
    for kind, frozen in (("learning", None), ("frozen", LATER)):
        for seed in seeds:
            later = run(folder, EXAMPLE, (f"training.seed={seed}", f"metrics.from={LATER}"), frozen)
            found["later"][kind].append(later["judged_from"]["click"]["auc"])
    return found


def broken(found):
    """The bounds that these figures break, in words."""
    auc = {name: mean(values) for name, values in found["auc"].items()}
    gain = mean(found["later"]["learning"]) - mean(found["later"]["frozen"])
    faults = [
        (auc["lr, five ids"] < 0.705, f"lr on five ids: AUC {auc['lr, five ids']:.4f} is below .705"),
        (auc["esmm"] < 0.717, f"esmm: AUC {auc['esmm']:.4f} is below .717"),
        (auc["esmm"] - auc["lr"] < 0.004, f"esmm is only {auc['esmm'] - auc['lr']:.4f} above lr, not .004"),
        (gain < 0.010, f"learning on is worth only {gain:.4f} after {LATER}, not .010"),
    ]
    for pcoc in found["pcoc"]:
        faults += [
            (not low <= pcoc[tab] <= high, f"PCOC of tab {tab} is {pcoc[tab]:.3f}, not {low} to {high}")
            for tab, (low, high) in PCOC.items()
        ]
    return [words for fault, words in faults if fault]


def main():
    """Convert, measure three seeds, print."""
    with TemporaryDirectory() as folder:
        convert(sys.argv[1], folder)
        found = measure(folder, (0, 1, 2))
    print("\n| click AUC from 26 April 00:00 UTC on | seeds 0, 1, 2 | mean |\n|---|---|---|")
    later = {f"esmm from 27 April 16:00 UTC on, {kind}": values for kind, values in found["later"].items()}
    for name, values in {**found["auc"], **later}.items():
        print(f"| {name} | {' · '.join(f'{value:.4f}' for value in values)} | {mean(values):.4f} |")
    print("| esmm, click PCOC in tabs 0, 1, 2, 4 |", end="")
    print(" · ".join(", ".join(f"{pcoc[tab]:.3f}" for tab in PCOC) for pcoc in found["pcoc"]), "| |\n")
    faults = broken(found)
    print(json.dumps(found | {"broken": faults}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
