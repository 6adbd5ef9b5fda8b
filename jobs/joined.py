"""What `join` leaves for `learn` beside the rows: how far they go, and what is needed of the events."""

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from jobs.runfile import RunConfig, config_diff, resolved
from streamctr.errors import ConfigError, DataError
from streamctr.names import Names
from streamctr.ports import pack_text, unpack_text

if TYPE_CHECKING:
    from jobs.eventtask import EventTask

_FILE: Final = "end.json"
_BACK: Final = ("files", "kafka", "snapshots", "samples", "model", "tables", "training", "metrics")
"""Top-level keys that the front half does not read, but for the slices, whose texts it keeps."""

_OF_MODELS: Final = {"history": ("pool",), "bag": ("pool",), "number": ("standardise", "default")}
"""Keys of features that only a learner reads."""


@dataclass(frozen=True, slots=True)
class JoinEnd:
    """Where a join stopped, at the end of the input or before."""

    rows: int
    """Rows of the emission log up to here; what stands behind them in its files does not count."""
    newest_ms: int
    """Time of the newest event that was released."""
    ends: list[list[int]]
    """Rows and event time at each end of the input so far: there, what waits for a full block is learned."""
    events: dict[str, dict[str, int]]
    roots: dict[str, int]
    names: dict[str, Any]
    """Texts of the values that figures are sliced by."""
    config: dict[str, Any]
    """`front_config` of the run file."""

    def write(self, folder: Path) -> None:
        """Put it into the folder of the samples, whole or not at all."""
        aside = folder / f"{_FILE}.new"
        with aside.open("wb") as file:
            file.write(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / _FILE)

    @classmethod
    def read(cls, folder: Path) -> "JoinEnd":
        """What the last join left.

        Raises:
            DataError: nothing, or nothing that can be read.
        """
        try:
            return cls(**orjson.loads((folder / _FILE).read_bytes()))
        except FileNotFoundError:
            message = (
                f"{folder.parent} holds no samples that join has finished; run streamctr join {folder.parent} first"
            )
        except (OSError, TypeError, orjson.JSONDecodeError) as error:
            message = f"{folder / _FILE} cannot be read ({error}); run streamctr join again"
        raise DataError(message) from None

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "JoinEnd":
        """What a join said among other things."""
        return cls(**{field.name: facts[field.name] for field in fields(cls)})

    def refuse_others(self, config: RunConfig, where: str) -> None:
        """Samples that the front half of this config would not have said, in a folder or a topic.

        Raises:
            ConfigError: what it reads differs.
        """
        now = front_config(config)
        now["features"] = _lookups_as(self.config["features"], now["features"])
        different = config_diff(self.config, now)
        if different:
            lines = "\n".join(f"  {line}" for line in different)
            raise ConfigError(
                f"{where} was joined with another config:\n{lines}\n"
                "take the change back, choose another directory with --run, or join anew with streamctr join --fresh"
            )

    def teach(self, names: Names) -> None:
        """Have a judge's names know the texts."""
        names.restore({"names": pack_text(orjson.dumps(self.names).decode())})


def end_of(task: "EventTask") -> JoinEnd:
    """What a join would leave if it stopped now."""
    return JoinEnd(
        rows=task.rows,
        newest_ms=task.pipeline.parts.orderer.newest_released_ms,
        ends=task.ends,
        events=task.pipeline.counts(),
        roots=task.pipeline.roots(),
        names=_names_json(task.pipeline.parts.names),
        config=task.config,
    )


def _names_json(names: Names) -> dict[str, Any]:
    """`JoinEnd.names` of these: the texts that were kept."""
    found: dict[str, Any] = orjson.loads(unpack_text(names.state()["names"]))
    return {"claimed": found["claimed"], "offered": {field: {} for field in found["offered"]}}


def _lookups_as(joined: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Features whose lookup files, where their hashes are not known now, are those of the join: nobody reads them."""
    lookups = now.get("lookup", {})
    for name, lookup in lookups.items():
        known = joined.get("lookup", {}).get(name, {}).get("versions", [])
        for version, before in zip(lookup["versions"], known, strict=False):
            if version.get("sha256") in (None, before.get("sha256")):
                version |= {"file": before.get("file"), "sha256": before.get("sha256")}
    return now


def front_config(config: RunConfig) -> dict[str, Any]:
    """The resolved config, as far as the emission log depends on it."""
    found = {key: value for key, value in resolved(config).items() if key not in _BACK}
    for kind, keys in _OF_MODELS.items():
        features = found["features"][kind].items()
        found["features"][kind] = {name: {k: v for k, v in one.items() if k not in keys} for name, one in features}
    return found | {"metrics": {"slices": list(config.metrics.slices)}}
