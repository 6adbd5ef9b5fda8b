from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

from jobs import demo
from jobs.console import Call
from jobs.rundir import load_run
from jobs.synthetic_data import write
from streamctr.schema import Funnel, StageConfig
from streamctr.synthetic import DAY_MS, Roots, World, WorldConfig

SMALL = WorldConfig(roots=3000, days=2, users=200, items=1000)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_the_files_hold_the_world_sorted_by_time_with_missing_numbers_as_null(tmp_path: Path) -> None:
    told: list[int] = []
    counts = write(str(tmp_path), SMALL, told.append, compress=False)
    roots = next(World(SMALL).chunks())
    impressions = lines_of(tmp_path / "impression.jsonl")
    assert sum(told) == counts["impression"] == len(impressions) == 3000
    assert counts["click"] == roots.click.sum()
    first = impressions[0]
    assert first["id"] == f"{int(roots.id[0]):016x}"
    assert first["time_ms"] == roots.time_ms[0]
    assert (first["user_id"], first["item_id"]) == (f"u{roots.ids_NF[0, 0]}", roots.ids_NF[0, 1])
    assert first["p_click"] == pytest.approx(roots.p_click[0], abs=1e-6)
    ages = [line["age_days"] for line in impressions]
    assert sum(age is None for age in ages) == np.isnan(roots.numbers_NM[:, 4]).sum() > 0
    for stage, count in counts.items():
        lines = lines_of(tmp_path / f"{stage}.jsonl")
        assert len(lines) == count
        assert [line["time_ms"] for line in lines] == sorted(line["time_ms"] for line in lines)
    assert 400 <= (tmp_path / "impression.jsonl").stat().st_size / 3000 <= 450  # bytes a line, as measured for


def test_a_world_written_again_in_the_other_form_does_not_stand_there_twice(tmp_path: Path) -> None:
    (tmp_path / "impression.notes").write_text("kept")
    write(str(tmp_path), SMALL, lambda roots: None, compress=False)
    write(str(tmp_path), SMALL, lambda roots: None)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["click.jsonl.zst", "conversion.jsonl.zst", "impression.jsonl.zst", "impression.notes"]


def test_the_worlds_own_probabilities_are_refused_as_features() -> None:
    with pytest.raises(Exception, match="p_click"):
        load_run(demo.RUN_FILE, ["features.id=[user_id, item_id, category, slot, channel, p_click]"])


def test_the_ceiling_judges_the_roots_behind_day_one_whose_labels_are_final(monkeypatch: pytest.MonkeyPatch) -> None:
    config = WorldConfig(roots=5)
    hour, day = 3_600_000, DAY_MS
    # one before day two; one without, one with a click in time; one clicked late; one too close to the end
    time_ms = np.array([0, day, day + hour, day + 2 * hour, day + 9 * hour])
    clicked, converted = np.array([1, 0, 1, 1, 0], bool), np.array([1, 0, 1, 0, 0], bool)
    roots = Roots(
        id=np.arange(5, dtype=np.uint64),
        time_ms=config.start + time_ms,
        ids_NF=np.zeros((5, 16), np.int64),
        numbers_NM=np.zeros((5, 8)),
        p_click=np.array([0.1, 0.2, 0.9, 0.8, 0.5]),
        p_conversion=np.full(5, 0.5),
        click=clicked,
        conversion=converted,
        click_delay_ms=np.array([1, 0, 1, hour, 0]),
        conversion_delay_ms=np.array([1, 0, 1, 0, 0]),
    )
    monkeypatch.setattr(World, "chunks", lambda world: iter([roots]))
    stages = {"impression": None, "click": StageConfig(observe="10m"), "conversion": StageConfig(observe="6h")}
    found = {name: head.get() for name, head in demo.ceiling(config, Funnel.from_mapping(stages)).items()}
    # final by the newest event, 9 h into day two: clicks of roots 1, 2 and 3 (its click came behind the window)
    assert (found["click"]["rows"], found["click"]["base_rate"]) == (3, 1 / 3)
    assert found["click"]["auc"] == 1.0
    assert (found["conversion|click"]["rows"], found["conversion|click"]["base_rate"]) == (1, 1.0)
    assert (found["click&conversion"]["rows"], found["click&conversion"]["auc"]) == (3, 1.0)


@pytest.fixture
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("same_threads")
def test_learning_beats_standing_still_and_the_world_itself_beats_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = ("world.roots=60000", "world.users=500", "world.items=1000", "world.drift=60", "tables.rows=4096")
    found, exit_code = demo.run(Call(sets, as_json=True))
    assert exit_code == 0
    events = found["learning"]["events"]
    for stage in events.values():
        assert stage["read"] == stage["joined"] + stage["waiting"] > 0
    click = found["auc"]["click"]
    assert click["frozen"] + 0.01 < click["learning"] < click["ceiling"]
    assert click["ceiling"] > 0.75
    world = demo.ceiling(WorldConfig.model_validate(found["world"]), load_run(demo.RUN_FILE, []).config.tree)
    for head, figures in found["auc"].items():
        assert figures["rows"] == world[head].get()["rows"] == found["frozen"]["judged_from"][head]["rows"]
