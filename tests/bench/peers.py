"""Ours beside the field's peers: `python -m tests.bench.peers [ENVIRONMENT] [--quick] [--only PART ...]`.

Makes an environment of its own, where torch is one that torchrec works with, and measures everything in it, our
learner too: parts take turns window by window, and what is compared is the median of the ratios of single rounds. Two
threads each, or with `--one-thread` one, by CPU time. Prints a table and one JSON line; ends with 1 where a ratio
misses what is wanted.

What favours the peers: their tensors are made beforehand, with ids as row numbers, where ours hashes within its step;
river is told the labels and reads impressions alone.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from tests.bench.peers_rounds import THREADS, Ratio

PACKAGES = (
    *("torch==2.13.0", "fbgemm-gpu-cpu==1.8.0", "tensordict", "torchmetrics==1.0.3", "pyre-extensions", "iopath"),
    *("tqdm", "deepctr-torch==0.3.0", "nextrec==0.6.14", "river"),
)
WITHOUT_DEPENDENCIES = ("torchrec==1.8.0",)
"""Its dependencies would bring a CUDA build of fbgemm over the CPU's."""
OVERRIDES = ("numpy>=2", "pandas>=2", "pyarrow>=18", "scipy>=1.14", "torch==2.13.0")
"""nextrec pins older ones, but works with these."""
UNLOCKED = ("torch", "triton", "nvidia", "cuda")
"""What the lock file pins for another torch."""
WANTED = {
    **{"step b256": 1.3, "step b1024": 1.1, "step b4096": 0.97},
    **{"step bf16 b256": 1.6, "step bf16 b1024": 1.6, "step bf16 b4096": 1.6},
    **{"of bound b1024": 0.6, "of bound b4096": 0.7},
    **{"deepctr-torch fit": 20.0, "deepctr-torch fit 50k": 1.5},
    **{"ragged of padded": 3.0, "deepctr-torch DIN 50k": 5.0},
    **{"river esmm": 1.0, "river lr": 4.0},
}
WANTED_AT_MOST = {"auc distance click": 5e-4, "auc distance click & conversion": 5e-4}
BUSY = 0.1
"""Cores that others may use; beyond that, whoever waits more often for all its threads is slowed more."""
Figures = dict[str, float]
Ratios = dict[str, Ratio]


def environment(folder: Path) -> Path:
    """The environment's Python; made by uv when it is not there, or is not what is wanted any more."""
    python, made = folder / "bin" / "python", folder / ".made"
    lock = Path("requirements.lock").read_text().splitlines()
    kept = [line for line in lock if not line.startswith(UNLOCKED)]
    recipe = "\n".join([*PACKAGES, *WITHOUT_DEPENDENCIES, *OVERRIDES, *kept])
    if made.exists() and made.read_text() == recipe:
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "uv"
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
    (folder / "overrides.txt").write_text("\n".join(OVERRIDES))
    (folder / "constraints.txt").write_text("\n".join(kept))
    backend = os.environ.get("TORCH_BACKEND")
    install = [uv, "pip", "install", "-q", "--python", str(python), *(["--torch-backend", backend] if backend else [])]
    rules = ["--overrides", f"{folder}/overrides.txt", "-c", f"{folder}/constraints.txt"]
    print(f"making {folder}: some gigabytes", file=sys.stderr)
    subprocess.run([*install, *rules, *PACKAGES, "-r", "pyproject.toml"], check=True)
    subprocess.run([*install, "--no-deps", *WITHOUT_DEPENDENCIES], check=True)
    made.write_text(recipe)
    return python


def steps(quick: bool, folder: Path) -> tuple[Ratios, Figures]:
    from tests.bench.peers_steps import step_rounds
    from tests.bench.peers_world import make_world

    world = make_world(2**16 if quick else 2**18)
    ratios: Ratios = {}
    rates: Figures = {}
    for batch in (256, 1024, 4096):
        found = step_rounds(world, batch, window=2**13, rounds=8 if quick else 30)
        peer = found.fastest(["torchrec", "fbgemm"])
        ratios |= {f"step b{batch}": found.ratio("ours", peer), f"of bound b{batch}": found.ratio("ours", "gemm fp32")}
        if "ours bf16" in found.rates:
            ratios[f"step bf16 b{batch}"] = found.ratio("ours bf16", peer)
            ratios[f"of bf16 bound b{batch}"] = found.ratio("ours bf16", "gemm bf16")
        rates |= {f"{name} b{batch}": found.median(name) for name in found.rates}
    return ratios, rates


def fits(quick: bool, folder: Path) -> tuple[Ratios, Figures]:
    from tests.bench.peers_fits import fit_rounds
    from tests.bench.peers_world import make_world

    found = fit_rounds(make_world(2**16), folder, rounds=2 if quick else 5, nextrec=not quick)
    peers = [name for name in found.rates if name != "ours"]
    ratios = {name.replace(" 50k", "") + " fit" + " 50k" * ("50k" in name): found.ratio("ours", name) for name in peers}
    return ratios, {f"{name} fit": found.median(name) for name in found.rates}


def din(quick: bool, folder: Path) -> tuple[Ratios, Figures]:
    from tests.bench.peers_din import din_rounds
    from tests.bench.peers_world import make_world

    found = din_rounds(make_world(2**15, histories=True), rounds=3 if quick else 7, large=not quick)
    theirs = [name for name in found.rates if name.startswith("deepctr")]
    ratios = {name: found.ratio("clicks", name) for name in theirs}
    ratios |= {f"two towers of {name}": found.ratio("ragged", name) for name in theirs}
    ratios["ragged of padded"] = found.ratio("ragged", "padded")
    return ratios, {f"DIN {name}": found.median(name) for name in found.rates}


def river(quick: bool, folder: Path) -> tuple[Ratios, Figures]:
    from tests.bench.peers_river import river_rounds

    found = river_rounds(folder, rounds=3 if quick else 7)
    ratios = {f"river {model}": found.ratio(f"pipeline {model}", "river") for model in ("esmm", "lr")}
    return ratios, {name: found.median(name) for name in found.rates}


def machine(quick: bool, folder: Path) -> tuple[Ratios, Figures]:
    from tests.bench.machine import bounds
    from tests.bench.peers_world import INPUTS, TOWERS

    return {}, bounds((256, 1024, 4096), INPUTS, TOWERS, stages=2)


def auc(quick: bool, folder: Path) -> tuple[Ratios, Figures]:
    from tests.bench.peers_auc import auc_distances
    from tests.bench.peers_steps import can_bf16
    from tests.bench.peers_world import make_world

    if not can_bf16():
        return {}, {}
    found = auc_distances(make_world(2**17 if quick else 1_000_000))
    distances = {f"auc {name}": Ratio(value, value) for name, value in found.items() if name.startswith("distance")}
    return distances, {f"auc {name}": value for name, value in found.items() if not name.startswith("distance")}


PARTS: dict[str, Callable[[bool, Path], tuple[Ratios, Figures]]] = {
    **{"machine": machine, "steps": steps, "fits": fits, "din": din, "river": river, "auc": auc}
}


def cpu_seconds() -> tuple[float, float]:
    """CPU seconds that the whole machine and this process have used; both 0 where the system does not say."""
    own = sum(os.times()[:4])
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0, 0.0
    user, nice, system, _, _, *interrupts = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(interrupts[:3])) / os.sysconf("SC_CLK_TCK"), own


def missed(ratios: Ratios) -> list[str]:
    """What was measured and is not as wanted."""
    found = {name: ratio.median for name, ratio in ratios.items()}
    low = [name for name, least in WANTED.items() if found.get(name, least) < least]
    return low + [name for name, most in WANTED_AT_MOST.items() if found.get(name, most) > most]


def report(ratios: Ratios, rates: Figures) -> None:
    """The table."""
    for name, value in rates.items():
        print(f"{name:<36} {value:16,.4g}" if value < 100 else f"{name:<36} {value:16,.0f}")
    print(f"{'ratio':<36} {'of rounds':>16} {'of best windows':>16}")
    for name, (value, best) in ratios.items():
        least, most = WANTED.get(name), WANTED_AT_MOST.get(name)
        wanted = f"at least {least:g}" if least else f"at most {most:g}" if most else ""
        verdict = "MISSED" if name in missed(ratios) else ""
        print(f"{name:<36} {value:16,.4f} {best:16,.4f}  {wanted:<16} {verdict}".rstrip())


def inside(parts: list[str], quick: bool) -> int:
    """Measure; 1 where something is missed."""
    import torch

    torch.set_num_threads(THREADS)
    ratios: Ratios = {}
    rates: Figures = {}
    before, start = cpu_seconds(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        for part in parts:
            print(f"{part} ...", file=sys.stderr, flush=True)
            folder = Path(name) / part
            folder.mkdir()
            more_ratios, more_rates = PARTS[part](quick, folder)
            ratios, rates = ratios | more_ratios, rates | more_rates
    everybody, own = (after - earlier for after, earlier in zip(cpu_seconds(), before, strict=True))
    others = (everybody - own) / (time.perf_counter() - start)
    report(ratios, rates)
    if "steps" in parts and not any("bf16" in name for name in ratios):
        print("bf16 is left out: the CPU has none, or training has no `precision`")
    if others > BUSY and THREADS > 1:
        print(f"others used {others:.2f} cores meanwhile: do not trust ratios, who waits for threads is slowed more")
    about = {"torch": torch.__version__, "threads": THREADS, "quick": quick, "cores_of_others": round(others, 2)}
    wanted = {"missed": missed(ratios), "wanted": WANTED, "wanted_at_most": WANTED_AT_MOST}
    figures = {
        "ratios": {name: round(ratio.median, 4) for name, ratio in ratios.items()},
        "ratios_of_best": {name: round(ratio.best, 4) for name, ratio in ratios.items()},
        "rates": {name: round(value, 4) for name, value in rates.items()},
    }
    print(orjson.dumps({**figures, **wanted, **about}).decode())
    return int(bool(missed(ratios)))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("environment", nargs="?", type=Path, default=Path(".venv-peers"))
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--one-thread", action="store_true", help="by CPU time: for a machine that others use too")
    parser.add_argument("--auc", action="store_true", help="also AUC of bf16 towers beside fp32's, over 1e6 samples")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts alone")
    given = parser.parse_args()
    parts = given.only or [part for part in PARTS if part != "auc" or given.auc]
    if Path(sys.prefix).resolve() == given.environment.resolve():
        return inside(parts, given.quick)
    python = environment(given.environment)
    threads = {
        "OMP_NUM_THREADS": "1" if given.one_thread else "2",
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "6000"),
    }
    command = [str(python), "-m", "tests.bench.peers", *sys.argv[1:]]
    return subprocess.run(command, env=os.environ | threads, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
