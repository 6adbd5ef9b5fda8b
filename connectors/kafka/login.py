"""How brokers are reached: the settings of a connection, and why none came about, which only the client's log says."""

import logging
import os
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl.oauth import AbstractTokenProvider

from connectors.kafka.config import KafkaConfig, SaslConfig, TlsConfig, is_reference
from streamctr.errors import AccessError, ConfigError, ContactError, LoginError, StreamctrError, TopicError

REQUEST_MS: Final = 10_000
_GRANT: Final = "grant it, or set kafka.sasl to a user who has it"
_LEFT: Final = "socket disconnected"
"""Logged when a broker ends the connection, which often overtakes its word that the login is wrong."""


class Overheard(logging.Handler):
    """The last warnings of the client, in place of a console that they would flood."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=200)
        logger = logging.getLogger("kafka")
        logger.setLevel(logging.WARNING)  # at DEBUG it writes down what it sends: passwords and tokens too
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(record.getMessage())

    def close(self) -> None:
        """Listen no longer."""
        logging.getLogger("kafka").removeHandler(self)
        super().close()


def connection(config: KafkaConfig) -> dict[str, Any]:
    """The client's settings, with the secrets in them.

    Raises:
        ConfigError: a secret or a certificate cannot be read.
    """
    settings: dict[str, Any] = {
        "bootstrap_servers": list(config.servers),
        "bootstrap_timeout_ms": config.contact,
        "request_timeout_ms": REQUEST_MS,
        "reconnect_backoff_max_ms": 1000,
        "security_protocol": protocol_of(config),
    }
    if config.tls is not None:
        settings["ssl_context"] = context_of(config.tls)
    if config.sasl is not None:
        settings["sasl_mechanism"] = config.sasl.mechanism
        if config.sasl.token is not None:
            settings["sasl_oauth_token_provider"] = _Tokens(config.sasl.token)
        else:
            settings["sasl_plain_username"], settings["sasl_plain_password"] = user_of(config.sasl)
    return settings


def protocol_of(config: KafkaConfig) -> str:
    """How Kafka names a connection that is encrypted, or not, and has a login, or none."""
    return ("SASL_" if config.sasl is not None else "") + ("SSL" if config.tls is not None else "PLAINTEXT")


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]  # the client takes no other
    """Reads the token for each login; while it is not there, as when it is being renewed, the last one stands in."""

    def __init__(self, reference: str) -> None:
        super().__init__()
        self._reference = reference
        self._last = read_token(reference)

    def token(self) -> str:
        with suppress(ConfigError):
            self._last = read_token(self._reference)
        return self._last


def user_of(sasl: SaslConfig) -> tuple[str, str]:
    """The name and the password.

    Raises:
        ConfigError: one cannot be read.
    """
    assert sasl.username is not None  # the mechanism needs both
    assert sasl.password is not None
    user = sasl.username
    user = read_secret(user, "kafka.sasl.username") if is_reference(user) else user
    return user, read_secret(sasl.password, "kafka.sasl.password")


def read_token(reference: str) -> str:
    """The token that stands there now.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_secret(reference, "kafka.sasl.token")


def context_of(tls: TlsConfig) -> ssl.SSLContext:
    """What the certificates say of whom to trust, and of who one is.

    Raises:
        ConfigError: one cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key, password="")  # which asks for no pass phrase at the terminal
    except OSError as error:  # an SSLError is one
        raise ConfigError(
            f"kafka.tls: {tls.ca or tls.cert} cannot be used: {error}; name a readable PEM file"
        ) from None
    return context


def connect(kind: Any, config: KafkaConfig, log: Overheard, **settings: Any) -> Any:
    """A client of one of kafka-python's kinds that reached a broker; one that did not leaves no thread behind.

    Raises:
        StreamctrError: as `connection` and `in_words` say.
    """
    made: list[Any] = []

    def remember(**configs: Any) -> Any:
        made.append(KafkaNetClient(**configs))
        return made[-1]

    try:
        with in_words(config, log):
            return kind(**connection(config), **settings, kafka_client=remember)
    except BaseException:
        for net in made:
            net.close()
        raise


@contextmanager
def in_words(config: KafkaConfig, log: Overheard) -> Iterator[None]:
    """The client's exceptions in words for a user: an AccessError, a LoginError or a ContactError."""
    try:
        yield
    except errors.TopicAuthorizationFailedError as error:
        raise no_right(error.args[0] if error.args else ()) from None
    except errors.AuthorizationError as error:
        raise AccessError(f"kafka: this user has not the right: {error}; {_GRANT}") from None
    except errors.KafkaError as error:
        raise why_no_contact(config, log.lines, error) from None


def no_right(topics: Iterable[str]) -> AccessError:
    """The user may not read these topics."""
    return AccessError(f"kafka: this user has no right to {', '.join(sorted(topics)) or 'a topic'}; {_GRANT}")


def no_topic(topics: Iterable[str]) -> TopicError:
    """There are no such topics."""
    return TopicError(
        f"kafka: there is no topic {', '.join(topics)}; create it, or correct its name in the kafka block"
    )


def read_secret(reference: str, name: str) -> str:
    """What `env:NAME` or `file:PATH` holds.

    Raises:
        ConfigError: nothing.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ConfigError(f"{name}: the environment has no variable {where}; set it")
        return os.environ[where]
    try:
        return Path(where).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {where} cannot be read: {error}") from None


def why_no_contact(config: KafkaConfig, lines: Iterable[str], error: Exception) -> StreamctrError:
    """What keeps the brokers from answering, by what the client logged; else that they do not."""
    log = "\n".join(lines)
    with_login = config.sasl is not None
    if "CERTIFICATE_VERIFY_FAILED" in log:
        reason = log.rpartition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (")[0]
        return no_contact(config, "certificate", reason)
    if with_login and "UnsupportedSaslMechanism" in log:
        return no_contact(config, "mechanism")
    if config.tls is not None and "Handshake failed" in log and _LEFT not in log:
        return no_contact(config, "plain port")
    if with_login and "IllegalSaslState" in log:
        return no_contact(config, "open port")
    failed = [line for line in log.splitlines() if line.startswith("Connection failed: ")]
    left = _LEFT in log and not failed  # who cannot be reached either has gone away
    if with_login and ("SaslAuthenticationFailed" in log or left):
        return no_contact(config, "login")
    if left:
        return no_contact(config, "left")
    return no_contact(config, "silence", failed[-1].removeprefix("Connection failed: ") if failed else str(error))


Trouble = Literal["certificate", "plain port", "mechanism", "open port", "login", "left", "silence"]
"""What was wrong with a connection; `left`: the broker ended it, before any login."""


def no_contact(config: KafkaConfig, trouble: Trouble, reason: str = "") -> StreamctrError:
    """What to say and do about it, in the same words whichever client found it."""
    servers, sasl = ", ".join(config.servers), config.sasl
    tls = "" if config.tls else ", and write kafka.tls if the port wants TLS"
    parts = "token" if sasl is not None and sasl.token is not None else "username, password"
    mechanism = sasl.mechanism if sasl is not None else "no login"
    kind, words = _WORDS[trouble]
    return kind("kafka: " + words.format(servers=servers, reason=reason, mechanism=mechanism, parts=parts, tls=tls))


_WORDS: Final[dict[Trouble, tuple[type[StreamctrError], str]]] = {
    "certificate": (ContactError, "{servers} is not who it should be: {reason}; set kafka.tls.ca, and its host name"),
    "plain port": (
        ContactError,
        "{servers} does not speak TLS at this port; leave kafka.tls out, or name another",
    ),
    "mechanism": (LoginError, "{servers} does not offer {mechanism}; set kafka.sasl.mechanism to what it offers"),
    "open port": (LoginError, "{servers} takes no login at this port; leave kafka.sasl out, or name another port"),
    "login": (LoginError, "{servers} refused the login; check kafka.sasl: mechanism, {parts}{tls}"),
    "left": (LoginError, "{servers} ended the connection; write kafka.sasl if it wants a login{tls}"),
    "silence": (ContactError, "no broker answers at {servers}: {reason}; start it, or correct kafka.servers"),
}
