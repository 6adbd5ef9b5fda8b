"""How many of the last messages were malformed: so many that somebody must have changed the schema."""

import base64
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from streamctr.errors import DataError
from streamctr.ports import Arrays, RawBlock, pack_text, unpack_text
from streamctr.schema import RejectsConfig

_EXAMPLE: Final = 400
"""Characters of base64 of the example that an error shows; a multiple of four."""
_VALUE: Final = re.compile(r" is .*, (?=not |none of )", re.DOTALL)
_FORMS: Final = {"json": "one JSON object a line", "csv": "one CSV record a line", "arrow": "a row of columns"}


def reason_kind(reason: str) -> str:
    """A letter's reason without the value in it, so that like ones can be counted together.

    >>> reason_kind('number "price" is "1,5", not a number')
    'number "price" is not a number'
    """
    return _VALUE.sub(" is ", reason)


@dataclass(slots=True)
class _Reasons:
    """Malformed messages by reason, without the values in it: how often, and the first one's letter in short."""

    count: int = 0
    by_reason: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, letter: dict[str, Any]) -> None:
        self.count += 1
        first = [0, letter["reason"], letter["path"], letter["line"], (letter["bytes"] or "")[:_EXAMPLE]]
        self.by_reason.setdefault(reason_kind(letter["reason"]), first)[0] += 1

    def commonest(self) -> tuple[int, str, str, int, bytes]:
        times, reason, path, line, text = max(self.by_reason.values(), key=lambda first: first[0])
        return times, reason, path, line, base64.b64decode(text)


@dataclass(slots=True)
class _Partition:
    """What a partition has given: in the file that it is at, and in the piece of messages that is counted off."""

    good: int = 0
    """Messages of the file that are not malformed."""
    file: _Reasons = field(default_factory=_Reasons)
    """Kept only while nothing was good."""
    seen: int = 0
    """Messages of all files."""
    piece: _Reasons = field(default_factory=_Reasons)


class Tally:
    """Counts malformed messages of each partition, message by message, and stops a run that has too many.

    Args:
        config: how many are too many.
        wanted: where the key and the time are looked for, in words.
    """

    def __init__(self, config: RejectsConfig, wanted: str) -> None:
        self._config, self._wanted = config, wanted
        self._partitions: dict[int, _Partition] = {}

    def count(self, block: RawBlock, messages: int, letters: list[tuple[int, dict[str, Any]]]) -> None:
        """Count a block's messages; `letters` are of the malformed ones, each with its number among them, from 0.

        Raises:
            DataError: of a piece of messages too many were malformed, or a whole file.
        """
        partition = self._partitions.setdefault(block.partition, _Partition())
        self._count_piece(partition, block, messages, letters)
        self._count_file(partition, block, messages, letters)

    def forget(self) -> None:
        """Other partitions follow."""
        self._partitions = {}

    def state(self) -> Arrays:
        """What was counted so far, as JSON."""
        counted = {place: asdict(partition) for place, partition in self._partitions.items()}
        return {"tallies": pack_text(orjson.dumps(counted, option=orjson.OPT_NON_STR_KEYS).decode())}

    def restore(self, arrays: Arrays) -> None:
        """Become what `state` described."""
        self._partitions = {
            int(place): _Partition(p["good"], _Reasons(**p["file"]), p["seen"], _Reasons(**p["piece"]))
            for place, p in orjson.loads(unpack_text(arrays["tallies"])).items()
        }

    def _count_piece(
        self, partition: _Partition, block: RawBlock, messages: int, letters: list[tuple[int, dict[str, Any]]]
    ) -> None:
        of_last = self._config.of_last
        first = partition.seen
        partition.seen += messages
        pieces = [(first + number) // of_last for number, _ in letters]
        piece = first // of_last
        for at, (_, letter) in zip(pieces, letters, strict=True):
            if at != piece:
                self._close_piece(partition, block)
                piece = at
            partition.piece.add(letter)
        if partition.seen // of_last != piece:
            self._close_piece(partition, block)

    def _close_piece(self, partition: _Partition, block: RawBlock) -> None:
        rejected, partition.piece = partition.piece, _Reasons()
        if rejected.count > self._config.share * self._config.of_last:
            times, reason, path, line, text = rejected.commonest()
            raise DataError(
                f"{path}: {rejected.count} of {self._config.of_last} messages in a row are malformed, more than the "
                f"share of {self._config.share:g} that rejects.share allows, {times} of them because: {reason}. "
                f"{self._example(block, line, text)}, or raise rejects.share"
            )

    def _count_file(
        self, partition: _Partition, block: RawBlock, messages: int, letters: list[tuple[int, dict[str, Any]]]
    ) -> None:
        """A file that ends and had nothing but malformed messages stops the run."""
        partition.good += messages - len(letters)
        if partition.good:
            partition.file = _Reasons()
        else:
            for _, letter in letters:
                partition.file.add(letter)
        if not block.file_ended:
            return
        rejected = partition.file
        if not block.ended:  # the last file may grow: what it gave counts then too
            partition.good, partition.file = 0, _Reasons()
        if rejected.count:
            times, reason, _, line, text = rejected.commonest()
            raise DataError(
                f"{block.path}: every one of its {rejected.count} messages is malformed, {times} of them because: "
                f"{reason}. {self._example(block, line, text)}"
            )

    def _example(self, block: RawBlock, line: int, text: bytes) -> str:
        shown = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode()
            for char in text.decode(errors="backslashreplace")
        )
        return (
            f"{'Row' if block.kind == 'arrow' else 'Line'} {line} is {shown}. Wanted is {_FORMS[block.kind]}, with "
            f"{self._wanted}: mend the file or the run file"
        )
