"""KuaiRand's tables become the events that its description promises."""

import gzip
from collections import Counter
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from jobs.kuairand import convert
from streamctr.errors import DataError

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "kuairand"

LOG = """user_id,video_id,time_ms,is_click,is_like,long_view,play_time_ms,duration_ms,tab
7,5,1650812741500,1,0,1,61802,49866,1
8,5,1650812741000,1,0,0,1184,11933,0
7,6,1650812742000,1,1,1,9000,0,1
7,6,1650812742000,1,1,1,9000,8000,1
9,6,1650812740000,0,1,1,-5,8000,2
9,5,1650812740000,1,0,1,-5,8000,2
"""
USERS = "user_id,user_active_degree,fans_user_num,register_days\n8,,3,4\n7,full_active,150,799\n9,UNKNOWN,0,1\n"
VIDEOS = "video_id,author_id,video_type,upload_type,music_id,tag\n6,,AD,Web,,\n5,734,NORMAL,Kmovie,9155697141,39\n"


def events(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in pa.input_stream(str(path)).read().splitlines()]


def test_made_up_tables_become_events_with_the_stated_times(tmp_path):
    for name, table in (
        ("log_standard_x", LOG),
        ("user_features_pure", USERS),
        ("video_features_basic_pure", VIDEOS),
    ):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(table.encode()))
    told: list[int] = []
    assert convert(str(tmp_path), str(tmp_path / "out"), told.append) == {"impression": 6, "click": 5, "conversion": 4}
    assert sum(told) == 15
    impressions = events(tmp_path / "out" / "impression.jsonl.zst")
    assert [event["id"] for event in impressions] == [
        "9:6:1650812740000",
        "9:5:1650812740000",
        "8:5:1650812741000",
        "7:5:1650812741500",
        "7:6:1650812742000",
        "7:6:1650812742000",
    ]
    assert impressions[3] == {
        "id": "7:5:1650812741500",
        "time_ms": 1650812741500,
        "user_id": 7,
        "video_id": 5,
        "author_id": 734,
        "music_id": 9155697141,
        "tab": 1,
        "tag": "39",
        "video_type": "NORMAL",
        "upload_type": "Kmovie",
        "user_active_degree": "full_active",
        "duration_ms": 49866,
        "register_days": 799,
        "fans_user_num": 150,
    }
    assert [impressions[4][name] for name in ("author_id", "music_id", "tag")] == [None] * 3
    assert impressions[2]["user_active_degree"] is None
    assert [(event["id"], event["time_ms"]) for event in events(tmp_path / "out" / "click.jsonl.zst")] == [
        ("9:5:1650812740000", 1650812740000),  # played for less than nothing: at once
        ("8:5:1650812741000", 1650812742184),  # played for 1,184 ms
        ("7:5:1650812741500", 1650812748500),  # 7 s
        ("7:6:1650812742000", 1650812749000),
        ("7:6:1650812742000", 1650812749000),
    ]
    assert [(event["id"], event["time_ms"]) for event in events(tmp_path / "out" / "conversion.jsonl.zst")] == [
        ("9:5:1650812740000", 1650812740000),
        ("7:6:1650812742000", 1650812750000),  # the whole video of 8 s
        ("7:6:1650812742000", 1650812751000),  # all 9 s played, where no duration is said
        ("7:5:1650812741500", 1650812759500),  # 18 s
    ]


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has no log_standard_\*\.csv\.gz; fetch KuaiRand-Pure"):
        convert(str(tmp_path), str(tmp_path / "out"), lambda _: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not REAL.exists(), reason="../shared/data/kuairand is absent: fetch KuaiRand-Pure to test on it")
def test_the_real_log_gives_its_known_counts(tmp_path):
    counts = convert(str(REAL), str(tmp_path), lambda _: None)
    assert counts == {"impression": 94_784, "click": 41_503, "conversion": 29_019}
    found = {stage: events(tmp_path / f"{stage}.jsonl.zst") for stage in counts}
    repeats = {stage: len(rows) - len({row["id"] for row in rows}) for stage, rows in found.items()}
    assert repeats == {"impression": 2_979, "click": 407, "conversion": 188}
    for rows in found.values():
        times = [row["time_ms"] for row in rows]
        assert times == sorted(times)
    delays = Counter(row["time_ms"] - int(row["id"].split(":")[2]) for row in found["click"])
    assert (delays[0], delays[7_000], max(delays)) == (237, 39_960, 7_000)
    assert len({row["user_id"] for row in found["impression"]}) == 21_184
    assert len({row["video_id"] for row in found["impression"]}) == 5_564
    kinds = {name: {type(row[name]) for row in found["impression"]} for name in found["impression"][0]}
    texts = {"id", "tag", "video_type", "upload_type", "user_active_degree"}
    assert {name for name, kind in kinds.items() if kind - {type(None)} == {str}} == texts
    assert all(kind == {int} for name, kind in kinds.items() if name not in texts)
    assert "is_like" not in kinds
    assert "play_time_ms" not in kinds
