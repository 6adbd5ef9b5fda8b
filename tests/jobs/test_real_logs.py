"""Public logs as they were published, read by configuration alone; what must come out is computed from the files."""

import csv
import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from jobs.console import Call
from jobs.replay import Request, replay

DATA = Path(__file__).parents[3] / "shared" / "data"
TALKINGDATA = DATA / "talkingdata" / "clicks_before_20171109.csv.gz"
KUAIRAND = DATA / "kuairand"

CLICKS = """
files: {path}
key: [ip, app, device, os, channel, click_time]
time: click_time
user: [ip, device, os]
lateness: 3d                # the file is in no order
remember: 2d
funnel:
  click: {{}}
  install: {{at: attributed_time, observe: {window}, window: {window}}}
outcomes: [is_attributed]
features:
  id: [app, device, os, channel]
  time: [hour]
  history: {{clicked: {{of: install, take: [app], last: 5}}}}
model: lr
training: {{threads: 1}}
tables: {{rows: 2^12}}
"""
WINDOWS_S = {"1m": 60, "10m": 600, "1h": 3600, "6h": 21_600, "24h": 86_400}


def read(path):
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def run(text, directory):
    path = directory / "run.yml"
    path.write_text(text)
    result, exit_code = replay(Call((), True), Request(path, directory=directory / "run"))
    assert exit_code == 0
    return result


def seconds(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.skipif(not TALKINGDATA.exists(), reason="../shared/data/talkingdata is absent")
@pytest.mark.parametrize("window", WINDOWS_S)
def test_clicks_join_their_installs_within_each_window_as_the_file_implies(tmp_path, window):
    result = run(CLICKS.format(path=TALKINGDATA, window=window), tmp_path)
    parts, rows = ("ip", "app", "device", "os", "channel", "click_time"), read(TALKINGDATA)
    clicked = Counter(tuple(row[part] for part in parts) for row in rows)
    installs = [row for row in rows if row["attributed_time"]]
    delays = [seconds(row["attributed_time"]) - seconds(row["click_time"]) for row in installs]
    within = sum(delay < WINDOWS_S[window] for delay in delays)
    click, install = result["events"]["click"], result["events"]["install"]
    assert (click["read"], click["joined"], click["duplicate"]) == (len(rows), len(clicked), len(rows) - len(clicked))
    assert len(delays) == install["read"] == 168
    assert (install["joined"], install["expired"]) == (within, len(delays) - within)
    end = max(seconds(row["attributed_time"]) for row in installs)
    assert end > max(seconds(row["click_time"]) for row in rows)
    final = sum(
        seconds(row["click_time"]) + WINDOWS_S[window] <= end and delay < WINDOWS_S[window]
        for row, delay in zip(installs, delays, strict=True)
    )
    judged = result["judged"]["install"]
    assert round(judged["rows"] * judged["base_rate"]) == final
    if window == "24h":
        assert (within, final) == (168, 127)


LOOKED_UP = """
  lookup:
    users:
      file: {data}/user_features_pure.csv.gz
      key: user_id
      take: [user_active_degree, register_days, fans_user_num]
    videos:
      file: {data}/video_features_basic_pure.csv.gz
      key: video_id
      take: [author_id, music_id, video_type, upload_type, tag]
"""
FEATURES = """
features:
  id:      [user_id, video_id, author_id, music_id, tab, video_type, upload_type, user_active_degree]
  bag:     [tag]
  number:  {duration_ms: log1p, register_days: log1p, fans_user_num: log1p}
  cross:   [[tab, video_type]]
  time:    [hour, weekday]
  history: {clicked: {of: click, take: [video_id, author_id], last: 50}}
"""
REST = """
time: {field: time_ms, zone: Asia/Shanghai}
user: user_id
model: {name: esmm, towers: [32]}
training: {threads: 1}
tables: {rows: 2^14, width: 8}
metrics: {from: 2022-04-26T00:00Z, slices: [tab, upload_type]}
"""
USER_COLUMNS = ("user_active_degree", "register_days", "fans_user_num")
VIDEO_COLUMNS = ("author_id", "music_id", "video_type", "upload_type", "tag")


@pytest.mark.slow
@pytest.mark.skipif(not KUAIRAND.exists(), reason="../shared/data/kuairand is absent")
def test_raw_tables_with_lookups_give_the_bits_of_event_files_with_everything_inside(tmp_path):
    raw, inside = tmp_path / "raw", tmp_path / "inside"
    raw.mkdir()
    write_events(inside)
    funnel = "funnel:\n  impression: {}\n"
    flags = (
        "  click: {when: is_click, delay: 7s, observe: 10s}\n"
        "  conversion: {when: [is_click, long_view], delay: 18s, observe: 30s}\n"
    )
    stages = "  click: {observe: 10s}\n  conversion: {observe: 30s}\n"
    looked_up = run(
        f"files: {KUAIRAND}/log_standard_*.csv.gz\nkey: [user_id, video_id, time_ms]\n{funnel}{flags}"
        f"{FEATURES}{LOOKED_UP.format(data=KUAIRAND)}{REST}",
        raw,
    )
    given = run(f"files: {inside}/*.jsonl\nkey: id\n{funnel}{stages}{FEATURES}{REST}", inside)
    assert looked_up["events"] == given["events"]
    assert looked_up["weights_sha256"] == given["weights_sha256"]
    for name in ("roots", "judged", "judged_from", "slices", "slices_from", "steps"):
        assert looked_up[name] == given[name]
    assert looked_up["events"]["impression"]["joined"] == 91_805
    assert looked_up["judged_from"]["click"]["auc"] > 0.7


def write_events(folder):
    """One JSON-lines file a stage, with the columns of users and videos inside each impression."""
    folder.mkdir()
    users = {row["user_id"]: row for row in read(KUAIRAND / "user_features_pure.csv.gz")}
    videos = {row["video_id"]: row for row in read(KUAIRAND / "video_features_basic_pure.csv.gz")}
    with (
        open(folder / "impression.jsonl", "wb") as impressions,
        open(folder / "click.jsonl", "wb") as clicks,
        open(folder / "conversion.jsonl", "wb") as conversions,
    ):
        for path in sorted(KUAIRAND.glob("log_standard_*.csv.gz")):
            for row in read(path):
                time_ms = int(row["time_ms"])
                key = {"id": f"{row['user_id']}:{row['video_id']}:{row['time_ms']}"}
                event = key | {"time_ms": time_ms, "tab": int(row["tab"]), "duration_ms": int(row["duration_ms"])}
                event |= {name: int(row[name]) for name in ("user_id", "video_id")}
                event |= {name: users.get(row["user_id"], {}).get(name) or None for name in USER_COLUMNS}
                event |= {name: videos.get(row["video_id"], {}).get(name) or None for name in VIDEO_COLUMNS}
                impressions.write(orjson.dumps(event) + b"\n")
                if row["is_click"] == "1":
                    clicks.write(orjson.dumps(key | {"time_ms": time_ms + 7_000}) + b"\n")
                    if row["long_view"] == "1":
                        conversions.write(orjson.dumps(key | {"time_ms": time_ms + 18_000}) + b"\n")
