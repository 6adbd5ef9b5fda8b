"""`streamctr` in a process that kills itself: `halves_child.py N ARGUMENTS...`, before its Nth block; 0 for never.

Event files are read in blocks of 2,000 bytes.
"""

import os
import signal
import sys
from functools import partial

from connectors.files import FileSource
from jobs import eventtask
from jobs.cli import main
from jobs.runner import Runner

if __name__ == "__main__":
    left = [int(sys.argv.pop(1))]
    advance = Runner._advance

    def advance_or_die(self, progress):
        left[0] -= 1
        if left[0] == 0:
            if self._saver.writing:  # so that there is a snapshot to go on from, however slow the disk is
                self._counts(*self._saver.count())
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(self, progress)

    Runner._advance = advance_or_die
    eventtask.FileSource = partial(FileSource, block_bytes=2_000)
    main()
