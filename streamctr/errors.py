"""The exception tree. Every error says what was wanted, what came and what to do."""


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


class LoginError(StreamctrError):
    """A broker refuses the user or the password, or wants a login."""

    exit_code = 67


class AccessError(StreamctrError):
    """A broker does not allow this user what a run needs."""

    exit_code = 77


class TopicError(StreamctrError):
    """There is no such topic."""

    exit_code = 66
