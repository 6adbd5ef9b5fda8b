"""The texts of the few id values that figures are sliced by: the first `limit` of each field in release order."""

import numpy as np
import orjson

from streamctr.hashing import MISSING_ID, U64
from streamctr.ports import Arrays, pack_text, unpack_text


class Names:
    """Remembers what a hash stood for, as long as it can still be among the first `limit` values of a sliced field.

    Decoding offers texts, releasing claims them; once `limit` values of a field were released, no other is needed, so
    the memory is bounded by what waits between the two and the result does not depend on how the input was chunked.

    >>> names = Names(("tab",), limit=1)
    >>> names.offer("tab", {7: "home", 8: "feed"})
    >>> names.claim("tab", np.array([8, 7], np.uint64))
    >>> names.text("tab", 8)
    'feed'
    """

    def __init__(self, fields: tuple[str, ...], limit: int = 32) -> None:
        self.fields = fields
        self._limit = limit
        self._offered: dict[str, dict[int, str]] = {field: {} for field in fields}
        self._claimed: dict[str, dict[int, str]] = {field: {} for field in fields}

    def wants(self, field: str) -> bool:
        """Whether texts of this field are still looked for."""
        return field in self._claimed and len(self._claimed[field]) < self._limit

    def offer(self, field: str, texts: dict[int, str]) -> None:
        """Texts of hashes that were just decoded."""
        if self.wants(field):
            self._offered[field].update(texts)

    def claim(self, field: str, ids: U64) -> None:
        """Ids of roots in release order, (N,): the first new ones keep their texts."""
        if not self.wants(field):
            return
        claimed = self._claimed[field]
        values, first = np.unique(ids, return_index=True)
        for value in (int(values[place]) for place in np.argsort(first)):
            if value not in claimed and len(claimed) < self._limit:
                claimed[value] = "missing" if value == MISSING_ID else self._offered[field].get(value, f"#{value:016x}")
        if not self.wants(field):
            self._offered[field] = {}

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
