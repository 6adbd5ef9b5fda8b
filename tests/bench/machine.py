"""What the machine itself reaches, and the samples/s that it allows: `python -m tests.bench.machine`.

The matrix products of an ESMM's towers, forward and both backwards, are its floor: 6 FLOP a weight and sample, nothing
else counted. The first layers of all towers are one matrix. All figures are medians of rounds in which the
measurements take turns. On a machine that others use, compare with a step measured in the same rounds: `gemm_step`.
Legend: B rows, I inputs, O outputs.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch

ROUNDS: Final = 7
WINDOW_S: Final = 0.04
"""Length of a measurement; short, so that some fall between what else the machine does."""
TABLE_ROWS: Final = 2**22
WIDTH: Final = 16
GATHERED: Final = 2**18
COPIED: Final = 2**26
"""Numbers of 4 bytes."""

Work = Callable[[], object]


def layers(inputs: int, towers: tuple[int, ...], stages: int) -> list[tuple[int, int]]:
    """Inputs and outputs of every matrix product of a forward pass, without the last layers' single columns."""
    return [(inputs, stages * towers[0]), *(pair for pair in pairwise(towers) for _ in range(stages))]


def mflop(inputs: int, towers: tuple[int, ...], stages: int) -> float:
    """MFLOP that one sample costs: forward, gradients of weights and of inputs, at 2 a weight each."""
    return 6e-6 * sum(ins * outs for ins, outs in layers(inputs, towers, stages))


def has_bf16() -> bool:
    """Whether the CPU multiplies bf16 numbers itself."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def gemm_step(batch: int, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> Work:
    """All products of one learning step of a batch, into memory that is there."""
    products: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for ins, outs in shapes:
        x_BI, grad_BO, weight_OI = (
            torch.randn(rows, columns).to(dtype) for rows, columns in ((batch, ins), (batch, outs), (outs, ins))
        )
        products += [
            (x_BI, weight_OI.T, torch.empty_like(grad_BO)),
            (grad_BO.T, x_BI, torch.empty_like(weight_OI)),
            (grad_BO, weight_OI, torch.empty_like(x_BI)),
        ]

    def step() -> None:
        for left, right, out in products:
            torch.mm(left, right, out=out)

    return step


def real_rows(count: int, generator: np.random.Generator) -> torch.Tensor:
    """Rows as ids meet them: 16 fields of 10 to 1e6 values, popular ones often, spread over the table."""
    values = np.geomspace(10, 1e6, WIDTH).astype(np.int64)
    drawn = [np.minimum(generator.random(count // WIDTH) ** 3 * most, most - 1).astype(np.int64) for most in values]
    starts = np.concatenate([[0], np.cumsum(values)[:-1]])
    scattered = generator.permutation(TABLE_ROWS)
    return torch.from_numpy(scattered[(np.stack(drawn, axis=1) + starts).reshape(-1)])


def memory_works() -> dict[str, tuple[Work, float]]:
    """Copying and gathering: what is done, and how much of the figure's unit once is."""
    generator = np.random.default_rng(0)
    table_RW = torch.randn(TABLE_ROWS, WIDTH)
    source = table_RW.reshape(-1)[:COPIED]
    target = torch.empty_like(source)
    uniform = torch.from_numpy(generator.integers(TABLE_ROWS, size=GATHERED))
    real = real_rows(GATHERED, generator)
    out_PW = torch.empty(GATHERED, WIDTH)
    return {
        "copy_gb_per_s": (lambda: target.copy_(source), 2 * 4e-9 * COPIED),
        "gather_uniform_rows_per_s": (lambda: torch.index_select(table_RW, 0, uniform, out=out_PW), GATHERED),
        "gather_real_rows_per_s": (lambda: torch.index_select(table_RW, 0, real, out=out_PW), GATHERED),
    }


def seconds_once(work: Work) -> float:
    """Seconds of one call, over as many as fill a window."""
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < WINDOW_S:
        work()
        count += 1
    return elapsed / count


def bounds(batches: Sequence[int], inputs: int, towers: tuple[int, ...], stages: int) -> dict[str, float]:
    """Rates of copying, gathering and multiplying, and samples/s that the products allow, with torch's own threads.

    Keys: `copy_gb_per_s` (read and written), `gather_uniform_rows_per_s`, `gather_real_rows_per_s` (rows of 16 numbers
    from 2^22), and for each batch and dtype (`fp32`, `bf16` where the CPU has it) `gemm_fp32_gflops_b1024` and
    `bound_fp32_samples_per_s_b1024`; `mflop_per_sample`.
    """
    shapes, cost = layers(inputs, towers, stages), mflop(inputs, towers, stages)
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_bf16() else {})
    memory = memory_works()
    works, amounts = {name: work for name, (work, _) in memory.items()}, {name: of for name, (_, of) in memory.items()}
    for name, dtype in dtypes.items():
        for batch in batches:
            key = f"bound_{name}_samples_per_s_b{batch}"
            works[key], amounts[key] = gemm_step(batch, shapes, dtype), batch
    rounds = [{key: seconds_once(work) for key, work in works.items()} for _ in range(ROUNDS)]
    found = {key: amounts[key] / statistics.median(times[key] for times in rounds) for key in works}
    for key in [key for key in found if key.startswith("bound_")]:
        found[key.replace("bound", "gemm").replace("samples_per_s", "gflops")] = found[key] * cost / 1e3
    return found | {"mflop_per_sample": cost}


def main() -> None:
    for name, value in bounds((256, 1024, 4096), inputs=272, towers=(256, 128), stages=2).items():
        print(f"{name:<36} {value:14,.2f}")


if __name__ == "__main__":
    main()
