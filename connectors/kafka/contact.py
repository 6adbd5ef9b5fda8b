"""Whether the brokers still answer: while they do not, the client gives nothing and raises nothing."""

from collections.abc import Callable


class Contact:
    """Tells of brokers that have gone silent, once, and of their return.

    Silence counts from the first question that had no answer: who was busy elsewhere accuses nobody.

    Args:
        tell: is given the words.
        silence_s: for how long nobody must answer.
    """

    def __init__(self, tell: Callable[[str], None], silence_s: float) -> None:
        self._tell, self._silence_s = tell, silence_s
        self._silent_since_s: float | None = None
        self._told = False

    def heard(self, now_s: float) -> float:
        """They answered, or something came from them; for how long they were silent, in s."""
        silent_s = 0.0 if self._silent_since_s is None else now_s - self._silent_since_s
        if self._told:
            self._tell(f"contact with the brokers again, after {silent_s:.0f} s; nothing is lost")
        self._silent_since_s, self._told = None, False
        return silent_s

    def unheard(self, now_s: float) -> None:
        """They were asked at that moment, and did not answer."""
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        elif not self._told and now_s - self._silent_since_s >= self._silence_s:
            self._told = True
            self._tell(
                f"no contact with the brokers for {self._silence_s:g} s; waiting for them, a signal stops the run"
            )
