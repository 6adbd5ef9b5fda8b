"""Append-only files: what was flushed stays, what is cut is gone, and what follows is appended."""

import json

import numpy as np
import pyarrow as pa
import pytest

from connectors.logs import JsonLines, SampleLog, read_samples
from streamctr.errors import DataError
from streamctr.samples import NEVER_MS, History, SampleBatch


def samples(rows: int, first: int = 0, n_numbers: int = 2) -> SampleBatch:
    """Rows whose every value tells its row: ids beyond 2^53 and a missing number among them."""
    ordinal = np.arange(first, first + rows)
    numbers = np.repeat(ordinal, n_numbers).reshape(rows, n_numbers).astype(np.float32) / 3
    numbers[:1] = np.nan
    return SampleBatch(
        ordinal=ordinal,
        emit_ms=ordinal + 1_650_812_741_436,
        root=np.uint64(2**64 - 1) - ordinal.astype(np.uint64),
        says=np.tile(np.array([0, 1, 4], np.uint8), (rows, 1)),
        label=np.tile(np.array([0, 1, 0], np.uint8), (rows, 1)),
        at_ms=np.stack([ordinal, ordinal + 7, np.full(rows, NEVER_MS)], axis=1),
        ids_NF=np.arange(rows * 4, dtype=np.uint64).reshape(rows, 4) + np.uint64(2**63),
        numbers_NM=numbers,
        value_NV=np.zeros((rows, 0)),
        weight=np.ones(rows, np.float32),
        histories=(
            History.of_padded(np.arange(rows * 6, dtype=np.uint64).reshape(rows, 3, 2), np.full(rows, 2, np.int32)),
            History.of_padded(np.arange(rows * 5, dtype=np.uint64).reshape(rows, 5, 1), np.full(rows, 1, np.int32)),
        ),
    )


def same(left: SampleBatch, right: SampleBatch) -> None:
    assert len(left.histories) == len(right.histories)
    expected = right.to_arrays()
    for name, array in left.to_arrays().items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], strict=True)


def extent_of(*sizes):
    """What `flush` says of parts of these lengths."""
    return json.dumps([[f"part-{number}.arrows", size] for number, size in enumerate(sizes)], separators=(",", ":"))


def test_records_become_lines_and_the_length_is_that_of_the_file(tmp_path):
    path = tmp_path / "made" / "letters.jsonl"
    log = JsonLines(path)
    assert log.flush() == "[]"
    log.write([{"a": 1}, {"b": float("nan"), "c": np.float64(0.5)}])
    log.write([])
    assert log.flush() == f'[["letters.jsonl",{path.stat().st_size}]]'
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"b": None, "c": 0.5}]
    log.close()
    log.close()


def test_what_was_written_after_a_length_is_forgotten_by_a_later_log(tmp_path):
    first = JsonLines(tmp_path / "log")
    first.write([{"a": 1}])
    extent = first.flush()
    first.write([{"a": 2}])
    first.close()
    second = JsonLines(tmp_path / "log")
    second.write([{"a": 3}])
    second.truncate(extent)
    second.write([{"a": 4}])
    second.close()
    assert (tmp_path / "log").read_text() == '{"a":1}\n{"a":4}\n'


def test_a_log_that_is_shorter_than_its_snapshot_says_is_refused(tmp_path):
    log = JsonLines(tmp_path / "log")
    with pytest.raises(DataError, match="log has 0 bytes where 9 were saved"):
        log.truncate('[["log",9]]')
    log.close()


def test_samples_come_back_bit_for_bit(tmp_path):
    log = SampleLog(tmp_path / "samples")
    batches = [samples(3), samples(1, first=3), samples(2, first=4)]
    for batch in [*batches[:2], samples(0), batches[2]]:
        log.write(batch)
    log.close()
    found = list(read_samples(tmp_path / "samples"))
    assert len(found) == 3
    for left, right in zip(found, batches, strict=True):
        same(left, right)


def test_samples_without_numbers_or_histories_come_back_too(tmp_path):
    whole = samples(3, n_numbers=0)
    bare = SampleBatch.from_arrays({k: v for k, v in whole.to_arrays().items() if not k.startswith("history")})
    log = SampleLog(tmp_path)
    log.write(bare)
    log.close()
    same(next(read_samples(tmp_path)), bare)


def test_a_cut_log_goes_on_with_one_schema_and_any_arrow_reader_reads_it(tmp_path):
    first = SampleLog(tmp_path)
    assert first.flush() == "[]"
    first.write(samples(2))
    extent = first.flush()
    first.write(samples(5, first=2))
    first.close()
    second = SampleLog(tmp_path)
    second.truncate(extent)
    second.write(samples(3, first=2))
    second.close()
    assert SampleBatch.concat(list(read_samples(tmp_path))).ordinal.tolist() == [0, 1, 2, 3, 4]
    with pa.ipc.open_stream(tmp_path / "part-0.arrows") as stream:
        table = stream.read_all()
    assert table.column("at_ms").to_pylist()[1] == [1, 8, NEVER_MS]
    assert table.schema.field("history0.ids").type == pa.list_(pa.uint64(), 6)

    third = SampleLog(tmp_path)
    third.truncate("")
    third.write(samples(1))
    third.close()
    same(next(read_samples(tmp_path)), samples(1))


def test_a_log_that_ends_within_a_message_is_refused_and_none_is_no_rows(tmp_path):
    assert list(read_samples(tmp_path)) == []
    log = SampleLog(tmp_path)
    assert list(read_samples(tmp_path)) == []
    log.write(samples(2))
    extent = log.flush()
    ((_, size),) = json.loads(extent)
    log.write(samples(2))
    log.flush()
    log.truncate(extent_of(size + 100))
    log.close()
    batches = read_samples(tmp_path)
    same(next(batches), samples(2))
    with pytest.raises(DataError, match=r"part-0.arrows ends within a message"):
        next(batches)
    assert len(list(read_samples(tmp_path, extent=extent))) == 1  # what lies behind it does not count


def test_a_long_log_goes_on_in_further_parts_and_is_cut_across_them(tmp_path):
    log = SampleLog(tmp_path, part_bytes=1_000)
    extents = []
    for first in range(0, 36, 3):
        log.write(samples(3, first))
        extents.append(log.flush())
    log.close()
    assert len(list(tmp_path.iterdir())) == 12  # part-10 stands behind part-9
    assert extents[-1] == extent_of(*((tmp_path / f"part-{number}.arrows").stat().st_size for number in range(12)))
    assert SampleBatch.concat(list(read_samples(tmp_path))).ordinal.tolist() == list(range(36))
    for kept in (11, 7, 1, 0):
        again = SampleLog(tmp_path, part_bytes=1_000)
        again.truncate(extents[kept - 1] if kept else "")
        assert len(list(tmp_path.iterdir())) == kept
        again.write(samples(2, first=3 * kept))
        again.close()
        assert SampleBatch.concat(list(read_samples(tmp_path))).ordinal.tolist() == list(range(3 * kept + 2))


def test_a_span_of_rows_is_read_and_what_stands_behind_it_is_not_looked_at(tmp_path):
    log = SampleLog(tmp_path)
    for first in (0, 3, 6):
        log.write(samples(3, first))
    log.close()
    for first, end in ((0, 9), (1, 5), (3, 6), (4, 4), (7, None)):
        found = list(read_samples(tmp_path, first, end))
        assert all(len(batch) for batch in found)
        assert [n for batch in found for n in batch.ordinal] == list(range(9))[first:end]
    with (tmp_path / "part-0.arrows").open("ab") as file:
        file.write(b"half a message")
    assert sum(len(batch) for batch in read_samples(tmp_path, 2, 9)) == 7


def test_each_owner_writes_parts_of_its_own_and_rows_are_read_as_far_as_they_are_listed(tmp_path):
    old = SampleLog(tmp_path, epoch=1)
    old.write(samples(3))
    kept = old.flush()
    old.write(samples(3, first=3))
    new = SampleLog(tmp_path, epoch=2)
    new.truncate(kept)
    new.write(samples(2, first=3))
    extent = new.flush()
    old.close()
    new.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-e00001-0.arrows", "part-e00002-0.arrows"]
    assert SampleBatch.concat(list(read_samples(tmp_path, extent=extent))).ordinal.tolist() == [0, 1, 2, 3, 4]
    assert [len(batch) for batch in read_samples(tmp_path, 2, 4, extent)] == [1, 1]
    assert list(read_samples(tmp_path)) == []
