"""Files of arrays: what is written is what safetensors reads, and the reverse."""

from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import numpy as theirs

from streamctr.snapshot.arrays import checksum, load_file, save_file
from streamctr.testing import same

TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
STATES = st.dictionaries(st.text(max_size=8).filter("__metadata__".__ne__), hnp.arrays(st.sampled_from(TYPES), SHAPES))


@given(arrays=STATES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_read_what_either_wrote(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    arrays = dict(sorted(arrays.items()))
    ours, other = tmp_path / "ours", tmp_path / "theirs"
    ours.unlink(missing_ok=True)
    found = save_file(arrays, ours)
    assert found == checksum(ours) == xxhash.xxh3_128_hexdigest(ours.read_bytes())
    theirs.save_file(arrays, other)
    for read, path in ((theirs.load_file, ours), (load_file, ours), (load_file, other)):
        assert same(dict(sorted(read(path).items())), arrays)


def test_every_array_stands_at_whole_items(tmp_path: Path) -> None:
    save_file({"a": np.ones(3, np.uint8), "b": np.ones(1), "c": np.ones(1, np.float32)}, tmp_path / "file")
    assert all(array.flags.aligned for array in load_file(tmp_path / "file").values())


def test_what_was_loaded_cannot_be_changed_and_outlives_its_file(tmp_path: Path) -> None:
    save_file({"a": np.arange(3)}, tmp_path / "file")
    loaded = load_file(tmp_path / "file")["a"]
    (tmp_path / "file").unlink()
    assert loaded.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        loaded[0] = 1


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("another's")
    with pytest.raises(FileExistsError):
        save_file({}, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "another's"
