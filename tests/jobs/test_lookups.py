"""Lookup tables of a run: pinned by hash, checked when they are read, and joined as real ones are."""

import csv
import gzip
import hashlib
from pathlib import Path

import numpy as np
import orjson
import pytest

from jobs.console import Call
from jobs.lookups import read_lookups, with_lookup_hashes, without_later_versions
from jobs.replay import Request, replay
from jobs.runfile import RunFile, config_diff, resolved
from streamctr.errors import ConfigError, DataError
from streamctr.hashing import hash_text
from streamctr.schema import parse_instant_ms

KUAIRAND = Path(__file__).parents[3] / "shared/data/kuairand"
ITEMS = "item,brand,price\na,x,1.5\nb,y,\n"
RUN = """
files: {folder}/*.jsonl
key: id
time: t
funnel:
  view: {{}}
  click: {{observe: 10s}}
features:
  id: [item, brand]
  number: {{price: log1p}}
  lookup: {{items: {lookup}}}
model: lr
training: {{batch: 2, threads: 1}}
tables: {{rows: 64}}
metrics: {{slices: [brand]}}
"""


@pytest.fixture
def folder(tmp_path):
    """Three views, the first one clicked and the last one open at the end, and a table of two of their items."""
    times = [parse_instant_ms(f"2026-01-01T0{hour}:00Z") for hour in (1, 2, 3)]
    views = [{"id": k, "t": time_ms, "item": item} for k, (time_ms, item) in enumerate(zip(times, "abc", strict=True))]
    (tmp_path / "view.jsonl").write_bytes(b"".join(orjson.dumps(view) + b"\n" for view in views))
    (tmp_path / "click.jsonl").write_bytes(orjson.dumps({"id": 0, "t": times[0] + 1_000}) + b"\n")
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def written(folder, lookup=None):
    """A run file in the folder, with that lookup."""
    default = f"{{file: {folder}/items.csv, key: item, take: [brand, price]}}"
    path = folder / "run.yaml"
    path.write_text(RUN.format(folder=folder, lookup=lookup or default))
    return path


def versions(folder, *texts):
    listed = ", ".join(texts).format(folder=folder)
    return f"{{key: item, take: [brand, price], versions: [{listed}]}}"


def run(folder, until=None, lookup=None):
    request = Request(written(folder, lookup), until=until, directory=folder / "run")
    return replay(Call((), True), request)[0]


def config_of(folder, lookup=None):
    return RunFile.load(written(folder, lookup)).config


def test_a_run_slices_by_what_its_table_says(folder):
    assert list(run(folder)["slices"]["brand"]) == ["x", "y"]


def test_a_run_slices_by_crosses_of_what_its_table_says(folder):
    path = written(folder)
    crossed = path.read_text().replace("id: [item, brand]", "id: [item]\n  cross: [[item, brand]]")
    path.write_text(crossed.replace("slices: [brand]", "slices: [item*brand]"))
    result, _ = replay(Call((), True), Request(path, directory=folder / "run"))
    assert list(result["slices"]["item*brand"]) == ["a x x", "b x y"]


def test_the_hash_of_what_was_read_stands_in_the_runs_own_run_file(folder):
    run(folder)
    own = RunFile.load(folder / "run" / "run.yaml").config
    assert own.features.lookup["items"].versions[0].sha256 == hashlib.sha256(ITEMS.encode()).hexdigest()


def test_a_run_does_not_go_on_with_another_table(folder):
    run(folder, until="2026-01-01T01:30Z")
    (folder / "items.csv").write_text(ITEMS.replace("1.5", "1.6"))
    with pytest.raises(ConfigError, match=r"cannot go on from snapshot(.|\n)*features.lookup.items.versions: .*sha256"):
        run(folder)
    (folder / "items.csv").write_text(ITEMS)
    assert run(folder)["events"]["view"]["joined"] == 3


def test_a_file_that_is_not_the_declared_one_is_refused(folder):
    found = hashlib.sha256(ITEMS.encode()).hexdigest()
    config = config_of(folder, f"{{file: {folder}/items.csv, sha256: {'0' * 64}, key: item, take: [brand, price]}}")
    assert with_lookup_hashes(config) == config
    with pytest.raises(ConfigError) as raised:
        read_lookups(config)
    assert str(raised.value) == (
        f"{folder}/items.csv is not the declared lookup table: its sha256 is {found}, not {'0' * 64}; "
        "put that file back, or declare this one as a further version, `from` the time at which it holds"
    )


def test_a_table_that_is_not_there_is_said_to_be_so(folder):
    (folder / "items.csv").unlink()
    assert with_lookup_hashes(config_of(folder)) == config_of(folder)
    with pytest.raises(DataError, match=r"there is no file .*items.csv"):
        run(folder)


def test_a_version_may_be_added_from_a_time_that_the_run_has_not_reached(folder):
    (folder / "new.csv").write_text("item,brand,price\na,x,1\nb,z,2\n")
    first, second = "{{file: '{folder}/items.csv'}}", "{{from: 2026-01-01T02:00Z, file: '{folder}/new.csv'}}"
    run(folder, until="2026-01-01T01:30Z", lookup=versions(folder, first))
    both = run(folder, lookup=versions(folder, first, second))
    assert list(both["slices"]["brand"]) == ["x", "z"]


def test_a_version_from_a_time_that_the_run_has_passed_is_refused(folder):
    (folder / "new.csv").write_text("item,brand,price\na,x,1\nb,z,2\n")
    first, second = "{{file: '{folder}/items.csv'}}", "{{from: 2026-01-01T01:00Z, file: '{folder}/new.csv'}}"
    run(folder, until="2026-01-01T01:30Z", lookup=versions(folder, first))
    with pytest.raises(ConfigError, match=r"features.lookup.items.versions"):
        run(folder, lookup=versions(folder, first, second))


def test_where_a_pinned_table_lies_makes_no_difference(folder):
    (folder / "moved.csv").write_text(ITEMS)
    here, there = (
        resolved(with_lookup_hashes(config_of(folder, versions(folder, f"{{{{file: '{{folder}}/{name}.csv'}}}}"))))
        for name in ("items", "moved")
    )
    assert config_diff(here, there) != []
    assert config_diff(without_later_versions(here, 0), without_later_versions(there, 0)) == []


@pytest.mark.skipif(not KUAIRAND.exists(), reason="../shared/data/kuairand is absent")
def test_real_tables_say_of_each_key_what_their_file_says():
    lookup = f"{{file: {KUAIRAND}/video_features_basic_pure.csv.gz, key: video_id, take: [author_id, video_duration]}}"
    text = RUN.format(folder=".", lookup=lookup).replace("[item, brand]", "[video_id, author_id]")
    text = text.replace("price: log1p", "video_duration: none").replace("[brand]", "[author_id]")
    (videos,) = read_lookups(RunFile.parse(text, "run.yaml").config).values()
    with gzip.open(KUAIRAND / "video_features_basic_pure.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))[::-50]
    keys = np.array([hash_text(row["video_id"]) for row in rows], np.uint64)
    found = videos.apply(keys, np.zeros(len(rows), np.int64))
    assert len(rows) > 100
    assert found.ids["author_id"].tolist() == [hash_text(row["author_id"]) for row in rows]
    durations = [float(row["video_duration"] or "nan") for row in rows]
    np.testing.assert_array_equal(found.numbers["video_duration"], durations)
