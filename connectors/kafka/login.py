"""How brokers are reached: the settings of a connection, and why none came about, which only the client's log says."""

import logging
import os
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kafka import errors
from kafka.net.compat import KafkaNetClient

from connectors.kafka.config import KafkaConfig, TlsConfig, is_reference
from streamctr.errors import AccessError, ConfigError, ContactError, LoginError, StreamctrError

REQUEST_MS: Final = 10_000
_GRANT: Final = "grant it, or set kafka.sasl to a user who has it"
_LEFT: Final = "socket disconnected"
"""Logged when a broker ends the connection, which often overtakes its word that the login is wrong."""


class Overheard(logging.Handler):
    """The last warnings of the client, in place of a console that they would flood."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=200)
        logging.getLogger("kafka").addHandler(self)

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
        "security_protocol": ("SASL_" if config.sasl else "") + ("SSL" if config.tls else "PLAINTEXT"),
    }
    if config.tls is not None:
        settings["ssl_context"] = _context(config.tls)
    if config.sasl is not None:
        user = config.sasl.username
        settings["sasl_mechanism"] = config.sasl.mechanism
        settings["sasl_plain_username"] = read_secret(user, "kafka.sasl.username") if is_reference(user) else user
        settings["sasl_plain_password"] = read_secret(config.sasl.password, "kafka.sasl.password")
    return settings


def _context(tls: TlsConfig) -> ssl.SSLContext:
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
        topics = ", ".join(sorted(error.args[0])) if error.args else "a topic"
        raise AccessError(f"kafka: this user has no right to {topics}; {_GRANT}") from None
    except errors.AuthorizationError as error:
        raise AccessError(f"kafka: this user has not the right: {error}; {_GRANT}") from None
    except errors.KafkaError as error:
        raise why_no_contact(config, log.lines, error) from None


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
    servers = ", ".join(config.servers)
    sasl = config.sasl
    if "CERTIFICATE_VERIFY_FAILED" in log:
        reason = log.rpartition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (")[0]
        return ContactError(f"kafka: {servers} is not who it should be: {reason}; set kafka.tls.ca, and its host name")
    if config.tls is not None and "Handshake failed" in log:
        return ContactError(f"kafka: {servers} does not speak TLS at this port; leave kafka.tls out, or name another")
    if sasl is not None and "UnsupportedSaslMechanism" in log:
        return LoginError(
            f"kafka: {servers} does not offer {sasl.mechanism}; set kafka.sasl.mechanism to what it offers"
        )
    if sasl is not None and "IllegalSaslState" in log:
        return LoginError(f"kafka: {servers} takes no login at this port; leave kafka.sasl out, or name another port")
    tls = "" if config.tls else ", and write kafka.tls if the port wants TLS"
    if sasl is not None and ("SaslAuthenticationFailed" in log or _LEFT in log):
        return LoginError(f"kafka: {servers} refused the login; check kafka.sasl: mechanism, username, password{tls}")
    if sasl is None and _LEFT in log:
        return LoginError(f"kafka: {servers} ended the connection; write kafka.sasl if it wants a login{tls}")
    failed = [line for line in log.splitlines() if line.startswith("Connection failed: ")]
    reason = failed[-1].removeprefix("Connection failed: ") if failed else str(error)
    return ContactError(f"kafka: no broker answers at {servers}: {reason}; start it, or correct kafka.servers")
