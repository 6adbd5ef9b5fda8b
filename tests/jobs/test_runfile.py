"""The run file: what it must hold, what its mistakes look like, what its copy says."""

import pytest
import yaml

from jobs.mistakes import configured
from jobs.runfile import RunFile, config_diff, resolved, resolved_yaml
from jobs.yamlmarks import MistakesError
from streamctr.synthetic import WorldConfig

ADS = """\
files: data/ads/*.jsonl
key: id
time: {field: ts, zone: Asia/Shanghai}
user: user
funnel:
  imp: {}
  click:    {observe: 10m}
  purchase: {observe: 1h, window: 7d}
features:
  id: [user, item, page]
  number: {price: log1p}
  time: [hour]
  history: {clicked: {of: click, take: [item], last: 20}}
model: esmm
"""


def refusal(text, *overrides):
    with pytest.raises(MistakesError) as caught:
        RunFile.parse(text, "ads.yaml", overrides)
    assert caught.value.exit_code == 78
    return str(caught.value)


def edited(old, new):
    assert ADS.count(old) == 1
    return ADS.replace(old, new)


def only(text, *overrides):
    """The refusal of a file with one mistake, without its last line."""
    said = refusal(text, *overrides)
    assert said.endswith("\n\n1 mistake; nothing was run.")
    return said.removesuffix("\n\n1 mistake; nothing was run.")


def test_the_run_file_is_typed_with_its_defaults():
    config = RunFile.parse(ADS, "ads.yaml").config
    assert config.files.paths == ("data/ads/*.jsonl",)
    assert (config.lateness, config.orphan_wait, config.remember) == (60_000, 10_000, 3_600_000)
    assert [(s.name, s.parent, s.observe_ms, s.window_ms) for s in config.tree.stages] == [
        ("imp", -1, 0, 0),
        ("click", 0, 600_000, 600_000),
        ("purchase", 1, 3_600_000, 604_800_000),
    ]
    assert config.features.number["price"].transform == "log1p"
    assert (config.model.name, config.training.seed, config.samples) == ("esmm", 0, False)
    assert (config.snapshots.every, config.snapshots.keep) == (300_000, 5)


def test_an_unknown_key_gets_its_place_and_the_nearest_word():
    assert refusal(edited("click:    {observe: 10m}", "click:    {after: imp, observ: 10m}")) == (
        'ads.yaml:7:26  unknown key "observ" in funnel.click\n'
        "   7 |   click:    {after: imp, observ: 10m}\n"
        '     |                          ^^^^^^ did you mean "observe"?\n'
        "\n"
        "1 mistake; nothing was run."
    )


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file():
    text = edited("key: id", "kye: id").replace("model: esmm", "model: esm")
    assert refusal(text, "training.bach=64") == (
        '--set training.bach=64  unknown key "bach" in training\n'
        "     | --set training.bach=64\n"
        '     |                ^^^^ did you mean "batch"?\n'
        "\n"
        'ads.yaml:2:1  unknown key "kye"\n'
        "   2 | kye: id\n"
        '     | ^^^ did you mean "key"?\n'
        "\n"
        'ads.yaml:14:8  "esm" is not a value of model\n'
        "  14 | model: esm\n"
        '     |        ^^^ did you mean "esmm"?\n'
        "\n"
        "3 mistakes; nothing was run."
    )


def test_a_missing_key_points_at_what_should_hold_it():
    assert only(edited("of: click, ", "")) == (
        'ads.yaml:13:13  missing key "of" in features.history.clicked\n'
        "  13 |   history: {clicked: {take: [item], last: 20}}\n"
        "     |             ^^^^^^^"
    )
    assert only(edited("key: id\n", "")) == (
        'ads.yaml:1:1  missing key "key"\n   1 | files: data/ads/*.jsonl\n     | ^^^^^^^^^^^^^^^^^^^^^^^'
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "model: esmm",
            "lateness: 5\nmodel: esmm",
            'ads.yaml:14:11  lateness: "5" is not a duration; write a whole number and ms, s',
        ),
        ("model: esmm", "users: many\nmodel: esmm", 'ads.yaml:14:8  users wants a whole number, not "many"'),
        ("model: esmm", "users: 0\nmodel: esmm", 'ads.yaml:14:8  users wants 1 or more, not "0"'),
        ("model: esmm", "samples: maybe\nmodel: esmm", 'ads.yaml:14:10  samples wants true or false, not "maybe"'),
        ("model: esmm", "lateness:\nmodel: esmm", "ads.yaml:14:1  lateness has no value"),
        ("model: esmm", "training: {lr: -1}\nmodel: esmm", 'ads.yaml:14:16  training.lr wants more than 0, not "-1"'),
        ("model: esmm", "training: [64]\nmodel: esmm", "ads.yaml:14:1  training wants a mapping, not a list"),
        ("model: esmm", "training: {base_rate: {clik: .1}}\nmodel: esmm", 'ads.yaml:14:24  "clik" is no head'),
        (
            "model: esmm",
            "metrics: {from: 2022-04-26}\nmodel: esmm",
            'metrics.from: "2022-04-26" has no offset; add Z for UTC',
        ),
        (
            "model: esmm",
            "metrics: {slices: [pages]}\nmodel: esmm",
            'ads.yaml:14:20  metrics.slices: "pages" is no id or time feature',
        ),
        (
            "model: esmm",
            "tables: {shared: {itm: ad}}\nmodel: esmm",
            'ads.yaml:14:19  tables.shared: "itm" is no id or time feature',
        ),
        (
            "model: esmm",
            "tables: {sizes: {itm: 9}}\nmodel: esmm",
            'ads.yaml:14:18  tables.sizes: "itm" is no table that a feature uses',
        ),
        ("Asia/Shanghai", "Asia/Shangai", 'ads.yaml:3:25  time.zone: "Asia/Shangai" is not an IANA time zone'),
        ("price: log1p", "price: log2", 'ads.yaml:11:19  "log2" is not a value of features.number.price'),
        ("[hour]", "[hours]", 'ads.yaml:12:10  "hours" is not a value of features.time[0]'),
        ("last: 20", "last: 0", 'ads.yaml:13:54  features.history.clicked.last wants 1 or more, not "0"'),
    ],
)
def test_a_value_that_cannot_be_used_is_shown_with_what_is_wanted(old, new, said):
    assert said in refusal(edited(old, new))


def test_a_window_shorter_than_observe_is_told_in_its_own_words():
    assert only(edited("{observe: 10m}", "{observe: 10m, window: 5m}")) == (
        "ads.yaml:7:36  click.window 5m is shorter than click.observe 10m: the label would be final before it is "
        "observed; set window to 10m or more\n"
        "   7 |   click:    {observe: 10m, window: 5m}\n"
        "     |                                    ^^"
    )


def test_a_stage_follows_one_that_stands_above_it():
    assert only(edited("{observe: 1h,", "{after: clik, observe: 1h,")) == (
        'ads.yaml:8:21  purchase.after: "clik" is not a stage above purchase\n'
        "   8 |   purchase: {after: clik, observe: 1h, window: 7d}\n"
        '     |                     ^^^^ did you mean "click"?'
    )


def test_the_root_has_no_windows_and_other_stages_need_theirs():
    assert only(edited("imp: {}", "imp: {observe: 1s}")) == (
        "ads.yaml:6:9  imp is the root, the event that is scored: it takes no observe\n"
        "   6 |   imp: {observe: 1s}\n"
        "     |         ^^^^^^^ take it out; the root takes key, time, called and value"
    )
    assert only(edited("click:    {observe: 10m}", "click:")) == (
        'ads.yaml:7:3  missing key "observe" in funnel.click\n   7 |   click:\n     |   ^^^^^'
    )


def test_a_model_says_which_funnel_it_takes():
    assert only(edited("{observe: 1h,", "{after: imp, observe: 1h,")) == (
        "ads.yaml:14:8  model esmm takes a chain of stages, but purchase follows imp beside click; "
        "set funnel.purchase.after to click, or use model lr\n"
        "  14 | model: esmm\n"
        "     |        ^^^^"
    )


def test_a_history_is_of_a_stage_behind_the_root_and_takes_listed_ids():
    text = edited("{of: click, take: [item]", "{of: imp, take: [items]")
    assert refusal(text) == (
        'ads.yaml:13:27  features.history.clicked.of: "imp" is the root, which every event has\n'
        "  13 |   history: {clicked: {of: imp, take: [items], last: 20}}\n"
        "     |                           ^^^ one of click, purchase\n"
        "\n"
        'ads.yaml:13:39  features.history.clicked.take: "items" is not listed in features.id\n'
        "  13 |   history: {clicked: {of: imp, take: [items], last: 20}}\n"
        '     |                                       ^^^^^ did you mean "item"?\n'
        "\n"
        "2 mistakes; nothing was run."
    )


def test_a_history_needs_a_user():
    assert only(edited("user: user\n", "")) == (
        "ads.yaml:12:13  features.history.clicked needs to know whose history it is\n"
        "  12 |   history: {clicked: {of: click, take: [item], last: 20}}\n"
        "     |             ^^^^^^^ add user: FIELD"
    )


def test_an_outcome_is_refused_as_a_feature():
    text = edited("model: esmm", "outcomes: [page, price]\nmodel: esmm")
    assert refusal(text) == (
        'ads.yaml:10:20  field "page" is an outcome: it is known only after the root, so it cannot be a feature\n'
        "  10 |   id: [user, item, page]\n"
        "     |                    ^^^^ take it out of features.id or out of outcomes\n"
        "\n"
        'ads.yaml:11:12  field "price" is an outcome: it is known only after the root, so it cannot be a feature\n'
        "  11 |   number: {price: log1p}\n"
        "     |            ^^^^^ take it out of features.number or out of outcomes\n"
        "\n"
        "2 mistakes; nothing was run."
    )


def test_a_feature_is_listed_once():
    assert only(edited("[user, item, page]", "[user, item, user]")) == (
        'ads.yaml:10:20  feature "user" is listed twice\n'
        "  10 |   id: [user, item, user]\n"
        "     |                    ^^^^ first in line 10"
    )


def test_every_kind_of_feature_is_typed():
    wide = """
  bag: [tags]
  vector: {face: 4}
  bucket: {dear: {of: price, at: [1, 10]}}
  cross: [[item, dear]]
  lookup: {items: {file: items.csv, key: item, take: [brand]}}
"""
    features = RunFile.parse(edited("  time: [hour]\n", "  time: [hour]" + wide), "ads.yaml").config.features
    assert features.ids == ("user", "item", "page", "hour", "dear", "item*dear")
    assert (features.bag["tags"].most, features.vector, features.taken) == (10, {"face": 4}, {"brand": "items"})
    assert features.lookup["items"].versions[0].file == "items.csv"


def test_the_copy_has_every_default_and_loads_to_the_same():
    config = RunFile.parse(ADS, "ads.yaml", ["metrics.from=2022-04-26T00:00Z", "tables.rows=2^18"]).config
    copy = resolved_yaml(config)
    plain = yaml.safe_load(copy)
    assert (plain["lateness"], plain["snapshots"]["every"], plain["metrics"]["from"]) == (
        "1m",
        "5m",
        "2022-04-26T00:00:00Z",
    )
    assert plain["funnel"]["click"]["observe"] == "10m"
    assert RunFile.parse(copy, "run.yaml").config == config


def test_a_resume_may_change_where_files_lie_and_the_snapshots_only():
    before = resolved(RunFile.parse(ADS, "ads.yaml").config)
    overrides = ["files=[elsewhere/*.jsonl]", "snapshots.keep=9", "training.batch=99", "funnel.click.window=20m"]
    after = resolved(RunFile.parse(ADS, "ads.yaml", overrides).config)
    assert config_diff(before, before) == []
    assert config_diff(before, after) == ["funnel.click.window: None is now 20m", "training.batch: 256 is now 99"]


def test_settings_without_a_file_are_told_the_same_way():
    assert configured(WorldConfig, ["roots=1000", "click_window=5m"]).click_window == 300_000
    with pytest.raises(MistakesError, match='did you mean "roots"'):
        configured(WorldConfig, ["rots=10"])


def test_a_model_that_cannot_weigh_behaviours_is_told_so_where_it_stands():
    said = only(edited("last: 20", "last: 20, pool: attention").replace("model: esmm", "model: lr"))
    assert said.startswith("ads.yaml:14:8  model lr adds up weights and cannot weigh behaviours by attention; set ")
    assert "features.history.clicked.pool to mean, sum or max" in said
