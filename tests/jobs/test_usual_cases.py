"""The run files that people would want to write, as they stand in the page that collects them."""

import gzip
import re
from pathlib import Path

import orjson
import pytest

from jobs.console import Call
from jobs.kuairand import convert
from jobs.replay import Request, replay

SHARED = Path(__file__).parents[3] / "shared"
PAGE = SHARED / "run-file.md"
START_MS = 1_762_900_000_000

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="../shared/run-file.md is absent")


def wanted(name):
    """The block of the page whose first line is the file's name."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {name}"))


def run(text, name, *sets):
    Path(name).write_text(text)
    result, exit_code = replay(Call(("training.threads=1", *sets), True), Request(Path(name)))
    assert exit_code == 0
    assert result["run"] == f"runs/{name.removesuffix('.yaml')}"
    return result


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data").exists(), reason="../shared/data is absent")
def test_the_first_case_a_public_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert(str(SHARED / "data" / "kuairand"), "data/kuairand")
    result = run(wanted("kuairand.yaml"), "kuairand.yaml", "tables.rows=2^16", "model.towers=[64]")
    assert result["events"]["impression"]["joined"] == 91_805
    assert result["judged"]["click"]["auc"] > 0.68


def ads(n):
    """A day of nested lines: every fifth ad is clicked, every fifth click buys; heartbeats and page views between."""
    for i in range(n):
        imp = {
            "id": f"i{i}",
            "bid": 0.5 + i % 7,
            "slot": i % 3,
            "ad": {"id": i % 11, "advertiser": i % 5, "size": "300x250"},
        }
        ctx = {"page": f"p{i % 13}", "device": "phone", "geo": ["eu", "de"] if i % 2 else "us"}
        yield 20 * i, {"type": "imp", "imp": imp, "ctx": ctx}
        if i % 5 == 0:
            yield 20 * i + 7, {"type": "click", "impression_id": f"i{i}"}
        if i % 25 == 0:
            yield 20 * i + 60, {"type": "purchase", "impression_id": f"i{i}", "order": {"total": 9.99}}
        if i % 10 == 0:
            yield 20 * i + 9, {"type": ("pageview", "heartbeat", "typo")[i // 10 % 3]}


def test_the_second_case_one_log_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("logs").mkdir()
    told = sorted(ads(300), key=lambda row: row[0])
    lines = [orjson.dumps(row | {"ts": START_MS + 1000 * seconds}) + b"\n" for seconds, row in told]
    for part in range(3):
        piece = lines[part * len(lines) // 3 : (part + 1) * len(lines) // 3]
        Path(f"logs/ads-{part}.jsonl.gz").write_bytes(gzip.compress(b"".join(piece)))
    text = wanted("ads.yaml").replace("delayed_feedback: es_dfm", "delayed_feedback: cross_entropy")
    result = run(text, "ads.yaml", "tables.rows=2^10", "model.towers=[8]", "samples=true")
    found = {stage: {name: n for name, n in told.items() if n} for stage, told in result["events"].items()}
    assert found == {
        "imp": {"read": 300, "joined": 300},
        "click": {"read": 60, "joined": 60},
        "purchase": {"read": 12, "joined": 12},
        "(other)": {"read": 30, "skipped": 20, "rejected": 10},
    }
