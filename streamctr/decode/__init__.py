"""Bytes to columns: `Decoder.decode` turns a block of JSON lines into a batch of events."""

from streamctr.decode.decoder import Decoded, Decoder

__all__ = ["Decoded", "Decoder"]
