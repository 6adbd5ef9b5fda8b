"""Which files belong to which stage: their names say it."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from streamctr.errors import DataError

_NAME: Final = "name event files or a pattern of them"


def find_files(patterns: str | Sequence[str], stages: Sequence[str]) -> dict[str, list[str]]:
    """Files of each stage, in name order; a file's name says its stage.

    The name is the stage, or the stage and then something that is not a letter; where several fit, the longest counts.

    Args:
        patterns: paths or globs (`**` for any depth), relative to the working directory.
        stages: the funnel's stages, the root first.

    Raises:
        DataError: a pattern matches nothing, a file names no stage, or the root has no file.
    """
    paths: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matched = {path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()}
        if not matched:
            way_out = f"it is a folder: write {pattern.rstrip('/')}/*" if Path(pattern).is_dir() and pattern else _NAME
            raise DataError(f'files: "{pattern}" matches no file in {Path.cwd()}; {way_out}')
        paths |= matched
    found: dict[str, list[str]] = {stage: [] for stage in stages}
    for path in sorted(paths):
        stage = _stage_of(Path(path).name, stages)
        if stage is None:
            raise DataError(
                f"files: the name of {path} says no stage; let it begin with one of {', '.join(stages)} "
                "and go on with no letter, or leave it out of the pattern"
            )
        found[stage].append(path)
    if not found[stages[0]]:
        raise DataError(f"files: none is of the root stage {stages[0]}; nothing can be joined without its events")
    return found


def _stage_of(name: str, stages: Sequence[str]) -> str | None:
    fitting = [s for s in stages if name.startswith(s) and not name[len(s) : len(s) + 1].isalpha()]
    return max(fitting, key=len, default=None)
