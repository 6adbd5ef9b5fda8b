"""The texts of the few id values that figures are sliced by: the first `limit` of each field in release order."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import orjson

from streamctr.hashing import MISSING_ID, U64
from streamctr.kernel import kernel
from streamctr.ports import Arrays, pack_text, unpack_text

_NO_PARTS: Final[Mapping[str, tuple[str, ...]]] = {}


@kernel
def first_new(known: U64, ids: U64, start: int) -> int:
    """The first row from `start` on whose id is not known (a few are); the end where there is none."""
    for row in range(start, len(ids)):
        for value in known:
            if value == ids[row]:
                break
        else:
            return row
    return len(ids)


class Names:
    """Remembers what a hash stood for, as long as it can still be among the first `limit` values of a sliced field.

    Decoding offers texts, releasing claims them; once `limit` values of a field were released, no other is needed, so
    the memory is bounded by what waits between the two and the result does not depend on how the input was chunked.
    Texts of a field that others make their own of (`parts`: crosses, and their members) are kept as long as those.

    >>> names = Names(("tab",), limit=1)
    >>> names.offer("tab", {7: "home", 8: "feed"})
    >>> names.claim("tab", np.array([8, 7], np.uint64))
    >>> names.text("tab", 8)
    'feed'
    """

    def __init__(
        self, fields: tuple[str, ...], limit: int = 32, parts: Mapping[str, tuple[str, ...]] = _NO_PARTS
    ) -> None:
        self.fields = fields
        self._limit = limit
        self._parts = {field: parts[field] for field in fields if field in parts}
        members = (member for members in self._parts.values() for member in members)
        self._offered: dict[str, dict[int, str]] = {field: {} for field in (*fields, *members)}
        self._claimed: dict[str, dict[int, str]] = {field: {} for field in fields}

    def wants(self, field: str) -> bool:
        """Whether texts of this field are still looked for, for its own sake or as part of another."""
        return self._open(field) or any(field in members and self._open(of) for of, members in self._parts.items())

    def offer(self, field: str, texts: dict[int, str]) -> None:
        """Texts of hashes that were just decoded."""
        if self.wants(field):
            self._offered[field].update(texts)

    def claim(self, field: str, ids: U64) -> None:
        """Ids of roots in release order, (N,): the first new ones keep their texts."""
        if not self._open(field):
            return
        claimed = self._claimed[field]
        row = 0
        while self._open(field):
            row = first_new(np.array(list(claimed), np.uint64), ids, row)
            if row == len(ids):
                return
            claimed[int(ids[row])] = self.offered(field, int(ids[row]))
        self._offered |= {name: {} for name in self._offered if not self.wants(name)}

    def offered(self, field: str, value: int) -> str:
        """What a hash stands for that was decoded, of a field that is still part of an open one."""
        return "missing" if value == MISSING_ID else self._offered[field].get(value, f"#{value:016x}")

    def text(self, field: str, value: int) -> str:
        """What the hash stood for; the hash itself in hex where nobody said."""
        return self._claimed[field].get(value, f"#{value:016x}")

    def state(self) -> Arrays:
        """Both dictionaries, as JSON."""
        tables = {"offered": self._offered, "claimed": self._claimed}
        return {"names": pack_text(orjson.dumps(tables, option=orjson.OPT_NON_STR_KEYS).decode())}

    def restore(self, arrays: Arrays) -> None:
        """Become what `state` described."""
        tables = orjson.loads(unpack_text(arrays["names"]))
        self._offered, self._claimed = (
            {field: {int(value): text for value, text in known.items()} for field, known in tables[kind].items()}
            for kind in ("offered", "claimed")
        )

    def _open(self, field: str) -> bool:
        return field in self._claimed and len(self._claimed[field]) < self._limit
