"""Whether the brokers still answer: while they do not, the client gives nothing and raises nothing."""

import time
from collections.abc import Callable
from typing import Final

_ASKED: Final = 6
"""How often brokers are asked before their silence is said."""


class Contact:
    """Tells of brokers that have gone silent, once, and of their return; they are asked only while nothing comes.

    Silence counts from the first question that had no answer: a consumer that was busy elsewhere accuses nobody.

    Args:
        ask: whether a broker answers now.
        tell: is given the words.
        silence_s: for how long nobody must answer.
        now_s: a clock.
    """

    def __init__(
        self,
        ask: Callable[[], bool],
        tell: Callable[[str], None],
        silence_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._tell, self._silence_s, self._now_s = ask, tell, silence_s, now_s
        self._ask_again_s = now_s() + silence_s / _ASKED
        self._silent_since_s: float | None = None
        self._told = False

    def came(self) -> None:
        """Something came from them."""
        if self._silent_since_s is not None and self._told:
            silent_s = self._now_s() - self._silent_since_s
            self._tell(f"contact with the brokers again, after {silent_s:.0f} s; nothing is lost")
        self._silent_since_s, self._told = None, False

    def nothing_came(self) -> None:
        """Nothing came: brokers that were not asked for a while are asked."""
        now_s = self._now_s()
        if now_s < self._ask_again_s:
            return
        answered = self._ask()
        self._ask_again_s = self._now_s() + self._silence_s / _ASKED
        if answered:
            self.came()
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        elif not self._told and now_s - self._silent_since_s >= self._silence_s:
            self._told = True
            self._tell(
                f"no contact with the brokers for {self._silence_s:g} s; waiting for them, a signal stops the run"
            )
