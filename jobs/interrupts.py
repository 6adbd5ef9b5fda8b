"""What comes in beside the events: signals that ask to stop, and the wall clock that asks for a snapshot."""

import signal
import threading
from datetime import UTC
from types import FrameType, TracebackType
from typing import Any, Final

from apscheduler.schedulers.background import BackgroundScheduler

_EXIT_CODES: Final = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """Turns the first SIGINT or SIGTERM into a flag; a second one ends the process at once.

    >>> with Stop() as stop:
    ...     stop.asked
    False
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether the run is to stop after the block that it is at."""
        return self._signal is not None

    @property
    def name(self) -> str:
        """The signal that came."""
        return self._signal.name if self._signal else ""

    @property
    def exit_code(self) -> int:
        """0 where none came."""
        return _EXIT_CODES[self._signal] if self._signal else 0

    def __enter__(self) -> "Stop":
        for number in _EXIT_CODES:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)
        for each in _EXIT_CODES:
            signal.signal(each, signal.SIG_DFL)


class Alarm:
    """Rings every `every_ms` of wall time; never where that is 0.

    >>> with Alarm(0) as alarm:
    ...     alarm.rang()
    False
    """

    def __init__(self, every_ms: int) -> None:
        self._flag = threading.Event()
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True})
        if every_ms:
            self._scheduler.add_job(self._flag.set, "interval", seconds=every_ms / 1000)

    def rang(self) -> bool:
        """Whether it rang since the last call."""
        rang = self._flag.is_set()
        self._flag.clear()
        return rang

    def __enter__(self) -> "Alarm":
        self._scheduler.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scheduler.shutdown(wait=False)
