"""A run in Python, for notebooks: what the commands do, with results as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.logs import read_samples
from jobs.console import Call
from jobs.extents import kept_extent
from jobs.replay import Request, replay
from jobs.rundir import RunDirectory, config_path
from jobs.runfile import RunConfig, RunFile
from jobs.scoring import Scorer
from streamctr.errors import DataError
from streamctr.heads import heads
from streamctr.samples import NEVER_MS, SAYS, SampleBatch
from streamctr.snapshot import SnapshotStore


@dataclass(frozen=True)
class Run:
    """A run file and its directory.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> days = [f'"t": "2026-03-{day:02}T00:00Z"' for day in range(1, 9)]
    >>> _ = (folder / "view.jsonl").write_text("".join(f'{{"id": {i}, {t}, "ad": "x"}}\\n' for i, t in enumerate(days)))
    >>> _ = (folder / "click.jsonl").write_text(f'{{"id": 0, {days[0]}}}\\n{{"id": 2, {days[2]}}}\\n')
    >>> text = f"files: {folder}/*.jsonl\\nkey: id\\ntime: t\\nfeatures: {{id: [ad]}}\\nmodel: lr\\nsamples: true\\n"
    >>> _ = (folder / "run.yml").write_text(text + "funnel: {view: {}, click: {observe: 1h}}\\n")
    >>> run = Run.from_file(folder / "run.yml", "training.lr=0.1", directory=folder / "run")
    >>> run.replay()["events"]["click"]["joined"]
    2
    >>> run.samples().select(["says.click", "label.click"]).slice(1, 1).to_pylist()
    [{'says.click': 'observed final', 'label.click': 1}]
    >>> scores = run.score([{"id": 9, "t": "2026-03-10T00:00Z", "ad": "x"}])
    >>> 0 < scores["click"][0].as_py() < 0.5
    True
    """

    path: Path
    overrides: tuple[str, ...]
    directory: RunDirectory

    @classmethod
    def from_file(cls, path: str | Path, *overrides: str, directory: str | Path | None = None) -> "Run":
        """The run of a run file or a run directory; overrides are written `key=value`.

        Raises:
            ConfigError: there is none, or it has mistakes.
        """
        where = None if directory is None else Path(directory)
        run = cls(Path(path), overrides, RunDirectory.of(Path(path), where))
        _ = run.config
        return run

    @cached_property
    def config(self) -> RunConfig:
        """Everything that the run file says, with every default."""
        return RunFile.load(config_path(self.path), self.overrides).config

    def replay(self, until: str | None = None, frozen: str | None = None, fresh: bool = False) -> dict[str, Any]:
        """As `streamctr replay --json`: from the newest snapshot on, to the end of the input or to `until`.

        Raises:
            StreamctrError: it cannot start or go on; what to do stands in it.
        """
        request = Request(self.path, until, frozen, self.directory.path, fresh)
        return replay(Call(self.overrides, as_json=True), request)[0]

    def samples(self) -> Any:
        """The emission log that the run has kept, as a `pyarrow.Table`.

        Columns: `row.ordinal`, `row.emit_ms`, `row.root`, `row.weight`; by stage `says.STAGE` (words), `label.STAGE`,
        `at_ms.STAGE` (null where it had not happened) and `value.STAGE`; then features under their names: ids as 64-bit
        hashes, bags and histories as lists of them, numbers and vectors as the model is given them.

        Raises:
            DataError: it has kept none, or in a topic.
        """
        directory, kafka = self.directory, self.config.kafka
        if kafka is not None and kafka.samples is not None:
            raise DataError(f"the samples of {self.path} are in the topic {kafka.samples}, not in {directory.samples}")
        extent = kept_extent("samples", directory.snapshots, directory.joined)
        batches = list(read_samples(directory.samples, extent=extent))
        if not batches:
            raise DataError(f"{directory.samples} holds no samples: set samples: true, or streamctr join {self.path}")
        return pa.concat_tables([_table(batch, self.config) for batch in batches])

    @cached_property
    def _scorer(self) -> Scorer:
        snapshot, _ = SnapshotStore(self.directory.snapshots, self.config.snapshots.keep).newest()
        if snapshot is None:
            raise DataError(f"{self.directory.path} has no snapshot to score with; run it first")
        return Scorer(self.config, snapshot.arrays)

    def score(self, events: Sequence[Mapping[str, Any]]) -> Any:
        """What the snapshot that is the newest now gives root events, messages as they are in the log.

        Histories are as of that snapshot, whatever the events' times.

        Returns:
            A `pyarrow.Table` with a column of probabilities a head and a row an event.

        Raises:
            DataError: a message is malformed, or there is no snapshot.
        """
        probabilities = self._scorer.score(events)
        return pa.table({head.name: probabilities[:, place] for place, head in enumerate(heads(self.config.tree))})


_SAID = np.array([" ".join(word for bit, word in SAYS.items() if says & bit) for says in range(16)])


def _table(batch: SampleBatch, config: RunConfig) -> Any:
    """Rows of the emission log under the names of the run file."""
    funnel, features = config.tree, config.features
    columns: dict[str, Any] = {f"row.{name}": getattr(batch, name) for name in ("ordinal", "emit_ms", "root")}
    for place, stage in enumerate(funnel.names):
        if place:
            columns |= {f"says.{stage}": _SAID[batch.says[:, place]], f"label.{stage}": batch.label[:, place]}
        columns[f"at_ms.{stage}"] = pa.array(batch.at_ms[:, place], mask=batch.at_ms[:, place] == NEVER_MS)
    for column, place in enumerate(funnel.valued):
        columns[f"value.{funnel.names[place]}"] = batch.value_NV[:, column]
    columns["row.weight"] = batch.weight
    columns |= {name: batch.ids_NF[:, place] for place, name in enumerate(features.ids)}
    columns |= _lists(batch.ids_NF, len(features.ids), {name: bag.most for name, bag in features.bag.items()})
    columns |= {name: batch.numbers_NM[:, place] for place, name in enumerate(features.numbers)}
    columns |= _lists(batch.numbers_NM, len(features.numbers), features.vector)
    for name, history in zip(features.history, batch.histories, strict=True):
        taken = history.padded().reshape(len(batch), -1)
        columns[name] = pa.FixedSizeListArray.from_arrays(taken.reshape(-1), taken.shape[1])
    return pa.table(columns)


def _lists(values_NX: NDArray[Any], start: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Columns of several values a row, which stand side by side from `start` on."""
    lists = {}
    for name, size in sizes.items():
        values = np.ascontiguousarray(values_NX[:, start : start + size])
        lists[name] = pa.FixedSizeListArray.from_arrays(values.reshape(-1), size)
        start += size
    return lists
