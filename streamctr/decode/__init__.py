"""Bytes to columns: `Decoder.decode` turns a block of JSON lines into a batch of events."""

from streamctr.decode.decoder import DecodeConfig, Decoded, Decoder

__all__ = ["DecodeConfig", "Decoded", "Decoder"]
