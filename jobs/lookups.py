"""Lookup tables of a run: which files they are, pinned by hash, and what stands in them."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from connectors.tables import read_table
from jobs.runfile import RunConfig
from streamctr.errors import ConfigError
from streamctr.features import Lookup
from streamctr.schema import LookupConfig, LookupVersion, parse_instant_ms


def with_lookup_hashes(config: RunConfig) -> RunConfig:
    """The config with the SHA-256 of every lookup file, so that a run goes on only with the tables it began with."""
    pinned = {
        name: lookup.model_copy(update={"versions": tuple(map(_pinned, lookup.versions))})
        for name, lookup in config.features.lookup.items()
    }
    return config.model_copy(update={"features": config.features.model_copy(update={"lookup": pinned})})


def read_lookups(config: RunConfig) -> dict[str, Lookup]:
    """The lookups that the features declare, by name.

    Raises:
        ConfigError: a file is not the one that was declared.
        DataError: a file cannot be read, or holds what is no good.
    """
    slices, crosses = config.metrics.slices, config.features.crosses
    named = {*slices, *(member for cross in slices for member in crosses.get(cross, ()))}
    return {name: _read(config, lookup, named) for name, lookup in config.features.lookup.items()}


def without_later_versions(plain: Mapping[str, Any], before_ms: int) -> dict[str, Any]:
    """A `resolved` config as it was for events before a moment: what a later version says does not matter yet.

    Nor does it matter where a file lies whose hash is known.
    """
    lookups = {
        name: lookup | {"versions": [_compared(v) for v in lookup["versions"] if _start_ms(v) < before_ms]}
        for name, lookup in plain["features"].get("lookup", {}).items()
    }
    return {**plain, "features": {**plain["features"], "lookup": lookups}}


def _read(config: RunConfig, lookup: LookupConfig, named: Collection[str]) -> Lookup:
    columns = tuple(dict.fromkeys((lookup.column or lookup.key, *lookup.take.values())))
    tables = []
    for version in lookup.versions:
        table, sha256 = read_table(version.file, columns)
        if version.sha256 not in (None, sha256):
            raise ConfigError(
                f"{version.file} is not the declared lookup table: its sha256 is {sha256}, not {version.sha256}; "
                "put that file back, or declare this one as a further version, `from` the time at which it holds"
            )
        tables.append(table)
    return Lookup(lookup, config.features, tables, config.types, named)


def _pinned(version: LookupVersion) -> LookupVersion:
    if version.sha256 is not None:
        return version
    try:
        with open(version.file, "rb") as file:
            return version.model_copy(update={"sha256": hashlib.file_digest(file, "sha256").hexdigest()})
    except OSError:
        return version  # reading the table says what is wrong with it


def _compared(version: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in version.items() if key != "file" or not version.get("sha256")}


def _start_ms(version: Mapping[str, Any]) -> float:
    return float("-inf") if version["from"] is None else parse_instant_ms(version["from"])
