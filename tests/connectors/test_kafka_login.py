"""Who may read which topics from which broker: what is wrong is said in one line, each kind with its own exit code."""

import gc
from contextlib import closing

import pytest
from kafka_broker import PASSWORD

from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaSource
from streamctr.errors import AccessError, ConfigError, ContactError, LoginError, TopicError
from streamctr.schema import Funnel

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")

FUNNEL = Funnel.from_mapping({"view": None})
CONTACT = "1500ms"


@pytest.fixture(autouse=True)
def _forgotten_sockets():
    yield
    gc.collect()


def read(servers, topic, **settings):
    config = KafkaConfig(servers=servers, topic=topic, contact=CONTACT, **settings)
    with closing(KafkaSource(config, FUNNEL, False, "end")) as source:
        return source.poll(0).payload


@pytest.fixture
def secure(kafka, monkeypatch):
    if not kafka.secure:
        pytest.skip("this broker has no listener with users and TLS; unset STREAMCTR_TEST_KAFKA")
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", PASSWORD)
    return kafka


def login(user="reader", password="env:KAFKA_TEST_PASSWORD", mechanism="PLAIN"):
    return {"mechanism": mechanism, "username": user, "password": password}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_login_over_tls_reads(secure, mechanism, tmp_path):
    topic = secure.topic()
    secure.send(topic, [(0, b"{}")])
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "user").write_text("reader\n")
    sasl = login(f"file:{tmp_path / 'user'}", f"file:{tmp_path / 'password'}", mechanism)
    assert read(secure.secure, topic, tls={"ca": secure.ca}, sasl=sasl) == b"{}"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_a_refused_login(secure, mechanism, monkeypatch):
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", "wrong")
    with pytest.raises(LoginError, match=r"refused the login; check kafka.sasl: mechanism, username, pass") as caught:
        read(secure.secure, "events", tls={"ca": secure.ca}, sasl=login(mechanism=mechanism))
    assert "wrong" not in str(caught.value)


def test_a_port_that_wants_a_login_says_so(secure):
    with pytest.raises(LoginError, match=r"ended the connection; write kafka.sasl if it wants a login"):
        read(secure.secure, "events", tls={"ca": secure.ca})


def test_a_port_that_takes_no_login_says_so(secure):
    with pytest.raises(LoginError, match="takes no login at this port"):
        read(secure.servers, "events", sasl=login())


def test_a_user_without_the_right_is_refused(secure):
    topic = secure.topic()
    with pytest.raises(AccessError, match=f"this user has no right to {topic}"):
        read(secure.secure, topic, tls={"ca": secure.ca}, sasl=login("stranger"))


def test_a_broker_whose_certificate_nobody_signed_is_not_trusted(secure):
    with pytest.raises(ContactError, match=r"is not who it should be: certificate verify failed.*set kafka.tls.ca"):
        read(secure.secure, "events", tls={}, sasl=login())


def test_a_port_without_tls_says_so(kafka):
    with pytest.raises(ContactError, match="does not speak TLS at this port"):
        read(kafka.servers, "events", tls={})


def test_a_topic_that_is_not_there_is_named_and_not_created(kafka):
    with pytest.raises(TopicError, match="there is no topic never-created"):
        read(kafka.servers, "never-created")
    assert "never-created" not in kafka.admin.list_topics()


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "nowhere.invalid:9092"])
def test_a_dead_broker_is_named(servers):
    with pytest.raises(ContactError, match=f"no broker answers at {servers}: .*correct kafka.servers"):
        read(servers, "events")


def test_the_four_ways_to_fail_have_four_exit_codes():
    assert len({error.exit_code for error in (AccessError, ContactError, LoginError, TopicError, ConfigError)}) == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"sasl": login(password="env:KAFKA_NOT_SET")},
            "kafka.sasl.password: the environment has no variable KAFKA_NOT",
        ),
        ({"sasl": login(password="file:/nowhere/p")}, "kafka.sasl.password: /nowhere/p cannot be read"),
        ({"tls": {"ca": "/nowhere/ca.pem"}}, "kafka.tls: /nowhere/ca.pem cannot be used"),
    ],
)
def test_secrets_and_certificates_that_are_not_there_are_named_before_any_connection(settings, words):
    with pytest.raises(ConfigError, match=words):
        read("127.0.0.1:1", "events", **settings)
