"""How far a run is behind its topics, in records and in event time."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from streamctr.order import FIRST_MS, LAST_MS, Orderer
from streamctr.ports import Sink
from streamctr.schema import instant_text


class Lag(Protocol):
    """Of one partition."""

    @property
    def place(self) -> tuple[str, int]:
        """Topic and number."""
        ...

    @property
    def next(self) -> int:
        """The offset that is read next."""
        ...

    @property
    def end(self) -> int:
        """One behind the newest offset, when brokers were last asked."""
        ...


def report_of(lags: Sequence[Lag], orderer: Orderer, rejected_times: int) -> dict[str, Any]:
    """Per partition the records that are left and how far its newest event is behind the newest of all, and W.

    `watermark_age_s` compares event time with the clock of this machine.
    """
    newest_ms, idle, released_ms = orderer.newest_ms, orderer.idle, orderer.released_ms
    first_ms = int(newest_ms.max(initial=FIRST_MS))
    partitions = {}
    for place, lag in enumerate(lags):
        behind_ms = None if newest_ms[place] == FIRST_MS else first_ms - int(newest_ms[place])
        partitions["{}/{}".format(*lag.place)] = {
            "records": max(0, lag.end - lag.next),
            "behind_s": None if behind_ms is None else behind_ms / 1000,
            "idle": bool(idle[place]),
        }
    known = FIRST_MS + 1 < released_ms < LAST_MS  # one more than the first is the end of topics that hold nothing
    age_s = round(time.time() - released_ms / 1000, 1) if known else None
    return {
        "lag": {
            "records": sum(partition["records"] for partition in partitions.values()),
            "watermark": instant_text(released_ms) if known else None,
            "watermark_age_s": age_s,
            "idle": int(np.count_nonzero(idle)),
            "rejected_times": rejected_times,
            "partitions": partitions,
        }
    }


class Watched:
    """A log whose records also carry what `look` sees when they are written."""

    def __init__(self, log: Sink, look: Callable[[], dict[str, Any]]) -> None:
        self._log, self._look = log, look

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append; on disk after `flush`."""
        if records:
            seen = self._look()
            self._log.write([record | seen for record in records])

    def flush(self) -> str:
        """As the log."""
        return self._log.flush()

    def truncate(self, extent: str) -> None:
        """As the log."""
        self._log.truncate(extent)

    def close(self) -> None:
        """As the log."""
        self._log.close()
