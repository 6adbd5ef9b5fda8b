"""One owner of a run: a transactional producer of which the brokers let only the newest of a name finish anything.

Closed here are the traps of kafka-python's: its transaction calls wait without a limit, a request that times out ends
the producer, and after some errors it asks for a producer id anew by itself, which could fence a newer owner.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition, errors

from connectors.kafka.client import Place
from connectors.kafka.config import KafkaConfig
from connectors.kafka.login import Overheard, connect, in_words
from streamctr.errors import AccessError, ContactError, DataError, FencedError, LostError

BATCH_BYTES: Final = 1 << 15
"""Records of a partition go together up to here. A topic that takes less breaks the client's sequence numbers."""

_CLOSE_S: Final = 2
_START_S: Final = 3
"""Besides the contact: an older owner's transaction is ended first."""
_S_PER_BYTE: Final = 1 / (1 << 20)
_TRANSACTION_MS: Final = 300_000
"""An owner that stops in the middle of a transaction for longer counts as fenced."""
_SETTINGS: Final = {
    "acks": "all",
    "allow_auto_create_topics": False,
    "batch_size": BATCH_BYTES,
    "transaction_timeout_ms": _TRANSACTION_MS,
    "request_timeout_ms": 120_000,  # the end of the producer: brokers that stand still for less are waited for
    "delivery_timeout_ms": (1 << 31) - 1,  # a batch that is given up leaves a gap in the sequence numbers
    "max_block_ms": 10_000,
    "max_request_size": 1 << 26,
}
_FENCED: Final = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
_TOO_BIG: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


@dataclass(frozen=True, slots=True)
class Record:
    """A message to be sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    """None only where there is a key: the client sends nothing else."""
    headers: tuple[tuple[str, bytes], ...] = ()
    time_ms: int | None = None
    """Now, where it is None."""
    partition: int | None = None
    """By the key where it is None, and any where that is None too."""


class Fence:
    """Makes this process the one owner of a run: from here on, transactions of older owners fail.

    Args:
        config: where the brokers are.
        name: of the run, as the brokers know it; its owners all give the same.
        group: whose offsets are committed.
        patience_s: how long a transaction is waited for, besides a second for each MiB of it.

    Raises:
        ContactError: no broker answers.
        LoginError: a broker refuses the login, or wants one.
        AccessError: the user may not write under this name, or not use the group.
        ConfigError: a secret or a certificate cannot be read.
    """

    def __init__(self, config: KafkaConfig, name: str, group: str, patience_s: float = 10) -> None:
        self.config = config
        self._name, self._group, self._patience_s = name, group, patience_s
        self._running: Future[None] | None = None
        """A transaction that has begun, and may have ended since it was waited for."""
        self._heard = Overheard()
        try:
            self._client = connect(_producer, config, self._heard, transactional_id=name)
        except BaseException:
            self._heard.close()
            raise
        self._state = self._client._transaction_manager
        self._state._api_version = (2, 4)  # of brokers from which it cannot ask for a producer id anew
        try:
            self._within(config.contact / 1000 + _START_S, self._client.init_transactions)
            self.commit({})  # so that a missing right to the group shows now
        except BaseException:
            self.close()
            raise

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Put these offsets into the group, in one transaction; there may be none: the owner is asked for all the same.

        Raises:
            FencedError: a newer owner exists.
            ContactError: brokers do not answer in time; the offsets may reach the group later. Another call waits for
                that first, so it may be made at any time; where none can succeed any more it is a LostError.
            AccessError: a right is missing.
        """
        there = {TopicPartition(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        self._transaction(lambda: self._client.send_offsets_to_transaction(there, self._group), self._patience_s)

    def send(self, messages: Iterable[Record]) -> None:
        """Send messages, all in one transaction, which is finished on return.

        Raises:
            FencedError: a newer owner exists; nobody who reads what is committed will see a message.
            ContactError: as `commit` says; the messages may arrive later.
            AccessError: a right is missing.
            DataError: a topic takes no message as big; none was sent, and none will be by this fence: the client goes
                on behind the sequence numbers of what was refused.
        """
        records = list(messages)
        size_bytes = sum(len(record.value or b"") + len(record.key or b"") for record in records)

        def put() -> None:
            for sent in [self._send(record) for record in records]:
                sent.get()

        self._transaction(put, self._patience_s + size_bytes * _S_PER_BYTE)

    def close(self) -> None:
        """Leave the brokers, within seconds; what is not finished is given up."""
        if self._running is not None and not self._running.done():
            self._state.transition_to_fatal_error(errors.KafkaError("it was closed"))
            self._client._sender.force_close()
        with suppress(errors.KafkaError):
            self._client.close(timeout=_CLOSE_S)
        if self._state.has_fatal_error():
            self._state.authentication_failed(self._state.last_error)  # the client's only way to fail all who wait
        self._heard.close()

    def _send(self, record: Record) -> Any:
        return self._client.send(
            record.topic, record.value, record.key, list(record.headers), record.partition, record.time_ms
        )

    def _transaction(self, fill: Callable[[], None], patience_s: float) -> None:
        until_s = time.monotonic() + patience_s
        if self._running is not None:
            self._wait(until_s)  # whatever came of it: its caller was told that it failed
        self._within(until_s - time.monotonic(), lambda: self._fill_and_finish(fill))

    def _fill_and_finish(self, fill: Callable[[], None]) -> None:
        self._client.begin_transaction()
        try:
            fill()
            self._client.commit_transaction()
        except BaseException:
            if not self._state.has_fatal_error():
                self._client.abort_transaction()
            raise

    def _within(self, patience_s: float, work: Callable[[], None]) -> None:
        """Have it done by a thread of its own, since nothing else bounds it."""
        with self._asking():
            if self._state.has_fatal_error():
                raise self._state.last_error
        running: Future[None] = Future()

        def run() -> None:
            try:
                work()
                running.set_result(None)
            except BaseException as error:  # noqa: BLE001 - who waits raises it
                running.set_exception(error)

        self._running = running
        threading.Thread(target=run, name="fence", daemon=True).start()
        if (error := self._wait(time.monotonic() + patience_s)) is not None:
            with self._asking():
                raise error

    def _wait(self, until_s: float) -> BaseException | None:
        """What ended the running transaction early; None where it is finished."""
        assert self._running is not None
        try:
            error = self._running.exception(max(0, until_s - time.monotonic()))
        except TimeoutError:
            raise ContactError(
                f"kafka: no broker at {', '.join(self.config.servers)} finishes a transaction in time; it goes on by "
                "itself when they answer again: look after them, and try again"
            ) from None
        self._running = None
        return error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The client's exceptions in words for a user."""
        try:
            yield
        except _FENCED:
            raise self._taken_over() from None
        except errors.TransactionalIdAuthorizationFailedError:
            raise AccessError(
                f"kafka: this user has no right to the transactional id {self._name}; grant WRITE and DESCRIBE on it, "
                "or set kafka.sasl to a user who has them"
            ) from None
        except errors.GroupAuthorizationFailedError:
            raise AccessError(
                f"kafka: this user has no right to the group {self._group}; grant READ on it, or set kafka.group to "
                "one that the user may use"
            ) from None
        except _TOO_BIG as error:
            raise DataError(
                f"kafka: a topic takes no message as big as one of these: {error}; raise its max.message.bytes"
            ) from None
        except errors.AuthorizationError:
            with in_words(self.config, self._heard):
                raise
        except errors.KafkaError as error:
            if isinstance(self._state.last_error, _FENCED):  # whatever is asked behind it fails with another error
                raise self._taken_over() from None
            kind, rest = (LostError, "start it") if self._state.has_fatal_error() else (ContactError, "try")
            raise kind(f"kafka: a transaction failed: {error}; {rest} again") from None

    def _taken_over(self) -> FencedError:
        return FencedError(
            f"kafka: another daemon has taken over as {self._name}: nothing that this one did since its last "
            "snapshot counts; let that one run, or stop it and start this one again"
        )


def _producer(**settings: Any) -> Any:
    make = settings.pop("kafka_client")

    def patient(**configs: Any) -> Any:
        """A connection that says whether a broker is ready: where it raised instead, a transaction's call was lost."""
        net = make(**configs)
        await_ready = net.await_ready

        def is_ready(node: Any, timeout_ms: int) -> bool:
            try:
                return bool(await_ready(node, timeout_ms=timeout_ms))
            except errors.KafkaError:
                return False

        net.await_ready = is_ready
        return net

    return KafkaProducer(**(settings | _SETTINGS), kafka_client=patient)
