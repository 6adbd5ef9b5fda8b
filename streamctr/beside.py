"""The back half in a thread of its own: the front half joins and encodes what comes while it learns what came."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Final

from streamctr.cores import give_core, take_core
from streamctr.metrics import Judge
from streamctr.pipeline import BackHalf
from streamctr.ports import Arrays
from streamctr.samples import SampleBatch
from streamctr.training import Judged, Step, Trainer

_AHEAD: Final = 2
"""Chunks that may wait, so that neither half waits for the other and memory stays bounded."""


class Beside:
    """Feeds a back half in the order given; everything else waits until it has had all that it was fed.

    Who feeds plans; the thread scores and learns; whoever has time judges. So nothing that comes out, snapshots
    included, depends on how fast either half is.
    """

    def __init__(self, back: BackHalf) -> None:
        self._back = back
        self._thread = ThreadPoolExecutor(1, "streamctr-back-half")
        self._fed: deque[Future[None]] = deque()
        self._given = self._taken = 0
        self._learned: deque[list[Judged]] = deque()
        self._judging = Lock()
        self._failed = False

    @property
    def trainer(self) -> Trainer:
        """The back half's, at rest."""
        self._settle()
        return self._back.trainer

    @property
    def judge(self) -> Judge:
        """The back half's, at rest."""
        self._settle()
        return self._back.judge

    def feed(self, samples: SampleBatch) -> None:
        """Have the next rows of the emission log taken; raises what taking earlier ones raised."""
        steps = self._back.trainer.plan(samples)
        self._judge()
        self._wait(but=_AHEAD - 1)
        take_core()
        self._given += 1
        self._fed.append(self._thread.submit(self._take, steps))

    def finish(self, now_ms: int) -> None:
        """As `BackHalf.finish`."""
        self._settle()
        self._back.finish(now_ms)

    def state(self) -> Arrays:
        """As `BackHalf.state`."""
        self._settle()
        return self._back.state()

    def restore(self, arrays: Arrays) -> None:
        """As `BackHalf.restore`."""
        self._settle()
        self._back.restore(arrays)

    def forget(self) -> None:
        """As `BackHalf.forget`."""
        self._settle()
        self._back.forget()

    def close(self) -> None:
        """Give back files and the thread, whatever failed in it."""
        self._failed = True  # nothing more is taken
        give_core()
        self._thread.shutdown()
        self._back.close()

    def _take(self, steps: list[Step]) -> None:
        """What comes behind a failure is not for a half that failed in the middle."""
        if self._failed:
            return
        try:
            self._learned.append(self._back.trainer.work(steps))
            self._taken += 1
            if self._taken == self._given:  # nothing waits to be learned
                self._judge()
        except BaseException:
            self._failed = True
            raise

    def _judge(self) -> None:
        """All that was learned from so far, in its order."""
        with self._judging:
            while self._learned:
                self._back.write(self._learned.popleft())

    def _settle(self) -> None:
        """Wait until all chunks are taken, and judge them."""
        self._wait()
        self._judge()

    def _wait(self, but: int = 0) -> None:
        """Until all chunks but so many are learned."""
        give_core()
        while len(self._fed) > but:
            self._fed.popleft().result()
