"""`streamctr data kuairand`: KuaiRand-Pure's tables as event files, one for each stage of the funnel.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos", CIKM 2022. The flags
are the app's own; the times of clicks and conversions are derived from its thresholds: a click is a play of 7 s (or
whatever was played, where the flag says click), a conversion a long view, 18 s or the whole video.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from streamctr.errors import DataError

_LOG: Final = "log_standard_*.csv.gz"
_USERS: Final = "user_features_pure.csv.gz"
_VIDEOS: Final = "video_features_basic_pure.csv.gz"
_USER_FIELDS: Final = ["user_active_degree", "register_days", "fans_user_num"]
_VIDEO_FIELDS: Final = ["author_id", "music_id", "tag", "video_type", "upload_type"]
_ROOT_FIELDS: Final = ["user_id", "video_id", *_VIDEO_FIELDS[:2], "tab", *_VIDEO_FIELDS[2:], "user_active_degree"]
_ROOT_NUMBERS: Final = ["duration_ms", "register_days", "fans_user_num"]
_CLICK_MS: Final = 7_000
_LONG_VIEW_MS: Final = 18_000
_CHUNK_ROWS: Final = 10_000


def convert(source: str | Path, out: str | Path, progress: Callable[[int], None] = lambda _: None) -> dict[str, int]:
    """Write `impression`, `click` and `conversion.jsonl.zst` into `out`; rows sorted by time, duplicates kept.

    Args:
        source: the folder with the log and the tables of users and videos.
        out: a folder, made where there is none.
        progress: told how many events were written since it was last told.

    Returns:
        The number of events of each stage.

    Raises:
        DataError: a table is missing.
    """
    log = _joined(Path(source))
    impression = log.select(["id", "time_ms", *_ROOT_FIELDS, *_ROOT_NUMBERS])
    play_ms, duration_ms = (np.maximum(log[name].to_numpy(), 0) for name in ("play_time_ms", "duration_ms"))
    clicked = log["is_click"].to_numpy() == 1
    converted = clicked & (log["long_view"].to_numpy() == 1)
    click_ms = np.minimum(_CLICK_MS, play_ms)
    whole_ms = np.where(duration_ms == 0, _LONG_VIEW_MS, duration_ms)
    view_ms = np.maximum(click_ms, np.minimum(np.minimum(_LONG_VIEW_MS, whole_ms), play_ms))
    stages = {"impression": impression, "click": _later(log, clicked, click_ms)}
    stages["conversion"] = _later(log, converted, view_ms)
    Path(out).mkdir(parents=True, exist_ok=True)
    return {name: _write(table, Path(out) / f"{name}.jsonl.zst", progress) for name, table in stages.items()}


def _joined(folder: Path) -> Any:
    """The log with its users' and videos' fields and the id of each impression."""
    log = pa.concat_tables([_read(path) for path in _find(folder, _LOG)])
    users = _read(_find(folder, _USERS)[0]).select(["user_id", *_USER_FIELDS])
    videos = _read(_find(folder, _VIDEOS)[0]).select(["video_id", *_VIDEO_FIELDS])
    order = pa.array(np.arange(len(log)))
    log = log.append_column("order", order).join(users, "user_id").join(videos, "video_id").sort_by("order")
    parts = [log[name].cast(pa.string()) for name in ("user_id", "video_id", "time_ms")]
    return log.append_column("id", pc.binary_join_element_wise(*parts, ":")).combine_chunks()


def _find(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise DataError(f"{folder} has no {pattern}; fetch KuaiRand-Pure from https://kuairand.com and name its folder")
    return found


def _read(path: Path) -> Any:
    """One table; tags may be several, so they are text."""
    options = pyarrow.csv.ConvertOptions(column_types={"tag": pa.string()}, strings_can_be_null=True)
    return pyarrow.csv.read_csv(path, convert_options=options)


def _later(log: Any, happened: Any, after_ms: Any) -> Any:
    """Events of a stage: the impression's id, and its time so much later."""
    events = log.select(["id", "time_ms"]).set_column(1, "time_ms", pa.array(log["time_ms"].to_numpy() + after_ms))
    return events.filter(pa.array(happened))


def _write(table: Any, path: Path, progress: Callable[[int], None]) -> int:
    """JSON lines in the order of time, equal times in the order of the log."""
    table = table.take(np.argsort(table["time_ms"].to_numpy(), kind="stable"))
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        for chunk in table.to_batches(max_chunksize=_CHUNK_ROWS):
            rows = chunk.to_pylist()
            file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
            progress(len(rows))
    return len(table)
