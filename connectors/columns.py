"""Rows of the emission log as Arrow, for files and topics alike. Legend: N rows."""

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from streamctr.samples import SampleBatch


def to_arrow(batch: SampleBatch) -> Any:
    """A `pyarrow.RecordBatch` of the rows; `from_arrow` is the way back.

    Columns of several values a row are fixed-size lists, whose shapes stand in the schema's metadata; columns of none
    are left out.
    """
    arrays = batch.to_arrays()
    columns = {name: _column(array) for name, array in arrays.items() if array[:1].size}
    shapes = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
    records = pa.RecordBatch.from_pydict(columns)
    return records.replace_schema_metadata({"columns": orjson.dumps(shapes)})


def from_arrow(records: Any) -> SampleBatch:
    """The rows that `to_arrow` gave, in arrays of their own."""
    arrays = {}
    for name, (kind, shape) in orjson.loads(records.schema.metadata[b"columns"]).items():
        values = np.empty(0, kind)
        if name in records.schema.names:
            column = records.column(name)
            values = (column.flatten() if shape else column).to_numpy()
        arrays[name] = np.array(values).reshape(records.num_rows, *shape)
    return SampleBatch.from_arrays(arrays)


def _column(array: Any) -> Any:
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    return values if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, array[0].size)
