"""Which files hold the events, of which stage they are, and in which order they are read."""

import difflib
import glob
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connectors.files.config import FilesConfig
from connectors.files.formats import STDIN, form_of
from streamctr.errors import DataError
from streamctr.schema import Funnel

_HIDDEN: Final = (".", "_")
_LEFT_OVER: Final = (".bak", ".tmp", "~")
_OPEN: Final = os.R_OK | os.X_OK
_NAME: Final = "name event files, a folder or a pattern"


@dataclass(frozen=True, slots=True)
class FilePartition:
    """Files that are read one after the other; without files, a partition that ends at once."""

    stage: int
    """The stage of all their messages; -1 where a field of theirs says it."""
    paths: tuple[str, ...]


def find_files(files: FilesConfig, funnel: Funnel, mixed: bool) -> list[FilePartition]:
    """The partitions of the event files, in the order of the funnel; a stage's files in natural name order.

    Which stage a file is of: where `files.stages` does not say it and no field does, the only stage that has messages;
    else the file's name. It is the stage (or one of its `called`), or that and then something that is not a letter;
    where several fit, the longest counts.

    Args:
        files: paths, patterns (`**` for any depth) and folders, relative to the working directory.
        funnel: whose stages they are.
        mixed: a field of the messages says of which stage they are.

    Raises:
        DataError: a pattern matches nothing, a file is of no stage or of two, cannot be read or is of a kind that is
            not read; or the root has no file.
    """
    found = _by_stage(files, funnel) if files.stages else _by_name(_expand(files.paths), funnel, mixed)
    for paths in found.values():
        for path in paths:
            form_of(path, files)
    root = funnel.tellers[0]
    if -1 not in found and not found[root]:
        raise DataError(
            f"files: none is of the root stage {funnel.names[root]}; nothing can be joined without its events"
        )
    apart = files.merge == "time"
    return [
        FilePartition(stage, part)
        for stage, paths in found.items()
        for part in ([(path,) for path in paths] if apart and paths else [tuple(paths)])
    ]


def _by_stage(files: FilesConfig, funnel: Funnel) -> dict[int, list[str]]:
    """Files as `files.stages` gives them to stages."""
    names = [funnel.names[place] for place in funnel.tellers]
    found: dict[int, list[str]] = {place: [] for place in funnel.tellers}
    owners: dict[str, str] = {}
    for name, patterns in files.stages.items():
        if name not in names:
            raise DataError(f'files.stages: "{name}" {_no_files_of(name, names, funnel)}')
        found[funnel.names.index(name)] = paths = _expand(patterns)
        for path in paths:
            other = owners.setdefault(os.path.realpath(path), name)
            if other != name:
                raise DataError(
                    f"files.stages: {path} is matched for {other} and for {name}; narrow one of the patterns, or say "
                    "with `stage:` which field tells what a message is"
                )
    if len(owners) > 1 and any(STDIN in paths for paths in found.values()):
        raise DataError("files.stages: - is standard input and stands alone; leave the other paths out")
    return found


def _no_files_of(name: str, names: Sequence[str], funnel: Funnel) -> str:
    if name in funnel.names:
        teller = funnel.names[funnel.stages[funnel.names.index(name)].told_by]
        return f"has no messages of its own: fields of {teller}'s messages tell of it; leave it out"
    near = difflib.get_close_matches(name, names, n=1)
    return "is no stage; " + (f'did you mean "{near[0]}"?' if near else f"name one of {', '.join(names)}")


def _by_name(paths: list[str], funnel: Funnel, mixed: bool) -> dict[int, list[str]]:
    """Files as a field of their messages, the funnel or their names give them to stages."""
    if mixed:
        return {-1: paths}
    if len(funnel.tellers) == 1:
        return {funnel.tellers[0]: paths}
    found: dict[int, list[str]] = {place: [] for place in funnel.tellers}
    for path in paths:
        found[_stage_of(path, funnel)].append(path)
    return found


def _stage_of(path: str, funnel: Funnel) -> int:
    called = {name: place for place in funnel.tellers for name in funnel.stages[place].config.called}
    called |= {funnel.names[place]: place for place in funnel.tellers}
    name = Path(path).name
    fitting = [word for word in called if name.startswith(word) and not name[len(word) : len(word) + 1].isalpha()]
    if fitting:
        return called[max(fitting, key=len)]
    if path == STDIN:
        raise DataError(
            f"files: standard input has no name that says its stage; say with `stage:` which field does, or write "
            f'files: {{stages: {{{funnel.names[0]}: "-"}}}}'
        )
    raise DataError(
        f"files: the name of {path} says no stage; let it begin with one of {', '.join(called)} and go on with no "
        f"letter, give each stage its files with files: {{stages: {{{funnel.names[0]}: ...}}}}, leave it out of the "
        "pattern, or say with `stage:` which field of a message does"
    )


def _expand(patterns: Sequence[str]) -> list[str]:
    """Files in natural name order, each once."""
    if STDIN in patterns:
        if len(patterns) > 1:
            raise DataError("files: - is standard input and stands alone; leave the other paths out")
        if sys.stdin is None or sys.stdin.isatty():
            raise DataError(
                "files: - is standard input, and that is a terminal; feed events into it, as in "
                "zcat events.jsonl.gz | streamctr replay RUN"
            )
        return [STDIN]
    paths = {path for pattern in patterns for path in _matched(pattern)}
    once: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: (os.path.islink(path), natural(path))):  # links may lead elsewhere soon
        _check_readable(path)
        once.setdefault(os.path.realpath(path), path)
    return sorted(once.values(), key=natural)


def _matched(pattern: str) -> Iterable[str]:
    if pattern and os.path.isdir(pattern):
        found = list(_inside(pattern))
        if not found:
            raise DataError(
                f"files: the folder {pattern} holds no event file (hidden ones, and those that begin with _ or end in "
                f"{', '.join(_LEFT_OVER)}, do not count); {_NAME} that does"
            )
        return found
    if pattern and os.path.lexists(pattern):
        return [pattern]
    matched = [path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)]
    if not matched:
        shut = [str(above) for above in Path(pattern).parents if os.path.isdir(above) and not os.access(above, _OPEN)]
        why = f"{shut[0]} cannot be read: let this user read it" if shut else _NAME
        raise DataError(f'files: "{pattern}" matches no file in {Path.cwd()}; {why}')
    return matched


def _inside(folder: str) -> Iterator[str]:
    """All event files below a folder: what other programs hide, mark or leave behind is none."""

    def refuse(error: OSError) -> None:
        raise DataError(f"files: the folder {error.filename} cannot be read: {error.strerror}; let this user read it")

    for above, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = os.path.join(os.path.realpath(above), "")
        folders[:] = [
            name
            for name in folders  # links may lead in a circle
            if not name.startswith(_HIDDEN) and not here.startswith(os.path.join(os.path.realpath(here + name), ""))
        ]
        for name in names:
            if not name.startswith(_HIDDEN) and not name.endswith(_LEFT_OVER):
                yield os.path.join(above, name)


def _check_readable(path: str) -> None:
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise DataError(f"files: {path} cannot be read: {error.strerror}; mend it, or leave it out") from None
    if os.fsencode(path).decode(errors="ignore") != path:  # positions and letters are JSON
        raise DataError(f"files: the name of {os.fsencode(path)!r} is not UTF-8; rename it")
    if not regular:
        raise DataError(f"files: {path} is no regular file; to read a pipe, write - and feed it to standard input")
    if not os.access(path, os.R_OK):
        raise DataError(f"files: {path} cannot be read: Permission denied; let this user read it, or leave it out")


def natural(path: str) -> tuple[list[list[tuple[int, int, str]]], str]:
    """Orders paths by name as people count: without the suffix, numbers by their value.

    >>> sorted(["view-10.jsonl", "view-2.jsonl", "view.jsonl"], key=natural)
    ['view.jsonl', 'view-2.jsonl', 'view-10.jsonl']
    """
    *folders, name = path.split("/")
    stem = re.sub(r"(\.[A-Za-z]+)?(\.(gz|gzip|zst|zstd|bz2))?$", "", name, flags=re.IGNORECASE)
    return [[_token(text) for text in re.findall(r"[0-9]+|[^0-9]+", part)] for part in (*folders, stem)], path


def _token(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text[0] in "0123456789" else (1, 0, text)
