"""What a root is described by: transforms, time parts, and the encoder that gives every row its columns."""

from streamctr.features.encode import Encoder

__all__ = ["Encoder"]
