"""The funnel joiner: ordered events in, rows of the emission log out."""

from streamctr.join.joiner import JoinConfig, Joined, Joiner

__all__ = ["JoinConfig", "Joined", "Joiner"]
