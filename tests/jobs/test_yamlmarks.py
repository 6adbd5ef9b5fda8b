"""YAML as text with positions."""

import pytest

from jobs.yamlmarks import Document, MistakesError, did_you_mean, load_document


def _refusal(text: str) -> str:
    with pytest.raises(MistakesError) as caught:
        load_document(text, "ads.yaml")
    return str(caught.value)


def _override_refusal(document: Document, option: str) -> str:
    with pytest.raises(MistakesError) as caught:
        document.override(option, {})
    return str(caught.value)


def test_scalars_stay_text_whatever_yaml_would_make_of_them() -> None:
    text = "a: NO\nb: 1:30\nc: 0123\nd: 1e-3\ne: '7'\nf: \"null\"\ng: 2022-04-25\nh: true"
    assert load_document(text, "x").tree == {
        "a": "NO",
        "b": "1:30",
        "c": "0123",
        "d": "1e-3",
        "e": "7",
        "f": "null",
        "g": "2022-04-25",
        "h": "true",
    }


def test_null_tilde_and_nothing_are_none() -> None:
    assert load_document("a: null\nb: ~\nc:\nd: [~, x]", "x").tree == {
        "a": None,
        "b": None,
        "c": None,
        "d": [None, "x"],
    }


def test_every_key_and_value_knows_its_line_and_column() -> None:
    document = load_document("files: x\nfunnel:\n  click: {observe: 10m}\nids: [a, bc]", "x")
    where = ("funnel", "click", "observe")
    assert (document.keys[where].line, document.keys[where].column, document.keys[where].width) == (3, 11, 7)
    assert (document.values[where].line, document.values[where].column) == (3, 20)
    assert (document.values[("ids", 1)].column, document.values[("ids", 1)].width) == (10, 2)


def test_a_key_that_stands_twice_is_refused() -> None:
    assert _refusal("key: a\ntime: t\nkey: b") == (
        'ads.yaml:3:1  key "key" stands twice\n   3 | key: b\n     | ^^^ first in line 1\n\n1 mistake; nothing was run.'
    )


def test_what_is_not_yaml_points_at_the_place() -> None:
    assert _refusal("files: x\nfeatures: {id: [a, b}\n") == (
        "ads.yaml:2:21  while parsing a flow sequence: expected ',' or ']', but got '}'\n"
        "   2 | features: {id: [a, b}\n"
        "     |                     ^\n"
        "\n"
        "1 mistake; nothing was run."
    )


def test_a_tab_keeps_the_caret_under_its_token() -> None:
    shown = "   1 | {a: '\t', a: 2}\n     |      \t   ^ first in line 1\n"
    assert shown in _refusal("{a: '\t', a: 2}")


@pytest.mark.parametrize("text", ["", "- a\n- b", "word"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "1:1  a run file is a mapping of keys to values" in _refusal(text)


def test_a_key_must_be_a_word() -> None:
    assert "ads.yaml:1:1  a key is one word, not a list or a mapping" in _refusal("[a, b]: c")


def test_an_alias_within_itself_is_refused() -> None:
    assert "an alias stands within what it is an alias of" in _refusal("a: &x [1, *x]")


def test_an_override_replaces_a_value_and_forgets_what_stood_below() -> None:
    document = load_document("training: {batch: 64}\nids: [a, b, c]", "x")
    document.override("training.batch=128", {})
    document.override("ids=[d]", {})
    document.override("metrics.slices=[tab, hour]", {})
    assert document.tree == {"training": {"batch": "128"}, "ids": ["d"], "metrics": {"slices": ["tab", "hour"]}}
    assert ("ids", 1) not in document.values


def test_an_override_behind_a_short_form_keeps_its_word() -> None:
    document = load_document("model: esmm", "x")
    document.override("model.towers=[64]", {("model",): "name"})
    assert document.tree == {"model": {"name": "esmm", "towers": ["64"]}}
    assert document.span(("model", "name")).head() == "x:1:8"


def test_tokens_of_an_override_are_found_in_the_option() -> None:
    document = load_document("training: {}", "x")
    document.override("training.batch={a: 1}", {})
    assert document.keys[("training", "batch")].underlined("") == (
        "     | --set training.batch={a: 1}\n     |                ^^^^^"
    )
    assert document.keys[("training", "batch", "a")].underlined("") == (
        "     | --set training.batch={a: 1}\n     |                       ^"
    )


@pytest.mark.parametrize("option", ["training.batch", "=3", "training..batch=3"])
def test_an_override_is_key_equals_value(option: str) -> None:
    assert "an override is written key=value" in _override_refusal(load_document("a: b", "x"), option)


def test_an_override_below_a_value_is_refused() -> None:
    assert _override_refusal(load_document("key: id", "x"), "key.name=a") == (
        '--set key.name=a  key has no keys: it is "id"\n'
        "     | --set key.name=a\n"
        "     |       ^^^\n"
        "\n"
        "1 mistake; nothing was run."
    )


def test_the_nearest_word_is_proposed_or_all_where_they_are_few() -> None:
    assert did_you_mean("observ", ["after", "observe"]) == 'did you mean "observe"?'
    assert did_you_mean("zzz", ["after", "observe"]) == "one of after, observe"
    assert did_you_mean("zzz", [f"word{number}" for number in range(13)]) == ""
