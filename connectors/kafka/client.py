"""What reads topics, whichever client it is: partitions from offsets that the caller sets, nothing committed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from connectors.kafka.config import KafkaConfig
from streamctr.ports import Original

Place = tuple[str, int]
"""A partition: its topic and its number."""

FETCH_WAIT_MS: Final = 100
"""How long a broker that has nothing holds a request: a partition that is read again waits for the one under way."""


class OutOfRangeError(Exception):
    """The brokers do not have what is to be read next; `wanted` are its offsets."""

    def __init__(self, wanted: Mapping[Place, int]) -> None:
        super().__init__(wanted)
        self.wanted = dict(wanted)


@dataclass(frozen=True, slots=True)
class Records:
    """Some of one partition, in order: N of them, at least one."""

    place: Place
    values: list[bytes | None]
    """N; None for a tombstone."""
    offsets: NDArray[np.int64]
    """(N,), growing, not always by one."""
    times_ms: NDArray[np.int64]
    """(N,), the timestamps of the records; negative where they have none."""
    original: Callable[[int], Original]
    """All of the one at that place, from 0: made only when it is asked for."""
    size_bytes: int
    """Of all values."""

    def take(self, begin: int, end: int) -> "Records":
        """Those of the places from `begin` to before `end`."""
        values, original = self.values[begin:end], self.original
        return Records(
            self.place,
            values,
            self.offsets[begin:end],
            self.times_ms[begin:end],
            lambda place: original(begin + place),
            size_of(values),
        )


class Client(Protocol):
    """All partitions of some topics; of messages in transactions those that were committed.

    What it raises, where nothing else is said: ContactError (no broker answers), LoginError, AccessError (a topic may
    not be read), TopicError (there is no such topic), ConfigError (a secret or a certificate cannot be read).
    """

    places: list[Place]
    """All partitions that are known, sorted; at the start all are assigned, and none is positioned."""

    def beginnings(self) -> dict[Place, int]:
        """The oldest offset of each known partition."""
        ...

    def ends(self) -> dict[Place, int]:
        """One behind the newest offset of each known partition, as far as its transactions are finished."""
        ...

    def since(self, time_ms: int) -> dict[Place, int]:
        """The first offset of each partition that was stored at that time or later; its end where there is none."""
        ...

    def go_to(self, offsets: Mapping[Place, int]) -> None:
        """Read these partitions, all of them assigned, from there on."""
        ...

    def read_only(self, offsets: Mapping[Place, int]) -> None:
        """Assign exactly these partitions, each from its next offset; the others are left out until they are named."""
        ...

    def poll(self, timeout_ms: int) -> list[Records]:
        """Records of assigned partitions; none also while no broker answers.

        Raises:
            OutOfRangeError: the brokers do not have what is next.
            DataError: a message is damaged, or packed by a codec that is not here; no `poll` may follow.
            AccessError: a topic may not be read.
        """
        ...

    def position(self, place: Place) -> int:
        """The next offset of an assigned partition: behind what `poll` gave and offsets that hold no message."""
        ...

    def look_for_places(self) -> list[Place]:
        """All partitions that the topics have now, sorted; those known before where no broker answers."""
        ...

    def topic_ids(self) -> dict[str, str]:
        """What tells a topic from one that had its name before; empty where the brokers have no such ids."""
        ...

    def answers(self) -> bool:
        """Whether a broker says soon where the partitions end; whatever else is wrong, `poll` says."""
        ...

    def close(self) -> None:
        """Leave the brokers."""
        ...


def open_client(config: KafkaConfig, topics: Sequence[str]) -> Client:
    """The client that the configuration names, which reached a broker; the others are not loaded.

    Raises:
        ConfigError: it is not installed.
        StreamctrError: as `Client` says.
    """
    match config.client:
        case "kafka-python":
            from connectors.kafka.kafkapython import KafkaPythonClient

            return KafkaPythonClient(config, topics)
        case "confluent":
            from connectors.kafka.confluent import ConfluentClient

            return ConfluentClient(config, topics)
        case _:
            assert_never(config.client)


def name_of(place: Place) -> str:
    """A partition as messages name it."""
    return f"{place[0]}/{place[1]}"


def size_of(values: Sequence[bytes | None]) -> int:
    """Their bytes together."""
    return sum(map(len, filter(None, values)))
