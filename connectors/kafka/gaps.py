"""Messages that are to be read next and are gone: they stop a run, or it goes on where it was told to."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, Literal

from connectors.kafka.client import Client, Place, name_of
from streamctr.errors import DataError

OnGap = Literal["stop", "earliest", "latest"]
"""Where to go on: nowhere, at the oldest message that is left, or at the next one to come."""


class Gaps:
    """Finds what is gone and says where to go on.

    Args:
        client: who asks the brokers.
        on_gap: where that is.
        tell: is given the words for each gap that is passed over.
    """

    def __init__(self, client: Client, on_gap: OnGap, tell: Callable[[str], None]) -> None:
        self._client, self._on_gap, self._tell = client, on_gap, tell
        self.ids = client.topic_ids()
        """What tells each topic from one that had its name before."""
        self.texts: list[str] = []
        """What was passed over, in words."""

    def anew(self, before: Mapping[str, str]) -> set[str]:
        """Topics that are not those that had these ids."""
        return {topic for topic, name in before.items() if self.ids.get(topic, name) != name}

    def mend(self, offsets: Mapping[Place, int], anew: Collection[str] = ()) -> dict[Place, int]:
        """Offsets that are there, for those that are to be read next; all of the topics `anew` are gone.

        Raises:
            DataError: some are not there, and a gap stops the run.
        """
        begins, ends = self._client.beginnings(), self._client.ends()
        found = {
            place: text
            for place, offset in offsets.items()
            if (text := gap_of(place, offset, begins[place], ends[place], place[0] in anew))
        }
        if found and self._on_gap == "stop":
            raise DataError(f"kafka: {'; '.join(found.values())}. {_CHOICES}")
        for text in found.values():
            self.texts.append(text)
            self._tell(text)
        elsewhere = begins if self._on_gap == "earliest" else ends
        return {place: elsewhere[place] if place in found else offset for place, offset in offsets.items()}


def gap_of(place: Place, offset: int, begin: int, end: int, anew: bool = False) -> str:
    """What is wrong with reading on at an offset of a log from `begin` to `end`; empty where nothing is.

    >>> gap_of(("clicks", 0), 7, 9, 20), gap_of(("clicks", 0), 7, 7, 7)
    ('clicks/0 was read up to 7 and now begins at 9: 2 messages are gone', '')
    """
    name = name_of(place)
    if offset < begin and not anew:
        return f"{name} was read up to {offset} and now begins at {begin}: {begin - offset} messages are gone"
    if offset > end:
        return f"{name} was read up to {offset} and now ends at {end}: the topic was created anew"
    return f"{name} was read up to {offset}, and the topic was created anew" if anew and offset else ""


_CHOICES: Final = (
    "Go on without them with --on-gap earliest (at the oldest message that is left) or --on-gap latest (at the next "
    "one to come), or start anew with --fresh"
)
