"""Words that people call stages, times, users, ids and numbers by."""

import re
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STAGES: Final[dict[str, tuple[int, str]]] = {
    word: (rank, stage)
    for rank, stage, words in (
        (0, "impression", "impression imp impr view viewed show shown exposure exposed expose serve served display"),
        (0, "sent", "sent send"),
        (0, "delivered", "delivered delivery"),
        (1, "open", "open opened"),
        (1, "click", "click clicked clk tap tapped"),
        (2, "cart", "cart addtocart atc basket favorite favourite wishlist"),
        (3, "conversion", "conversion convert converted conv"),
        (3, "install", "install installed attributed attribution download downloaded"),
        (3, "purchase", "purchase purchased buy bought sale sold transaction payment paid checkout"),
        (3, "order", "order ordered"),
        (3, "application", "application apply applied"),
        (3, "signup", "signup subscribe subscribed subscription lead deposit"),
    )
    for word in words.split()
}
_AROUND_STAGES: Final = _words("is has was did flag label ad ads event add to item product time at ts date")
ROW_WEIGHTS: Final = _words("sample row example instance importance")
"""`sample_weight` is how much a row counts; `weight` alone may be a parcel's."""
LABELS: Final = _words("label target y response")
STAGE_FIELDS: Final = _words("type event kind action stage behavior behaviour name")
TIMES: Final = _words("time timestamp ts datetime at ms t when date created occurred")
CALENDAR: Final = _words("date day dt hour minute weekday dow month year hourmin hm time timestamp")
IDENTITY: Final = _words("id ids key uuid uid gid hash code")
_USERS: Final = (
    _words(
        "user uid userid member memberid customer account player visitor visitorid subscriber reader buyer recipient"
    ),
    _words("cookie session cid"),
    _words("device deviceid idfa gaid ifa"),
    frozenset(["ip"]),
)
ITEMS: Final = _words(
    "item itemid video product sku article movie song track creative ad ads app offer listing doc news post"
)
_IDS: Final = (
    IDENTITY
    | ITEMS
    | frozenset().union(*_USERS)
    | _words(
        "os channel category cat type campaign advertiser publisher site page slot tab position country region city "
        "browser brand model author zip zone segment placement network carrier language lang gender"
    )
)
_NUMBERS: Final = _words(
    "price bid cost amount count cnt num number duration length len ms sec seconds minutes score rate ratio ctr age "
    "days value total size width height lat lon latitude longitude distance weight budget views likes fans"
)
VALUES: Final = _words("value revenue price amount total payout gmv")


def tokens(name: str) -> list[str]:
    """Words of a name, in small letters.

    >>> tokens("imp.adId_2")
    ['imp', 'ad', 'id', '2']
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _stage_of_word(word: str) -> tuple[int, str] | None:
    return _STAGES.get(word) or (_STAGES.get(word[:-1]) if word.endswith("s") else None)


def stage_in(name: str) -> tuple[int, str, str] | None:
    """Rank, usual name and own word of the first stage that some word of `name` means.

    >>> stage_in("ads_clicks_2026-11")
    (1, 'click', 'clicks')
    """
    found = ((word, _stage_of_word(word)) for word in tokens(name))
    return next(((*stage, word) for word, stage in found if stage), None)


def stage_meant(name: str) -> tuple[int, str] | None:
    """Rank and usual name of the stage that the whole of `name` means: `is_click` does, `page_view` does not.

    >>> stage_meant("is_click"), stage_meant("page_view")
    ((1, 'click'), None)
    """
    words = [word for word in tokens(name.rsplit(".", 1)[-1]) if word not in _AROUND_STAGES]
    return _stage_of_word(words[0]) if len(words) == 1 else None


def user_rank(name: str) -> int | None:
    """How surely a field names the user; 0 is the surest. `user.age` does not.

    >>> user_rank("user_id"), user_rank("client.ip"), user_rank("user.age")
    (0, 3, None)
    """
    words = [word for word in tokens(name) if word not in IDENTITY - {"uid"}]
    return next((rank for rank, users in enumerate(_USERS) if words and words[-1] in users), None)


def is_row_weight(name: str) -> bool:
    """Whether a field of that name probably says how much a row counts.

    >>> is_row_weight("sample_weight"), is_row_weight("weight")
    (True, False)
    """
    words = set(tokens(name))
    return "weight" in words and bool(words & ROW_WEIGHTS)


def means_id(name: str) -> bool | None:
    """Whether a whole number of that name is an id rather than a quantity; None where the name does not tell.

    >>> means_id("video_id"), means_id("duration_ms"), means_id("tab"), means_id("x")
    (True, False, True, None)
    """
    for word in reversed(tokens(name)):
        if word in _NUMBERS:
            return False
        if word in _IDS:
            return True
    return None
