"""Who may read which topics from which broker: what is wrong is said in one line, each kind with its own exit code."""

import base64
import gc
import json
import time
import traceback
from contextlib import closing

import pytest
from kafka_broker import PASSWORD

from connectors.kafka.client import open_client
from connectors.kafka.config import KafkaConfig
from connectors.kafka.login import connection
from streamctr.errors import AccessError, ConfigError, ContactError, LoginError, TopicError

# kafka-python forgets the sockets of connections that were refused
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")

CONTACT = "1500ms"


@pytest.fixture(autouse=True)
def _forgotten_sockets():
    yield
    gc.collect()


@pytest.fixture(params=["kafka-python", "confluent"])
def read(request):
    """What either client reads of a topic's first partition."""

    def reading(servers, topic, **settings):
        config = KafkaConfig(servers=servers, topic=topic, client=request.param, **({"contact": CONTACT} | settings))
        with closing(open_client(config, [topic])) as client:
            client.go_to({(topic, 0): 0})
            return next(records.values for _ in range(100) for records in client.poll(200))

    return reading


@pytest.fixture
def secure(kafka, monkeypatch):
    if not kafka.secure:
        pytest.skip("this broker has no listener with users and TLS; unset STREAMCTR_TEST_KAFKA")
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", PASSWORD)
    return kafka


def login(user="reader", password="env:KAFKA_TEST_PASSWORD", mechanism="PLAIN"):
    return {"mechanism": mechanism, "username": user, "password": password}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_login_over_tls_reads(read, secure, mechanism, tmp_path):
    topic = secure.topic()
    secure.send(topic, [(0, b"{}")])
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "user").write_text("reader\n")
    sasl = login(f"file:{tmp_path / 'user'}", f"file:{tmp_path / 'password'}", mechanism)
    assert read(secure.secure, topic, tls={"ca": secure.ca}, sasl=sasl) == [b"{}"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_a_refused_login(read, secure, mechanism, monkeypatch):
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", "wrong")
    with pytest.raises(LoginError, match=r"refused the login; check kafka.sasl: mechanism, username, pass") as caught:
        read(secure.secure, "events", tls={"ca": secure.ca}, sasl=login(mechanism=mechanism))
    assert "wrong" not in str(caught.value)


def test_a_mechanism_that_is_not_offered_is_a_refused_login(read, secure):
    # to kafka-python it often looks like a refused user: the broker is gone before its word arrives
    with pytest.raises(
        LoginError, match=r"does not offer SCRAM-SHA-256|refused the login; check kafka.sasl: mechanism"
    ):
        read(secure.secure, "events", tls={"ca": secure.ca}, sasl=login(mechanism="SCRAM-SHA-256"))


def token(life_s):
    """One that nobody signed, which this broker takes until it expires."""
    now_s = int(time.time())
    parts = {"alg": "none"}, {"sub": "reader", "iat": now_s - 7200, "exp": now_s + life_s}
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts), ""]
    )


def by_token(path):
    return {"mechanism": "OAUTHBEARER", "token": f"file:{path}"}


def test_a_token_logs_in_and_is_read_again_for_the_next_login(read, secure, tmp_path):
    topic, path = secure.topic(), tmp_path / "token"
    secure.send(topic, [(0, b"{}")])
    path.write_text(token(3600) + "\n")
    settings = {"tls": {"ca": secure.ca}, "sasl": by_token(path), "contact": "4s"}
    assert read(secure.secure, topic, **settings) == [b"{}"]
    path.write_text(token(-3600))
    with pytest.raises(LoginError):
        read(secure.secure, topic, **settings | {"contact": "2500ms"})


def test_a_refused_token_is_a_refused_login_and_is_not_repeated(read, secure, tmp_path, capfd, caplog):
    path, expired = tmp_path / "token", token(-3600)
    path.write_text(expired)
    caplog.set_level("DEBUG")
    with pytest.raises(LoginError, match=r"refused the login; check kafka.sasl: mechanism, token$") as caught:
        read(secure.secure, "events", tls={"ca": secure.ca}, sasl=by_token(path), contact="2500ms")
    shown = "".join([*traceback.format_exception(caught.value), *capfd.readouterr(), caplog.text])
    assert "connectors/kafka" in shown
    for secret in expired.split(".")[:2]:
        assert secret not in shown


def test_a_renewed_token_is_what_the_client_is_given(tmp_path):
    path = tmp_path / "token"
    path.write_text("first\n")
    config = KafkaConfig(servers="127.0.0.1:1", topic="events", sasl=by_token(path))
    tokens = connection(config)["sasl_oauth_token_provider"]
    assert tokens.token() == "first"
    path.write_text("second\n")
    assert tokens.token() == "second"
    path.unlink()  # as it may be for a moment while it is being replaced
    assert tokens.token() == "second"


def test_a_port_that_wants_a_login_says_so(read, secure):
    with pytest.raises(LoginError, match=r"ended the connection; write kafka.sasl if it wants a login"):
        read(secure.secure, "events", tls={"ca": secure.ca})


def test_a_port_that_takes_no_login_says_so(read, secure):
    with pytest.raises(LoginError, match="takes no login at this port"):
        read(secure.servers, "events", sasl=login())


def test_a_user_without_the_right_is_refused(read, secure):
    topic = secure.topic()
    with pytest.raises(AccessError, match=f"this user has no right to {topic}"):
        read(secure.secure, topic, tls={"ca": secure.ca}, sasl=login("stranger"))


def test_a_broker_whose_certificate_nobody_signed_is_not_trusted(read, secure):
    with pytest.raises(ContactError, match=r"is not who it should be: certificate verify failed.*set kafka.tls.ca"):
        read(secure.secure, "events", tls={}, sasl=login())


def test_a_port_without_tls_says_so(read, kafka):
    with pytest.raises(ContactError, match="does not speak TLS at this port"):
        read(kafka.servers, "events", tls={})


def test_a_topic_that_is_not_there_is_named_and_not_created(read, kafka):
    with pytest.raises(TopicError, match="there is no topic never-created"):
        read(kafka.servers, "never-created")
    assert "never-created" not in kafka.admin.list_topics()


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "nowhere.invalid:9092"])
def test_a_dead_broker_is_named(read, servers):
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
        (
            {"sasl": {"mechanism": "OAUTHBEARER", "token": "env:KAFKA_NOT_SET"}},
            "kafka.sasl.token: the environment has no variable KAFKA_NOT",
        ),
        ({"sasl": login(password="file:/nowhere/p")}, "kafka.sasl.password: /nowhere/p cannot be read"),
        ({"tls": {"ca": "/nowhere/ca.pem"}}, "kafka.tls: /nowhere/ca.pem cannot be used"),
    ],
)
def test_secrets_and_certificates_that_are_not_there_are_named_before_any_connection(read, settings, words):
    with pytest.raises(ConfigError, match=words):
        read("127.0.0.1:1", "events", **settings)
