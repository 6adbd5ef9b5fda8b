"""`streamctr data`: event files to learn from, made up or converted."""

from pathlib import Path
from typing import Final

from rich.text import Text

from jobs import kuairand as kuairand_files
from jobs import synthetic_data
from jobs.console import Call, Result
from jobs.mistakes import configured
from jobs.progress import Progress
from streamctr.errors import ConfigError
from streamctr.synthetic import WorldConfig

_KUAIRAND_EVENTS: Final = 94_784 + 41_503 + 29_019


def synthetic(call: Call, out: Path) -> Result:
    """Write the synthetic world that `--set` describes.

    Raises:
        ConfigError: a setting cannot be used.
    """
    config = configured(WorldConfig, call.sets)
    with Progress("roots", config.roots) as progress:
        counts = synthetic_data.write(str(out), config, progress.advance)
    return _written(call, out, counts)


def kuairand(call: Call, source: Path, out: Path) -> Result:
    """Convert the KuaiRand files in `source`.

    Raises:
        ConfigError: it has no settings, but one was given.
    """
    if call.sets:
        raise ConfigError(f"data kuairand has no settings; leave out --set {call.sets[0]}")
    with Progress("events", _KUAIRAND_EVENTS) as progress:
        counts = kuairand_files.convert(source, out, progress.advance)
    return _written(call, out, counts)


def _written(call: Call, out: Path, counts: dict[str, int]) -> Result:
    events = " · ".join(f"{stage} {count:,}" for stage, count in counts.items())
    call.show(Text(f"wrote {events} to {out}"))
    return {"out": str(out), "events": counts}, 0
