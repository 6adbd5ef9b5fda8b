"""The kafka block of a run file, without a broker."""

import pytest
from pydantic import ValidationError

from connectors.kafka.config import KafkaConfig
from connectors.kafka.topics import stages_of
from streamctr.errors import ConfigError
from streamctr.schema import Funnel, StageConfig

FUNNEL = Funnel.from_mapping(
    {"view": None, "click": StageConfig(observe=1000), "buy": StageConfig(observe=1000, when="bought")}
)


def config(**settings):
    return KafkaConfig(**({"servers": "b1:9092", "topic": "ads"} | settings))


def test_secrets_are_kept_as_where_they_stand(monkeypatch):
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2")
    with_login = config(sasl={"mechanism": "PLAIN", "username": "me", "password": "env:KAFKA_PASSWORD"})
    for text in (repr(with_login), with_login.model_dump_json()):
        assert "env:KAFKA_PASSWORD" in text
        assert "hunter2" not in text


def test_a_secret_that_stands_in_the_run_file_is_refused_without_being_repeated():
    with pytest.raises(ValidationError, match="a secret stands elsewhere: write env:NAME") as caught:
        config(sasl={"mechanism": "PLAIN", "username": "me", "password": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("start", ["earliest", "latest", "2022-04-26T00:00:00Z"])
def test_what_a_config_is_dumped_as_loads_again(start):
    before = config(start=start, servers=["b1:9092", "b2:9092"], tls={"ca": "ca.pem"})
    assert KafkaConfig.model_validate(before.model_dump(mode="json")) == before
    assert before.model_dump(mode="json")["start"] == start


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topic": None}, "name either one topic, or topics"),
        ({"topics": {"view": "views"}}, "name either one topic, or topics"),
        ({"topic": "a b"}, '"a b" is not the name of a topic'),
        ({"start": "yesterday"}, '"yesterday" is not a moment'),
        ({"start": "2022-04-26T00:00"}, "has no offset; add Z"),
        ({"servers": []}, "at least 1 item"),
        ({"tls": {"cert": "me.pem"}}, "cert and key belong together"),
        ({"max_message_bytes": 1 << 25}, "less than or equal to 16777216"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        config(**settings)


def test_the_stage_of_a_topic_is_its_place_or_said_by_the_messages():
    assert stages_of(config(), FUNNEL, True) == {"ads": -1}
    assert stages_of(config(), Funnel.from_mapping({"view": None}), False) == {"ads": 0}
    two = config(topic=None, topics={"click": "clicks", "view": "views"})
    assert stages_of(two, FUNNEL, False) == {"clicks": 1, "views": 0}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "kafka.topic: ads holds view, click: say with `stage:`"),
        ({"topics": {"view": "a", "buy": "b"}}, '"buy" is no stage that has messages; those are view, click'),
        ({"topics": {"view": "a", "clik": "b"}}, '"clik" is no stage that has messages; those are view, click'),
        ({"topics": {"view": "a", "click": "a"}}, "a is given to view and to click"),
        ({"topics": {"click": "a"}}, "none is of the root stage view"),
    ],
)
def test_topics_that_do_not_fit_the_funnel_are_refused(settings, words):
    several = config(topic=None, **settings) if settings else config()
    with pytest.raises(ConfigError, match=words):
        stages_of(several, FUNNEL, False)
