"""The decoder on mutated messages: `python -m tests.bench.fuzz [MESSAGES [SEED]]` (`make fuzz`).

Good messages of five logs (flat JSON, nested JSON of all stages, the same with everything as text, CSV, columns) are
mutated by bytes and by values and decoded in blocks. Nothing may crash, every message must end in one counted outcome,
and the events and letters must be those of the slow way: the strict parser, line by line, which also reads what CSV
records and rows of columns mean, written as JSON here. Some blocks are decoded message by message besides.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import orjson

from streamctr.decode import Decoded, Decoder
from streamctr.decode.cells import Parsed
from streamctr.decode.jsonlines import JsonLines
from streamctr.decode.scan import BLANK, SUSPECT, Found
from streamctr.decode.tokens import Bytes
from streamctr.events import EventBatch
from streamctr.names import Names
from streamctr.ports import RawBlock
from tests.bench.mutants import Log, Trial, Trials, logs

ALONE = 40
"""So many messages of every tenth block are decoded each for itself."""
DERIVED = frozenset({"seen", "install", "big"})


class Fast(JsonLines):
    """Also counts the messages that were read where they stand."""

    straight = 0

    def parse(self, payload: bytes) -> Parsed:
        parsed = super().parse(payload)
        self.straight += len(parsed.places) - len(next(iter(parsed.cells.values())).messages)  # type: ignore[union-attr]
        return parsed


class Strict(JsonLines):
    """Reads every line with the strict parser."""

    def _scan(self, payload: bytes, text: Bytes) -> Found:
        found = super()._scan(payload, text)
        found.states_L[found.states_L != BLANK] = SUSPECT
        return found


def decoder_of(log: Log, lines: type[JsonLines]) -> tuple[Decoder, JsonLines]:
    """A decoder of a log, and how it reads JSON."""
    decoder = Decoder(log.config, log.funnel, log.features, Names(()))
    read = lines(decoder._fields[log.stage])
    decoder._json[log.stage] = read
    return decoder, read


def column_bytes(batches: list[EventBatch]) -> list[bytes]:
    """The columns of several batches, to be compared to the bit."""
    return [b"".join(getattr(batch, f.name).tobytes() for batch in batches) for f in fields(EventBatch)]


def outcome(parts: list[Decoded], letters: bool) -> tuple[Any, ...]:
    """What a block became, decoded in one part or many; of letters all, or where and of which stage."""
    told = [part.lines[part.line_of].tobytes() for part in parts]
    kept = [letter if letters else (letter["line"], letter["stage"]) for part in parts for letter in part.letters]
    counts = [sum(getattr(part, name) for part in parts).tolist() for name in ("read", "rejected", "skipped")]
    columns = column_bytes([part.events for part in parts]), column_bytes([part.derived for part in parts])
    return *columns, b"".join(told), b"".join(part.lines.tobytes() for part in parts), kept, counts


def check_counts(log: Log, found: Decoded, messages: int) -> None:
    """Every message and every derived event ends in one counted outcome."""
    stages = len(log.funnel.names) + 1
    events = np.bincount(np.concatenate([found.events.stage, found.derived.stage]), minlength=stages)
    assert found.read.tolist() == (events + found.rejected + found.skipped).tolist(), "read is no sum of outcomes"
    letters = Counter(letter["stage"] for letter in found.letters)
    names = (*log.funnel.names, "(other)")
    assert found.rejected.tolist() == [letters[name] for name in names], "letters are not the rejected ones"
    own = [letter["line"] for letter in found.letters if letter["stage"] not in DERIVED]
    assert len(found.events) + len(own) + int(found.skipped.sum()) == messages, "messages are lost, or twice there"
    lines = [*found.lines.tolist(), *own]
    assert len(set(lines)) == len(lines), "a line is both good and malformed"


class Fuzz:
    """One log: its decoders, and what they were given."""

    def __init__(self, log: Log, seed: int) -> None:
        self.log, self._trials = log, Trials(log, seed)
        self._fast, self._lines = decoder_of(log, Fast)
        self._slow, _ = decoder_of(log, Strict)
        self._alone, _ = decoder_of(log, Strict)
        self.blocks = self.messages = self.mutated = self.good = self.rejected = 0
        self.seconds = 0.0

    @property
    def straight(self) -> int | None:
        """Good JSON messages that the strict parser did not see."""
        return self._lines.straight if self.log.kind == "json" else None  # type: ignore[attr-defined]

    def step(self) -> None:
        """Decode one block in both ways."""
        trial = self._trials.draw()
        start = time.perf_counter()
        found = self._fast.decode(trial.block)
        self.seconds += time.perf_counter() - start
        messages = sum(not blank for blank in self._blank(trial))
        check_counts(self.log, found, messages)
        meant = self._slow.decode(replace(trial.block, kind="json", payload=trial.meant, rows=None))
        same_letters = self.log.kind == "json"
        assert outcome([found], same_letters) == outcome([meant], same_letters), "the slow way gives something else"
        if self.blocks % 10 == 0:
            first = self._fast.decode(_head(trial.block))
            alone = [self._alone.decode(block) for block in _alone(_head(trial.block))]
            assert outcome([first], True) == outcome(alone, True), "messages alone give something else"
        self.blocks += 1
        self.messages += messages
        self.mutated += trial.mutated
        self.good += len(found.events)
        self.rejected += len(found.letters)

    def _blank(self, trial: Trial) -> Iterator[bool]:
        if self.log.kind == "json":
            return (not line.strip(b" \t\r") for line in trial.meant.split(b"\n"))
        return (not line for line in trial.meant.split(b"\n"))


def _head(block: RawBlock) -> RawBlock:
    """The first messages."""
    if block.kind == "arrow":
        return replace(block, rows=block.rows.slice(0, ALONE))
    return replace(block, payload=b"\n".join(block.payload.split(b"\n")[:ALONE]))


def _alone(block: RawBlock) -> Iterator[RawBlock]:
    """Each message as a block."""
    if block.kind == "arrow":
        return (replace(block, first_line=row + 1, rows=block.rows.slice(row, 1)) for row in range(len(block.rows)))
    lines = enumerate(block.payload.split(b"\n"), start=1)
    return (replace(block, first_line=number, payload=line) for number, line in lines)


def fuzz(mutated: int, seed: int) -> list[Fuzz]:
    """Mutate that many messages, the logs in turn.

    Raises:
        AssertionError: a block went wrong; the note says which.
    """
    going = [Fuzz(log, seed + place) for place, log in enumerate(logs(seed))]
    while sum(one.mutated for one in going) < mutated:
        for one in going:
            try:
                one.step()
            except Exception as error:
                error.add_note(f"seed {seed}, {one.log.name} log, block {one.blocks}")
                raise
    return going


def main() -> None:
    mutated, seed = (int(given) for given in (*sys.argv[1:], *("1_000_000", "0")[len(sys.argv) - 1 :]))
    done = fuzz(mutated, seed)
    print(f"{'log':<8}{'messages':>12}{'mutated':>12}{'good':>8}{'read straight':>14}{'messages/s':>12}")
    for one in done:
        straight = "" if one.straight is None else f"{one.straight / one.messages:.1%}"
        counts = f"{one.messages:>12,}{one.mutated:>12,}{one.good / one.messages:>8.1%}"
        print(f"{one.log.name:<8}{counts}{straight:>14}{one.messages / one.seconds:>12,.0f}")
    total = {name: sum(getattr(one, name) for one in done) for name in ("messages", "mutated", "good", "rejected")}
    lines = [one for one in done if one.straight is not None]
    share = sum(one.straight or 0 for one in lines) / sum(one.messages for one in lines)
    per_s = total["messages"] / sum(one.seconds for one in done)
    print(
        orjson.dumps({**total, "seed": seed, "read_straight": round(share, 3), "messages_per_s": round(per_s)}).decode()
    )


if __name__ == "__main__":
    main()
