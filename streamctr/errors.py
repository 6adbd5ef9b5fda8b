"""The exception tree. Every error says what was wanted, what came and what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class StreamctrError(Exception):
    """The root of all errors that a user can mend; `exit_code` is what a program ends with."""

    exit_code = 70


class ConfigError(StreamctrError):
    """The run file, an option or a combination of them cannot be used."""

    exit_code = 78


class DataError(StreamctrError):
    """The input cannot be read at all: no file, a file whose every row is malformed, a file that changed."""

    exit_code = 65


class BusyError(StreamctrError):
    """Another process owns the run directory."""

    exit_code = 75


class FencedError(StreamctrError):
    """Another daemon has taken the run over: nothing that this one did since counts."""

    exit_code = 79


class DiskFullError(StreamctrError):
    """There is no room left where a run writes."""

    exit_code = 73


class SnapshotError(StreamctrError):
    """A snapshot does not verify, or does not belong to this run."""

    exit_code = 74


class ConservationError(StreamctrError):
    """Events read and counted outcomes differ: a defect, never to be trained through."""

    exit_code = 70


class NonFiniteError(StreamctrError):
    """Too many steps in a row had a loss or a gradient that is not finite."""

    exit_code = 76


class ContactError(StreamctrError):
    """No broker answers."""

    exit_code = 69


class LostError(ContactError):
    """What was begun with the brokers can never be finished: only a new start goes on."""


class LoginError(StreamctrError):
    """A broker refuses the user or the password, or wants a login."""

    exit_code = 67


class AccessError(StreamctrError):
    """A broker does not allow this user what a run needs."""

    exit_code = 77


class TopicError(StreamctrError):
    """There is no such topic."""

    exit_code = 66


@contextmanager
def room_for(path: str | os.PathLike[str]) -> Iterator[None]:
    """While `path` is written: that a disk is full, or one's share of it, is raised as a `DiskFullError`.

    >>> with room_for("/dev/full"), open("/dev/full", "wb", buffering=0) as file:
    ...     _ = file.write(b"much")
    Traceback (most recent call last):
    streamctr.errors.DiskFullError: /dev/full cannot be written: No space left on device; make room and start again, ...
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        said = os.strerror(error.errno)
        raise DiskFullError(
            f"{path} cannot be written: {said}; make room and start again, what was saved before stays"
        ) from None
