"""Which topics hold the events, where the brokers are, and by what one is let in."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from streamctr.ports import LINE_LIMIT_BYTES
from streamctr.schema import Config, DurationMs, InstantMs, Texts

_REFERENCE: Final = re.compile(r"(env|file):.+")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def is_reference(value: str) -> bool:
    """Whether it says where a value stands: `env:NAME` or `file:PATH`."""
    return _REFERENCE.fullmatch(value) is not None


def _reference(value: str) -> str:
    if not is_reference(value):
        raise ValueError("a secret stands elsewhere: write env:NAME for a variable of the environment, or file:PATH")
    return value


def _topic(value: str) -> str:
    if not _TOPIC.fullmatch(value) or value in (".", ".."):
        raise ValueError(f'"{value}" is not the name of a topic: letters, digits, dots, _ and - only')
    return value


Secret = Annotated[str, AfterValidator(_reference)]
"""Where a secret stands, as `env:NAME` or `file:PATH`; it is read only when it is used."""
Topic = Annotated[str, AfterValidator(_topic)]


class SaslConfig(Config):
    """By which user and password, or by which token, the broker lets one in."""

    model_config = ConfigDict(hide_input_in_errors=True)

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
    username: str | None = Field(default=None, description="a name, or where it stands: env:NAME or file:PATH")
    password: Secret | None = Field(default=None, description="where it stands: env:NAME or file:PATH")
    token: Secret | None = Field(
        default=None, description="OAUTHBEARER: where the token stands; read again for each login, so it may be renewed"
    )

    @model_validator(mode="after")
    def _what_the_mechanism_needs(self) -> "SaslConfig":
        by_token, password = self.mechanism == "OAUTHBEARER", (self.username, self.password)
        if by_token and (self.token is None or password != (None, None)):
            raise ValueError("OAUTHBEARER logs in by token alone; write token: env:NAME or file:PATH")
        if not by_token and (self.token is not None or None in password):
            raise ValueError(f"{self.mechanism} logs in by username and password alone; write both")
        return self


class TlsConfig(Config):
    """Files in PEM by which the broker and, where it asks, the client are known."""

    ca: str | None = Field(
        default=None, description="who signed the broker's certificate; default: who the system trusts"
    )
    cert: str | None = Field(default=None, description="the client's certificate")
    key: str | None = Field(default=None, description="its private key, without a pass phrase")

    @model_validator(mode="after")
    def _cert_with_key(self) -> "TlsConfig":
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together; give both or leave both out")
        return self


class KafkaConfig(Config):
    """Topics of events: one for all stages, or one for each."""

    model_config = ConfigDict(hide_input_in_errors=True)

    servers: Texts = Field(min_length=1, description="host:port of some brokers; they name the others")
    topic: Topic | None = Field(default=None, description="one topic; a field of its messages says their stage")
    topics: dict[str, Topic] = Field(default_factory=dict, description="a topic for each stage that has messages")
    start: Literal["earliest", "latest"] | Annotated[InstantMs, Field(ge=0)] = Field(
        default="earliest", description="where a new run begins; a moment: the first message stored at it or later"
    )
    sasl: SaslConfig | None = Field(default=None, description="a login, where the brokers ask for one")
    tls: TlsConfig | None = Field(default=None, description="encrypted connections; {} where the defaults do")
    client: Literal["kafka-python", "confluent"] = Field(
        default="kafka-python",
        description="which client reads; confluent is faster, and an extra: streamctr[confluent]",
    )
    group: Topic | None = Field(
        default=None,
        description="the group whose offsets tell tools how far a run is; default: streamctr-NAME of the run",
    )
    idle: DurationMs = Field(
        default=30_000, gt=0, description="a partition that is at its end and silent for so long holds nobody up"
    )
    ahead: DurationMs | None = Field(
        default=3_600_000, description="how far an event may be ahead of its record's timestamp; null for any"
    )
    dead_letters: Topic | None = Field(default=None, description="a topic for them; default: the run's folder")
    samples: Topic | None = Field(
        default=None, description="the emission log as a topic: join and learn as two daemons"
    )
    buffer_bytes: int = Field(
        default=1 << 26, ge=1 << 10, description="messages of partitions that are ahead, held at most, about"
    )
    fetch_bytes: int = Field(default=1 << 20, ge=1, description="asked for at a time of each partition, at most")
    max_message_bytes: int = Field(
        default=LINE_LIMIT_BYTES, ge=1, le=LINE_LIMIT_BYTES, description="a longer message is rejected"
    )
    max_poll_records: int = Field(default=5000, ge=1, description="messages that are read at a time, at most")
    contact: DurationMs = Field(default=10_000, description="how long brokers are tried at the start")
    silence: DurationMs = Field(default=30_000, gt=0, description="how long brokers may be silent before it is said")

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, dict) and bool(value.get("topic")) == bool(value.get("topics")):
            raise ValueError("name either one topic, or topics: {stage: topic}")
        return value
