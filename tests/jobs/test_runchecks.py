"""What must fit together across a run file: found in the document, said at its place."""

import pytest
import yaml

from jobs.runchecks import cross_checks
from jobs.runfile import RunFile, resolved_yaml
from jobs.yamlmarks import MistakesError, load_document

WIDE = """\
files: logs
stage: type
key: [imp.id, imp.slot]
time: {field: ts, unit: s}
user: [account, device]
weight: importance
types: {imp.id: integer, brand: integer}
ignore: [ping]
funnel:
  imp: {called: [impression, shown], value: imp.bid}
  click: {key: [impression, slot], called: tap, observe: 10m}
  liked: {after: imp, when: is_liked, delay: 1s, observe: 1h, told_by: click}
  rated: {when: {stars: ">= 4", kind: [good, fine]}, observe: 1h}
  install: {after: click, at: installed_at, observe: 1h, window: 24h, value: order.total}
outcomes: [play_ms]
features:
  id: [item, page, brand]
  bag: {tags: {pool: sum, most: 3}, words: max}
  number: {price: log1p, item: {clip: [0, 10]}}
  vector: {face: 8}
  bucket: {dear: {of: price, at: [1, 10]}}
  cross: [[item, dear], [page, hour], [slot, country]]
  time: [hour]
  history:
    clicked: {of: click, take: [item, dear], last: 5, lag: 1s}
    liked: {of: liked, take: [brand], pool: attention}
  lookup:
    items: {file: items.csv, key: item, take: [brand]}
    brands: {key: brand, take: {country: land}, versions: [{file: a.csv}, {from: 2026-01-01T00:00Z, file: b.csv}]}
metrics: {slices: [page, dear]}
tables: {shared: {tags: words, "item*dear": item}, sizes: {words: 2^10}}
model: esmm
"""
FUNNEL = """\
  imp: {called: [impression, shown], value: imp.bid}
  click: {key: [impression, slot], called: tap, observe: 10m}
"""


def load(text):
    """The config, of a chain where the model is to take it."""
    return RunFile.parse(text.replace("model: esmm", "model: lr").replace(", pool: attention", ""), "run.yaml").config


def refusal(old, new):
    assert WIDE.count(old) == 1, old
    with pytest.raises(MistakesError) as caught:
        load(WIDE.replace(old, new))
    return str(caught.value)


def test_everything_that_a_run_file_may_say_is_taken():
    assert load(WIDE).features.taken == {"brand": "items", "country": "brands"}


def test_the_copy_of_a_run_file_with_everything_loads_to_the_same():
    config = load(WIDE)
    assert RunFile.parse(resolved_yaml(config), "copy.yaml").config == config


@pytest.mark.parametrize(
    ("old", "new", "said", "hint"),
    [
        (
            "imp: {called",
            "imp: {when: x, called",
            "run.yaml:10:9  imp is the root, the event that is scored: it takes no when",
            "take it out",
        ),
        (
            "told_by: click",
            "told_by: install",
            'run.yaml:12:72  liked.told_by: "install" is not a stage above liked',
            "one of imp, click",
        ),
        (
            "told_by: click",
            "time: ts",
            "run.yaml:12:63  liked is told of by fields of another stage's messages (when, at): it takes no time",
            "take it out, or take out when and at",
        ),
        (
            "when: is_liked, ",
            "",
            "run.yaml:12:23  liked has messages of its own, without when and at: it takes no delay",
            "add when: FLAG",
        ),
        (
            "at: installed_at",
            "at: ts",
            'run.yaml:14:31  install.at: "ts" is the time of every message: install would always happen, and at once',
            "write the field with the time of install",
        ),
        ('">= 4"', '">= four"', 'run.yaml:13:25  ">= four" compares with no number', 'write one as in ">= 4"'),
        ("called: tap", "called: shown", 'run.yaml:11:44  "shown" already means another stage', "first in line 10"),
        ("called: tap", "called: imp", 'run.yaml:11:44  "imp" already means another stage', "first in line 10"),
        ("[ping]", "[ping, tap]", 'run.yaml:8:16  "tap" is a stage, and is to be ignored', "the stage is in line 11"),
        (
            "stage: type\n",
            "",
            "run.yaml:7:1  ignore holds values of the field that says what a line is",
            "add stage: FIELD",
        ),
        ("[imp.id, imp.slot]", "[imp.id, imp.id]", 'run.yaml:3:15  "imp.id" stands twice in key', "write it once"),
        (
            "files: logs",
            "files: {stages: {imp: a}}",
            "run.yaml:1:9  files.stages and stage both say what a line is",
            "leave one of them out",
        ),
        (
            "id: [item, page, brand]",
            "id: [item, page, brand, hour]",
            'run.yaml:23:10  feature "hour" is listed twice',
            "first in line 17",
        ),
        ("words: max", "page: max", 'run.yaml:18:37  feature "page" is listed twice', "first in line 17"),
        ("bucket: {dear: ", "bucket: {page: ", 'feature "page" is listed twice', "first in line 17"),
        (
            "id: [item, page, brand]",
            "id: [item, page, brand, page*hour]",
            '"page*hour" is also the name of a cross',
            "take one of them out",
        ),
        ("{of: price", "{of: tags", 'run.yaml:21:23  "tags" is a bag: a bucket is made of a single number', ""),
        (
            "[slot, country]",
            "[slot, tags]",
            'run.yaml:22:46  "tags" is a bag: a cross is made of single ids',
            "list a field that has one",
        ),
        (
            "[slot, country]",
            "[slot, face]",
            '"face" is a vector: a cross is made of single ids',
            "list a field that has one value",
        ),
        ("[slot, country]", "[slot, slot]", '"slot" is crossed with itself', "write each field once"),
        ("[slot, country]", "[hour, page]", "run.yaml:22:40  hour and page are crossed twice", "first in line 22"),
        (
            "take: [brand]}\n",
            "take: [brand, country]}\n",
            'field "country" is taken by two lookups, items and brands',
            "first in line 28",
        ),
        (
            "file: items.csv, key: item",
            "file: items.csv, key: country",
            'features.lookup.items.key: "country" is taken by lookup brands, which stands below it',
            "or one that a lookup above takes",
        ),
        (
            "file: items.csv, key: item",
            "file: items.csv, key: hour",
            '"hour" is made of other fields',
            "or by one that a lookup above it takes",
        ),
        (
            "file: items.csv, key: item",
            "file: items.csv, key: tags",
            '"tags" is a bag: a lookup finds its row by a single id',
            "",
        ),
        ("file: items.csv, ", "", 'missing key "file" in features.lookup.items', "or versions"),
        (
            "key: brand, take",
            "file: c.csv, key: brand, take",
            "file and versions both name files",
            "leave one of them out",
        ),
        (
            "take: [item, dear]",
            "take: [item, page*hou]",
            'features.history.clicked.take: "page*hou" is not listed in features.id',
            'did you mean "page*hour"?',
        ),
        (
            "id: [item, page, brand]",
            "id: [item, page, brand, stars]",
            'field "stars" is an outcome, by funnel.rated.when in line 13',
            "take it out of features.id",
        ),
        (
            "face: 8",
            "order.total: 8",
            'field "order.total" is an outcome, by funnel.install.value in line 14',
            "take it out of features.vector",
        ),
        (
            "[slot, country]",
            "[slot, is_liked]",
            'field "is_liked" is an outcome, by funnel.liked.when in line 12',
            "take it out of features.cross",
        ),
        (
            "{of: price",
            "{of: play_ms",
            'field "play_ms" is an outcome: it is known only after the root',
            "take it out of features.bucket",
        ),
        (
            "weight: importance",
            "weight: play_ms",
            'run.yaml:6:9  field "play_ms" is an outcome: it is known only after the root, so it cannot be the weight',
            "",
        ),
        (
            "user: [account, device]",
            "user: [account, installed_at]",
            'run.yaml:5:17  field "installed_at" is an outcome, by funnel.install.at',
            "take it out of user",
        ),
        (
            "words: max",
            "ts: max",
            '"ts" is the time: hardly a value comes twice',
            "time: [hour, weekday] are parts of it",
        ),
        (
            "brand: integer",
            "brnd: integer",
            'run.yaml:7:26  types: "brnd" is no id, bag, key or user of this run file',
            'did you mean "brand"?',
        ),
        ("slices: [page, dear]", "slices: [page, tags]", 'metrics.slices: "tags" is no id or time feature', ""),
        ("{tags: words", "{tag: words", 'tables.shared: "tag" is no id or time feature', 'did you mean "tags"?'),
        ("{words: 2^10}", "{tags: 2^10}", 'tables.sizes: "tags" is no table that a feature uses', ""),
    ],
)
def test_what_does_not_fit_is_said_at_its_place(old, new, said, hint):
    message = refusal(old, new)
    assert (said in message, hint in message) == (True, True), message


def test_a_part_of_a_composite_key_may_be_an_id_but_not_a_key_alone():
    with pytest.raises(MistakesError, match=r'"imp\.id" is the key: every root has another'):
        load(WIDE.replace("[imp.id, imp.slot]", "imp.id").replace("id: [item,", "id: [imp.id, item,"))
    assert "imp.id" in load(WIDE.replace("id: [item,", "id: [imp.id, item,")).features.ids


def test_a_field_may_be_an_id_and_a_number():
    features = load(WIDE).features
    assert ("item" in features.ids, "item" in features.numbers) == (True, True)


def test_files_by_stage_name_stages_with_messages_of_their_own():
    text = WIDE.replace("stage: type\n", "").replace("ignore: [ping]\n", "")
    for name, said in (("clik", 'files.stages: "clik" is no stage of the funnel'), ("liked", "liked is told of by")):
        with pytest.raises(MistakesError, match=said):
            load(text.replace("files: logs", f"files: {{stages: {{imp: a, {name}: b}}}}"))
    assert load(text.replace("files: logs", "files: {stages: {imp: a, click: b}}")).files.stages["click"] == ("b",)


def test_the_two_usual_run_files_load():
    """Nested, mixed and without a user; and one file a stage, with a history."""
    ads = {
        "files": "logs/ads-*.jsonl.gz",
        "stage": "type",
        "key": "imp.id",
        "time": "ts",
        "funnel": {
            "imp": {},
            "click": {"key": "impression_id", "observe": "10m"},
            "purchase": {"key": "impression_id", "observe": "1h", "window": "7d", "value": "order.total"},
        },
        "ignore": ["pageview", "heartbeat"],
        "features": {
            "id": ["imp.ad.id", "imp.ad.advertiser", "imp.slot"],
            "bag": ["ctx.geo"],
            "number": {"imp.bid": "log1p"},
            "cross": [["imp.ad.advertiser", "imp.slot"]],
            "time": ["hour", "weekday"],
        },
        "model": "esmm",
    }
    assert load(yaml.safe_dump(ads, sort_keys=False)).features.event_bags["ctx.geo"].pool == "mean"


@pytest.mark.parametrize(
    ("outcome", "feature", "refused"),
    [
        ("order", "order.total", True),
        ("order.total", "order", True),
        ("order.total", "order.items", False),
        ("orders", "order.total", False),
    ],
)
def test_what_a_nested_outcome_holds_or_is_a_part_of_is_no_feature_either(outcome, feature, refused):
    text = f"files: a\nkey: id\ntime: t\nfunnel: {{view: {{}}, buy: {{observe: 1h}}}}\noutcomes: [{outcome}]\n"
    document = load_document(text + f"features: {{id: [{feature}]}}\nmodel: lr\n", "run.yaml")
    told = [mistake.message for mistake in cross_checks(document)]
    assert [f'field "{feature}" is an outcome' in message for message in told] == [True] * refused


def test_keys_of_two_types_are_refused_as_no_event_would_find_its_root():
    text = "files: a\nkey: id\ntime: t\nfunnel: {view: {}, buy: {key: ref, observe: 1h}}\nfeatures: {id: [ad]}\n"
    text += "model: lr\n"
    one, both = (load_document(f"{text}types: {types}\n", "run.yaml") for types in ("{id: integer}", BOTH))
    wanted = 'the key of buy, "ref", is text, and the root\'s, "id", is integer: no buy event would find its root'
    assert [mistake.message for mistake in cross_checks(one)] == [wanted]
    assert cross_checks(both) == []


BOTH = "{id: integer, ref: integer}"
