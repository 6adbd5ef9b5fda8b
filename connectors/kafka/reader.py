"""Reads topics ahead of who asks for messages, in a thread of its own."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from connectors.kafka.backlog import Backlog, Given
from connectors.kafka.client import Client, OutOfRangeError, Place
from connectors.kafka.contact import Contact
from connectors.kafka.gaps import Gaps
from streamctr.errors import ContactError, LoginError

_POLL_S: Final = 0.3
_ASK_S: Final = 5.0
"""How often brokers are asked where their logs end, at least."""
_NEVER_S: Final = float("inf")
_SILENT: Final = (ContactError, LoginError)
"""Brokers fell silent between two questions; one that ends a connection may look like one that refuses a login."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is waited for."""

    idle_s: float
    silence_s: float
    look_s: float | None
    """How often new partitions are looked for; None: never."""

    @property
    def ask_s(self) -> float:
        """How often brokers are asked where their logs end: often enough to tell silence and idleness in time."""
        return min(_ASK_S, self.silence_s / 6, self.idle_s / 4)


class Reader:
    """Moves records from a client to a backlog, as far as that wants them; while it runs nobody else uses the client.

    Args:
        client: of it `read_only` decides what is read.
        backlog: shared with who gives out of it; `changed` guards it.
        gaps: where to go on when what is next is gone.
        tell: is given words, from the thread.
        patience: how often brokers are asked.
    """

    def __init__(
        self, client: Client, backlog: Backlog, gaps: Gaps, tell: Callable[[str], None], patience: Patience
    ) -> None:
        self._client, self._backlog, self._gaps, self._patience = client, backlog, gaps, patience
        self._contact = Contact(tell, patience.silence_s)
        self._reading: frozenset[Place] = frozenset()
        self._ask_again_s = self._look_again_s = 0.0
        self._thread: threading.Thread | None = None
        self._halting = False
        self._error: BaseException | None = None
        self.changed = threading.Condition()
        """Held by who looks at the backlog or changes it; told of when it has changed."""
        self.found: dict[Place, tuple[int, int]] = {}
        """New partitions of the topics, each with the offsets at which it begins and ends."""

    def start(self) -> None:
        """Read, if it does not."""
        if self._thread is None:
            now_s = time.monotonic()
            look_s = self._patience.look_s
            self._ask_again_s = now_s + self._patience.ask_s
            self._look_again_s = _NEVER_S if look_s is None else now_s + look_s
            self._halting, self._error, self._reading = False, None, frozenset()
            self._thread = threading.Thread(target=self._run, name="kafka reader", daemon=True)
            self._thread.start()

    def halt(self, wait_s: float | None = None) -> bool:
        """Read no more; whether the thread has ended, and the client is free."""
        if self._thread is None:
            return True
        with self.changed:
            self._halting = True
            self.changed.notify_all()
        self._thread.join(wait_s)
        ended = not self._thread.is_alive()
        self._thread = None if ended else self._thread
        return ended

    def give(self, partition: int, most: int, most_bytes: int) -> Given:
        """What is there of this partition or of one that was idle, when something is, or after a short while nothing.

        Raises:
            StreamctrError: what ended the thread.
        """
        give_up_s = time.monotonic() + _POLL_S
        with self.changed:
            while True:
                if self._error is not None:
                    raise self._error
                chosen = self._backlog.choose(partition)
                if chosen is not None or not self.changed.wait(give_up_s - time.monotonic()):
                    given = self._backlog.give(partition if chosen is None else chosen, most, most_bytes)
                    self.changed.notify_all()  # there may be room
                    return given

    def _run(self) -> None:
        try:
            while not self._halting:
                try:
                    self._step()
                except _SILENT:
                    self._contact.unheard(time.monotonic())
                    self._rest()
        except BaseException as error:  # noqa: BLE001 - whoever asks next raises it
            with self.changed:
                self._error = error
                self.changed.notify_all()

    def _step(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._ask_again_s:
            self._try(self._ask)
            self._ask_again_s = time.monotonic() + self._patience.ask_s
        if now_s >= self._look_again_s:
            self._try(self._look)
            self._look_again_s = time.monotonic() + (self._patience.look_s or 0.0)
        with self.changed:
            wanted = self._backlog.wanted()
        if wanted:
            self._read(wanted)
        else:
            self._rest()

    def _try(self, question: Callable[[], None]) -> None:
        """Ask; one that stays without an answer does not keep messages from being read."""
        try:
            question()
        except _SILENT:
            self._contact.unheard(time.monotonic())

    def _rest(self) -> None:
        with self.changed:
            if not self._halting:
                self.changed.wait(_POLL_S)

    def _read(self, wanted: Mapping[Place, int]) -> None:
        if wanted.keys() != self._reading:
            self._client.read_only(wanted)
            self._reading = frozenset(wanted)
        try:
            polled = self._client.poll(round(_POLL_S * 1000))
        except OutOfRangeError as error:
            self._client.look_for_places()
            anew = self._begin_anew()
            self._go_to(self._gaps.mend({place: error.wanted[place] for place in error.wanted if place[0] not in anew}))
            return
        positions = {place: self._client.position(place) for place in wanted}
        now_s = time.monotonic()
        if polled:
            self._heard(now_s)
        with self.changed:
            self._backlog.put(polled, now_s)
            self._backlog.reached(positions)
            self.changed.notify_all()

    def _ask(self) -> None:
        """Ask whether brokers are there, and where their logs end."""
        now_s = time.monotonic()
        if self._client.answers():
            ends = self._client.ends()
            self._heard(now_s)
            with self.changed:
                self._backlog.confirm(ends, now_s)
                self.changed.notify_all()
        else:
            self._contact.unheard(now_s)

    def _heard(self, now_s: float) -> None:
        silent_s = self._contact.heard(now_s)
        with self.changed:
            self._backlog.pass_over(silent_s, now_s)

    def _look(self) -> None:
        """Find partitions that are new, and topics that are others of the same name."""
        places = self._client.look_for_places()
        self._begin_anew()
        with self.changed:
            known = {*self._backlog.places, *self.found}
        new = [place for place in places if place not in known]
        if new:
            begins, ends = self._client.beginnings(), self._client.ends()
            with self.changed:
                self.found |= {place: (begins[place], ends[place]) for place in new}
                self.changed.notify_all()

    def _begin_anew(self) -> set[str]:
        """Go to where topics that are others of the same name are read on; which these are."""
        ids = self._client.topic_ids()
        anew = self._gaps.anew(ids)
        if anew:
            with self.changed:
                known = {lag.place: lag.next for lag in self._backlog.lag() if lag.place[0] in anew}
            mended = self._gaps.mend(known, anew)
            with self.changed:  # at once, so that no positions are of the one and ids of the other
                self._backlog.go_to(mended, time.monotonic())
                self._gaps.ids = ids
            self._reading = frozenset()
        self._gaps.ids = ids
        return anew

    def _go_to(self, offsets: Mapping[Place, int]) -> None:
        with self.changed:
            self._backlog.skip_to(offsets)
        self._reading = frozenset()  # assigned anew, each from where it goes on
