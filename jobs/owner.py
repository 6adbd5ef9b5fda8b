"""Who owns a run: one process by a lock on its directory, or the newest daemon, which fences the older ones."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.kafka.config import KafkaConfig
from jobs.rundir import RunDirectory

if TYPE_CHECKING:
    from connectors.kafka.fence import Fence

Offsets = Mapping[tuple[str, int], int]
"""By topic and number of a partition, what is read next."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose snapshots count: those of the highest epoch, and of them those that `commit` let through."""

    epoch: int
    commit: Callable[[Offsets], None]
    """Called before a snapshot counts; raises where another owner came since."""
    fence: "Fence | None" = None
    """By which a daemon also sends messages that count only while it is the owner."""


_SWITCH_S: Final = 0.0005
_THRESHOLDS: Final = (50_000, 20, 100)

Own = Callable[[], AbstractContextManager[Owner]]


@contextmanager
def sole(directory: RunDirectory) -> Iterator[Owner]:
    """Own the directory by its lock.

    Raises:
        BusyError: another process owns it.
        ConfigError: it cannot be made.
    """
    with directory.owned():
        yield Owner(0, lambda offsets: None)


@contextmanager
def tuned() -> Iterator[None]:
    """While a thread reads topics beside the pipeline: each soon lets the other go on, and what is there stays.

    With the defaults the collector looks through all modules at every few messages, a third of what reading costs.
    """
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextmanager
def fenced(directory: RunDirectory, kafka: KafkaConfig, work: str) -> Iterator[Owner]:
    """Take over a run from whoever has it, on this machine or another.

    Args:
        directory: on storage that all of them see.
        kafka: the brokers that tell older owners.
        work: the part of the run that is owned.

    Raises:
        BusyError: a process that is no daemon owns the directory.
        StreamctrError: the brokers cannot be reached, or refuse.
    """
    from connectors.kafka.fence import Fence  # loads the client

    with directory.owned(shared=True), tuned():
        group = kafka.group or f"streamctr-{directory.path.resolve().name}"
        group = f"{group}-learn" if work == "learn" else group  # which reads another topic than join
        # 1. the older owner is fenced, 2. an epoch above its own, and only then the newest snapshot is looked for
        with closing(Fence(kafka, f"streamctr-{directory.run_id}-{work}", group)) as fence:
            yield Owner(directory.claim_epoch(), fence.commit, fence)
