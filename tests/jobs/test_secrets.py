"""A password that stands in a run file, or in an option, is refused and never repeated."""

import pytest

from jobs.console import mistakes_json
from jobs.runfile import RunFile
from jobs.yamlmarks import MistakesError

RUN = """
files: a.jsonl
key: id
time: t
funnel: {view: {}, click: {observe: 10s}}
features: {id: [item]}
model: lr
"""
SASL = "sasl: {mechanism: PLAIN, username: me, password: hunter2}"


def kafka(sasl):
    return f"{RUN}kafka:\n  servers: b1:9092\n  topics: {{view: views, click: clicks}}\n  {sasl}\n"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (kafka(SASL), (), "a secret stands elsewhere: write env:NAME"),
        (kafka(SASL.replace("hunter2", '"hun, ter2}"')), (), "a secret stands elsewhere"),
        (kafka("sasl:\n    mechanism: PLAIN\n    username: me\n    password:\n      hunter2"), (), "stands elsewhere"),
        (
            kafka("sasl:\n    mechanism: PLAIN\n    username: me\n    password: |\n      hunter2"),
            (),
            "stands elsewhere",
        ),
        (kafka("sasl: {mechanism: OAUTHBEARER, token: hunter2}"), (), "a secret stands elsewhere"),
        (kafka("sasl:\n    mechanism: OAUTHBEARER\n    token: |\n      hunter2"), (), "stands elsewhere"),
        (RUN, ("kafka.sasl.token='hunter2",), "the value is not YAML"),
        (kafka(SASL.replace("hunter2", "[hunter2]")), (), "wants a text, not a list"),
        (kafka(SASL.replace("username", "usernme")), (), 'unknown key "usernme"'),
        (kafka(SASL.replace("username: me", "mechanism: PLAIN")), (), 'key "mechanism" stands twice'),
        (kafka(SASL.replace("}", ", x: *}")), (), "alias"),
        (RUN, (f"kafka={{servers: 'b1:9092', topic: views, {SASL}}}",), "a secret stands elsewhere"),
        (kafka(SASL.replace("hunter2", "env:P")), ("kafka.sasl.password=hunter2",), "a secret stands elsewhere"),
        (kafka(SASL.replace("hunter2", "env:P")), ("kafka.sasl.password='hunter2",), "the value is not YAML"),
    ],
)
def test_a_password_in_plain_text_is_refused_without_being_shown(text, options, words):
    with pytest.raises(MistakesError, match=words) as caught:
        RunFile.parse(text, "ads.yaml", options)
    shown = f"{caught.value}{mistakes_json(caught.value.mistakes)}"
    assert "hun" not in shown
    assert "ter2" not in shown


def test_the_line_stays_as_wide_so_that_the_caret_points_at_the_value():
    with pytest.raises(MistakesError) as caught:
        RunFile.parse(kafka(SASL), "ads.yaml")
    assert "  sasl: {mechanism: PLAIN, username: me, password: ********\n" in str(caught.value)
    [_, line, caret, *_] = str(caught.value).splitlines()
    assert caret.index("^") == line.index("*")
    assert caret.count("^") == len("hunter2")


def test_a_reference_is_shown_as_it_stands():
    with pytest.raises(MistakesError) as caught:
        RunFile.parse(kafka(SASL.replace("hunter2", "env:P").replace("PLAIN", "PLAN")), "ads.yaml")
    assert "password: env:P}" in str(caught.value)
