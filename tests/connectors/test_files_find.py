"""Which files are found, of which stage they are, and in which order they are read."""

import io
import os
import sys
from pathlib import Path

import pytest

from connectors.files import FilesConfig, find_files
from streamctr.errors import DataError
from streamctr.schema import Funnel, StageConfig


def funnel(**stages):
    given = {name: StageConfig(**({"observe": "1s"} | config)) for name, config in stages.items()}
    return Funnel.from_mapping(given)


THREE = funnel(view={}, click={}, click_ad={"called": ("cpa", "adclick")})
DERIVED = funnel(view={}, click={"when": "is_click"})


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(paths=(), tree=THREE, mixed=False, **config):
    """Stage and files of every partition."""
    partitions = find_files(FilesConfig(paths=paths, **config), tree, mixed)
    return [(part.stage, list(part.paths)) for part in partitions]


def test_a_files_name_says_its_stage():
    touch("click", "click-10.jsonl.gz", "click2", "click_ad.jsonl", "cpa-1.csv", "view.jsonl", "view-a.jsonl")
    os.mkdir("click.d")
    assert found("*") == [
        (0, ["view.jsonl", "view-a.jsonl"]),
        (1, ["click", "click2", "click-10.jsonl.gz"]),
        (2, ["click_ad.jsonl", "cpa-1.csv"]),
    ]
    assert found(["view.*", "vi*.jsonl"])[0] == (0, ["view.jsonl", "view-a.jsonl"])


def test_files_of_a_stage_are_read_in_the_order_in_which_people_count():
    names = ["view.jsonl", "view-1.jsonl", "view-2.jsonl.gz", "view-10.csv", "view-10b.jsonl", "view-2022-04-9/view"]
    touch(*names, "view-2022-04-10/view")
    assert found("**/view*")[0] == (0, [*names[:1], *names[1:5], *names[5:], "view-2022-04-10/view"])


def test_side_by_side_every_file_is_a_partition_and_a_stage_without_files_is_one_too():
    touch("view-1", "view-2", "click_ad")
    assert found("*", merge="time") == [(0, ["view-1"]), (0, ["view-2"]), (1, []), (2, ["click_ad"])]
    assert found("*", merge="name") == [(0, ["view-1", "view-2"]), (1, []), (2, ["click_ad"])]


def test_where_a_field_says_the_stage_no_name_does():
    touch("log-1", "log-2")
    assert found("log*", mixed=True) == [(-1, ["log-1", "log-2"])]
    assert found("log*", mixed=True, merge="time") == [(-1, ["log-1"]), (-1, ["log-2"])]


def test_where_one_stage_alone_has_messages_all_files_are_its():
    touch("a.csv", "click.csv")
    assert found("*", DERIVED) == [(0, ["a.csv", "click.csv"])]


def test_the_run_file_says_which_files_are_of_which_stage():
    touch("a/1.jsonl", "a/2.jsonl", "b.jsonl")
    assert found(stages={"click": "b.jsonl", "view": "a"}) == [
        (0, ["a/1.jsonl", "a/2.jsonl"]),
        (1, ["b.jsonl"]),
        (2, []),
    ]
    assert found(stages={"view": "a/*"}, mixed=True)[0] == (0, ["a/1.jsonl", "a/2.jsonl"])


def test_of_a_folder_all_files_count_but_for_what_programs_leave_or_hide():
    touch("log/view.1", "log/deep/view.2", "log/.view.3", "log/.git/view.4", "log/_SUCCESS", "log/_tmp/view.5")
    touch("log/view.6.bak", "log/view.7.tmp", "log/view.8~")
    assert found("log")[0] == (0, ["log/deep/view.2", "log/view.1"])
    assert found("log/")[0] == (0, ["log/deep/view.2", "log/view.1"])


def test_links_lead_to_folders_but_not_in_circles_and_a_file_with_two_names_is_read_once():
    touch("elsewhere/view.1", "log/view.2")
    os.symlink("../elsewhere", "log/far")
    os.symlink("../log", "log/circle")
    os.symlink("view.2", "log/view.latest")  # stands before view.2 by name
    assert found("log")[0] == (0, ["log/far/view.1", "log/view.2"])


def test_a_name_with_the_signs_of_patterns_may_be_a_files_own():
    touch("view[1].jsonl", "view1.jsonl")
    assert found("view[1].jsonl")[0] == (0, ["view[1].jsonl"])


def test_standard_input_stands_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    touch("view")
    assert found("-", mixed=True) == [(-1, ["-"])]
    assert found("-", DERIVED) == [(0, ["-"])]
    assert found(stages={"view": "-"}) == [(0, ["-"]), (1, []), (2, [])]
    for wrong, words in [
        ({"paths": ["-", "view"]}, "files: - is standard input and stands alone"),
        ({"stages": {"view": "view", "click": "-"}}, "files.stages: - is standard input and stands alone"),
        ({"stages": {"view": "-", "click": "-"}}, "files.stages: - is matched for view and for click"),
        ({"paths": "-"}, r'input has no name that says its stage; .* write files: {stages: {view: "-"}}'),
        ({"paths": "-", "format": "parquet"}, "standard input is JSON lines or CSV; read Parquet from a file"),
    ]:
        with pytest.raises(DataError, match=words):
            found(**{"mixed": wrong.get("format") == "parquet"} | wrong)


def test_a_terminal_sends_no_events(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(DataError, match="that is a terminal; feed events into it, as in zcat"):
        found("-", mixed=True)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"paths": ["view", "buy*"]},
            r'files: "buy\*" matches no file in .*; name event files, a folder or a pattern$',
        ),
        ({"paths": "gone/view"}, 'files: "gone/view" matches no file in '),
        ({"paths": ""}, 'files: "" matches no file in '),
        ({"paths": "empty"}, "files: the folder empty holds no event file "),
        (
            {"paths": "other*"},
            r"name of other says no stage; let it begin with one of .*stages: {view: ...}}.*with `stage:` which",
        ),
        ({"paths": "click"}, "files: none is of the root stage view; nothing can be joined"),
        ({"stages": {"view": "view", "clik": "click"}}, r'files.stages: "clik" is no stage; did you mean "click"\?'),
        ({"stages": {"buy": "view"}}, r'files.stages: "buy" is no stage; name one of view, click, click_ad'),
        ({"stages": {"view": "*w", "click": "view"}}, r"files.stages: view is matched for view and for click; narrow"),
        ({"paths": ["view", "view.xz"]}, r"files: view.xz: .xz is not read; write JSON lines or CSV \(plain, .gz"),
        ({"paths": ["view", "view.TAR.gz"]}, r"view.TAR.gz: .tar is not read"),
        ({"paths": "view.parquet.gz"}, r"view.parquet.gz: Parquet files pack their own columns; unpack it once"),
        (
            {"paths": "view-link"},
            "files: view-link cannot be read: No such file or directory; mend it, or leave it out",
        ),
        ({"paths": "view-pipe"}, "files: view-pipe is no regular file; to read a pipe, write -"),
    ],
)
def test_paths_that_cannot_be_meant_are_refused(config, words):
    touch("view", "click", "other", "view.xz", "view.TAR.gz", "view.parquet.gz", "empty/.hidden")
    os.symlink("nowhere", "view-link")
    os.mkfifo("view-pipe")
    with pytest.raises(DataError, match=words):
        found(**config)


def test_a_name_that_is_not_utf8_is_refused_before_a_snapshot_would_have_to_hold_it():
    Path(os.fsdecode(b"view-\xff")).touch()
    with pytest.raises(DataError, match=r"the name of b'view-\\xff' is not UTF-8; rename it"):
        found("view*")


def test_a_stage_that_other_messages_tell_of_has_no_files():
    touch("view", "click")
    with pytest.raises(DataError, match=r"click.* has no messages of its own: fields of view's messages tell of it"):
        found(stages={"view": "view", "click": "click"}, tree=DERIVED)


def test_what_may_not_be_read_is_told(monkeypatch):
    touch("view", "shut/view")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, how: Path(path).name != "shut" and allowed(path, how))
    with pytest.raises(DataError, match=r'"shut/\*.csv" matches no file in .*; shut cannot be read: let this user'):
        found("shut/*.csv")
    monkeypatch.setattr(os, "access", lambda path, how: False)
    with pytest.raises(DataError, match="files: view cannot be read: Permission denied; let this user read it"):
        found("view")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told():
    touch("log/deep/view")
    os.chmod("log/deep", 0)
    with pytest.raises(DataError, match="the folder log/deep cannot be read: Permission denied"):
        found("log")
    os.chmod("log/deep", 0o700)
