"""Write the synthetic world as event files, one per stage, each sorted by time."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.hashing import U64
from streamctr.synthetic import ID_FIELDS, NUMBER_FIELDS, Roots, World, WorldConfig

STAGES: Final = ("impression", "click", "conversion")
"""What it writes a file of each."""

WORLD: Final = "world."
"""What stands before its settings where those of a run file stand too."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_TEXT_IDS = {"user_id": "u", "device": "model-", "channel": "ch-"}
"""Ids that are written as text; the others are whole numbers, as in logs."""


def apart(sets: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of settings, those of the world, which `world.` stands before, and those of the run file.

    >>> apart(["world.roots=1000", "training.seed=2"])
    (['roots=1000'], ['training.seed=2'])
    """
    sets = list(sets)
    own = [setting.removeprefix(WORLD) for setting in sets if setting.startswith(WORLD)]
    return own, [setting for setting in sets if not setting.startswith(WORLD)]


def write(out: str, config: WorldConfig, progress: Callable[[int], None], *, compress: bool = True) -> dict[str, int]:
    """Write impression, click and conversion files (`.jsonl.zst`, or `.jsonl`) into the folder `out`.

    Args:
        out: is made where it does not exist; files that an earlier call wrote there are replaced.
        config: the world.
        progress: told how many more roots were written, after each chunk.
        compress: with zstd.

    Returns:
        The number of events of each stage.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    children: dict[str, list[tuple[U64, NDArray[np.int64]]]] = {"click": [], "conversion": []}
    with _open(folder, "impression", compress) as file:
        for roots in World(config).chunks():
            file.write(_lines(_impressions(roots)))
            children["click"].append((roots.id[roots.click], roots.click_ms[roots.click]))
            children["conversion"].append((roots.id[roots.conversion], roots.conversion_ms[roots.conversion]))
            progress(len(roots))
    counts = {"impression": config.roots}
    for stage, parts in children.items():
        ids, at_ms = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(at_ms, kind="stable")
        counts[stage] = len(order)
        with _open(folder, stage, compress) as file:
            if len(order):
                file.write(_lines({"id": _quoted(_hex(ids[order])), "time_ms": pa.array(at_ms[order])}))
    return counts


def _open(folder: Path, stage: str, compress: bool) -> Any:
    plain, packed = folder / f"{stage}.jsonl", folder / f"{stage}.jsonl.zst"
    (plain if compress else packed).unlink(missing_ok=True)  # both would be read as one stage
    return pa.output_stream(str(packed if compress else plain), compression="zstd" if compress else None)


def _impressions(roots: Roots) -> dict[str, Any]:
    columns: dict[str, Any] = {"id": _quoted(_hex(roots.id)), "time_ms": pa.array(roots.time_ms)}
    for name, ids in zip(ID_FIELDS, roots.ids_NF.T, strict=True):
        column = pa.array(np.ascontiguousarray(ids))
        columns[name] = _quoted(column, _TEXT_IDS[name]) if name in _TEXT_IDS else column
    for name, numbers in zip(NUMBER_FIELDS, roots.numbers_NM.T, strict=True):
        columns[name] = pa.array(np.ascontiguousarray(numbers), from_pandas=True)  # NaN becomes null
    for name in ("p_click", "p_conversion"):
        columns[name] = pa.array(np.round(getattr(roots, name), 6))
    return columns


def _lines(columns: dict[str, Any]) -> Any:
    """One JSON object a row, as the buffer behind a column of lines."""
    parts: list[Any] = []
    for place, (name, column) in enumerate(columns.items()):
        text = pc.fill_null(pc.cast(column, pa.large_string()), "null")
        parts += [pa.scalar(f'{"," if place else "{"}"{name}":', pa.large_string()), text]
    ending = [pa.scalar("}\n", pa.large_string()), pa.scalar("", pa.large_string())]
    return pc.binary_join_element_wise(*parts, *ending).buffers()[2]


def _quoted(column: Any, prefix: str = "") -> Any:
    """Texts in double quotes; nothing in them needs escaping."""
    text = pc.cast(column, pa.large_string())
    quotes = (pa.scalar(quote, pa.large_string()) for quote in (f'"{prefix}', '"', ""))
    before, behind, between = quotes
    return pc.binary_join_element_wise(before, text, behind, between)


def _hex(ids: U64) -> Any:
    """Sixteen hex digits of each."""
    nibbles_ND = (ids[:, None] >> np.arange(60, -4, -4, dtype=np.uint64)) & np.uint64(15)
    digits_ND = np.ascontiguousarray(_HEX[nibbles_ND])
    offsets = pa.array(np.arange(0, digits_ND.size + 1, 16, dtype=np.int64))
    return pa.LargeStringArray.from_buffers(len(ids), offsets.buffers()[1], pa.py_buffer(digits_ND))
