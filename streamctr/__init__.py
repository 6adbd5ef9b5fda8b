"""Streaming online learning of click and conversion models. Start reading at `streamctr.pipeline`."""
