"""How large the embedding tables are, who shares one, and how their rows learn."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from streamctr.schema import Config


def parse_rows(value: Any) -> Any:
    """A number of rows; powers may be written as such.

    >>> parse_rows("2^18")
    262144
    """
    match = re.fullmatch(r"\s*2\^(\d{1,2})\s*", value) if isinstance(value, str) else None
    return 2 ** int(match[1]) if match else value


Rows = Annotated[int, BeforeValidator(parse_rows), Field(ge=1, le=2**30)]


class TablesConfig(Config):
    """Fixed-size tables, one per id or bag feature unless shared, all learned by row-wise Adagrad that forgets."""

    rows: Rows = Field(
        default=2**20, description="rows of a table; 4 bytes each, and more only for rows that were learned"
    )
    width: int = Field(default=16, ge=1, le=1024, description="numbers a row, where the model does not say itself")
    shared: Mapping[str, str] = Field(default_factory=dict, description="id or bag feature: the table that it uses")
    sizes: Mapping[str, Rows] = Field(default_factory=dict, description="table: its rows, where not `rows`")
    lr: float = Field(default=0.05, gt=0)
    eps: float = Field(default=1e-8, gt=0)
    decay: float = Field(default=0.9999, gt=0, le=1, description="what a row keeps of its squared gradients per touch")
    initial_accumulator: float = Field(default=0.0, ge=0)
    init_std: float = Field(default=0.01, ge=0, description="standard deviation of a new row's numbers")
