"""What every command does the same way: say errors in one form, print one JSON object, end with a stable exit code."""

import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import orjson
from rich.console import Console, RenderableType
from rich.table import Table

from jobs.yamlmarks import Mistake, MistakesError
from streamctr.errors import StreamctrError

EXIT_CODES: Final = (
    "Exit codes: 0 done · 2 wrong usage · 65 the input cannot be read · 66 no such topic · 67 the brokers refuse the "
    "login · 69 no broker answers · 70 a defect of streamctr · 73 the disk is full · 74 a snapshot does not verify or "
    "belong, or a file cannot be written · 75 another process owns the run directory · 76 too many steps were not "
    "finite · 77 a topic may not be read or written · 78 the run file or an option cannot be used · 79 another daemon "
    "has taken the run over · 130 stopped by SIGINT, 143 by SIGTERM, after a last snapshot"
)

INTERRUPTED: Final = 130
TERMINATED: Final = 143
IO_ERROR: Final = 74
_TABLE_WIDTH: Final = 110

Result = tuple[dict[str, Any], int]
"""What a command found, as JSON can hold it, and its exit code."""


@dataclass(frozen=True, slots=True)
class Call:
    """What every command is given: overrides of its settings, and whether stdout is for one JSON object."""

    sets: tuple[str, ...] = ()
    as_json: bool = False

    def show(self, *tables: RenderableType) -> None:
        """Print results for people on stdout; nothing where the JSON object goes there."""
        if not self.as_json:
            console = Console(highlight=False)
            console.width = max(console.width, _TABLE_WIDTH)  # a table that wraps is still whole, a cut one is not
            for table in tables:
                console.print(table, soft_wrap=not isinstance(table, Table))


def say(text: str) -> None:
    """A line for people, on stderr as it is: stdout belongs to results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came where nothing has to be saved."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _TerminatedError


def guarded(work: Callable[[], Result], as_json: bool) -> int:
    """Do the work of a command and say how it ended; the exit code.

    `work` gives its result, printed as the one JSON object where that was asked for, and its exit code.
    """
    before = signal.signal(signal.SIGTERM, _terminate)  # where a command handles signals itself, that counts instead
    try:
        result, exit_code = work()
    except StreamctrError as error:
        say(str(error))
        result, exit_code = _refusal(error), error.exit_code
    except KeyboardInterrupt as stop:
        exit_code = TERMINATED if isinstance(stop, _TerminatedError) else INTERRUPTED
        word = "terminated" if exit_code == TERMINATED else "interrupted"
        say(word)
        result = {"error": word, "exit_code": exit_code}
    except OSError as error:
        say(f"{error}\nMake room, or let it be written; then run the command again: what was saved before stays.")
        result, exit_code = {"error": str(error), "exit_code": IO_ERROR}, IO_ERROR
    except Exception as error:  # noqa: BLE001 - the outermost loop: a defect is told apart by its exit code
        say(traceback.format_exc())
        result, exit_code = {"error": f"{type(error).__name__}: {error}", "exit_code": 70}, 70
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
        sys.stdout.flush()
    return exit_code


def exit_code_of(error: Exception) -> int:
    """What a command ends with that raised `error`."""
    if isinstance(error, StreamctrError):
        return error.exit_code
    return IO_ERROR if isinstance(error, OSError) else StreamctrError.exit_code


def _refusal(error: StreamctrError) -> dict[str, Any]:
    refusal: dict[str, Any] = {"error": str(error), "exit_code": error.exit_code}
    if isinstance(error, MistakesError):
        refusal["mistakes"] = mistakes_json(error.mistakes)
    return refusal


def mistakes_json(mistakes: Iterable[Mistake]) -> list[dict[str, Any]]:
    """Mistakes as JSON holds them; line 0 is an option."""
    return [
        {"where": m.span.head(), "line": m.span.line, "column": m.span.column, "message": m.message, "hint": m.hint}
        for m in mistakes
    ]
