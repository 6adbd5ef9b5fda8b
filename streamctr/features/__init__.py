"""What a root is described by: columns of its messages and of lookup tables, and what is made of them."""

from streamctr.features.encode import Encoder
from streamctr.features.lookup import Lookup

__all__ = ["Encoder", "Lookup"]
