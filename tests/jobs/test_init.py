"""`init`: five logs as people have them, each to a run file with the right stages, key and time, which then runs."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.check import check
from jobs.console import Call
from jobs.init import init
from jobs.replay import Request, replay
from jobs.runfile import RunFile
from streamctr.errors import ConfigError, DataError

DATA = Path(__file__).parent.parent.parent.parent / "shared" / "data"
START = datetime(2026, 3, 1, tzinfo=UTC)
ROOTS = 400


def at(seconds):
    return START + timedelta(seconds=seconds)


def text(seconds):
    return at(seconds).isoformat().replace("+00:00", "Z")


def lines(path, messages, opened=open):
    with opened(path, "wt") as file:
        file.writelines(json.dumps(message) + "\n" for message in messages)


def flat_logs():
    """A file a stage: every 4th impression is clicked 20 s to 59 s later, every 16th bought 10 minutes after that."""
    Path("logs").mkdir()
    imps = [
        {"id": f"i{n}", "ts": text(30 * n), "user_id": f"u{n % 37}", "item_id": n * 7 % 23, "price": 1.5 + n % 11,
         "tags": ["a", "b", "c"][: n % 4], "embedding": [n / 9, 0.5, -1.0], "country": "FR", "request": f"r{n}"}
        for n in range(ROOTS)
    ]  # fmt: skip
    lines("logs/impression.jsonl", imps)
    clicks = [{"id": f"i{n}", "ts": text(30 * n + 20 + n % 40)} for n in range(0, ROOTS, 4)]
    lines("logs/click.jsonl", sorted(clicks, key=lambda click: click["ts"]))
    lines("logs/conversion.jsonl", [{"id": f"i{n}", "ts": text(30 * n + 620 + n % 40)} for n in range(0, ROOTS, 16)])
    return ["logs"]


def nested_log():
    """One mixed log, packed: clicks name only the impression; no user; a page view now and then."""
    events = []
    for n in range(ROOTS):
        ad = {"id": n % 29, "advertiser": f"a{n % 5}", "size": ["300x250", "728x90"][n % 2]}
        imp = {"id": f"{n:05x}", "ad": ad, "slot": n % 3, "bid": 0.1 * (n % 50) ** 3}
        ctx = {"device": ["ios", "android"][n % 3 == 0], "geo": ["FR", f"city{n % 8}"]}
        events.append((30 * n, {"type": "imp", "imp": imp, "ctx": ctx}))
        if n % 4 == 0:
            events.append((30 * n + 9, {"type": "click", "impression_id": f"{n:05x}", "click_id": n}))
        if n % 16 == 0:
            order = {"type": "purchase", "impression_id": f"{n:05x}", "order": {"id": n, "total": 5.5 + n}}
            events.append((30 * n + 900, order))
        if n % 9 == 0:
            events.append((30 * n + 1, {"type": "pageview", "url": "/"}))
    lines("ads-2026-03-01.jsonl.gz", [{"ts": text(s)} | e for s, e in sorted(events, key=lambda e: e[0])], gzip.open)
    return ["ads-2026-03-01.jsonl.gz"]


def parquet_logs():
    """A Parquet file a stage, times in seconds; the order has a number of its own that could be a view's."""
    Path("shop").mkdir()
    seconds = [int(at(10 * n).timestamp()) for n in range(ROOTS)]
    views = {"view_id": list(range(ROOTS)), "time": seconds, "visitor_id": [n % 31 for n in range(ROOTS)],
             "sku": [f"s{n % 17}" for n in range(ROOTS)]}  # fmt: skip
    bought = range(0, ROOTS, 10)
    orders = {"order_id": list(range(len(bought))), "view_id": list(bought), "time": [seconds[n] + 45 for n in bought],
              "amount": [float(n) for n in bought]}  # fmt: skip
    pq.write_table(pa.table(views), "shop/view.parquet")
    pq.write_table(pa.table(orders), "shop/order.parquet")
    return ["shop/view.parquet", "shop/order.parquet"]


def shared(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in ../shared/data")
    return [str(path)]


LOGS = {
    "flat": flat_logs,
    "nested": nested_log,
    "kuairand": lambda: shared("kuairand/log_standard_20220425_20220430.csv.gz"),
    "talkingdata": lambda: shared("talkingdata/clicks_before_20171109.csv.gz"),
    "parquet": parquet_logs,
}
EXPECTED = {
    "flat": (["impression", "click", "conversion"], ("id",), "ts", ("user_id",)),
    "nested": (["imp", "click", "purchase"], ("imp.id",), "ts", ()),
    "kuairand": (["impression", "click", "long_view"], ("user_id", "video_id", "time_ms"), "time_ms", ("user_id",)),
    "talkingdata": (["click", "install"], ("ip", "app", "click_time"), "click_time", ("ip",)),
    "parquet": (["view", "order"], ("view_id",), "time", ("visitor_id",)),
}
JOINED = {
    "flat": [400, 100, 25],
    "nested": [400, 100, 25],
    "kuairand": [91_805, 41_096, 28_831],
    "talkingdata": [71_436, 168],
    "parquet": [400, 40],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name):
    """The config that `init` writes for a log, and what it says."""
    out = Path(f"{name}.yaml")
    result, code = init(Call(as_json=True), LOGS[name](), out)
    assert code == 0
    return RunFile.parse(out.read_text(), str(out)).config, result


@pytest.mark.parametrize("name", LOGS)
def test_stages_key_time_and_user_are_found(name, here):
    config, result = written(name)
    stages, key, time, user = EXPECTED[name]
    assert (list(config.funnel), config.key, config.time.field, config.user) == (stages, key, time, user)
    assert [stage["name"] for stage in result["stages"]] == stages


@pytest.mark.parametrize("name", LOGS)
def test_check_accepts_the_run_file_and_replay_runs_it(name, here):
    written(name)
    result, code = check(Call(as_json=True), Path(f"{name}.yaml"))
    assert (result["mistakes"], code) == ([], 0)
    result, code = replay(Call(as_json=True), Request(Path(f"{name}.yaml"), None, None, None, False))
    assert code == 0
    stages = EXPECTED[name][0]
    assert [result["events"][stage]["joined"] for stage in stages] == JOINED[name]
    assert sum(result["events"][stage]["rejected"] for stage in stages) == 0


def test_a_file_a_stage_features_by_kind_and_what_is_left_out(here):
    config, result = written("flat")
    assert config.features.id == ("user_id", "item_id")
    assert dict(config.features.vector) == {"embedding": 3}
    assert config.features.bag["tags"].most == 6
    assert list(config.features.number) == ["price"]
    assert result["features"]["out"] == ["country", "request"]
    assert "# left out: country: always FR" in Path("flat.yaml").read_text()
    assert config.features.history["past_click"].take == ("item_id",)


def test_windows_hold_the_delays_of_the_sample(here):
    """Clicks come 20 to 56 s after: three of four before 47 s, 1.5 times the longest is 84 s; orders 600 s behind."""
    config, _ = written("flat")
    click, conversion = config.funnel["click"], config.funnel["conversion"]
    assert (click.observe, click.window) == (60_000, 120_000)
    assert (conversion.observe, conversion.window) == (1_800_000, None)


def test_a_mixed_log_names_its_stage_field_other_lines_and_each_stages_own_key(here):
    config, result = written("nested")
    assert (config.stage, config.ignore) == ("type", ("pageview",))
    assert config.funnel["click"].key == config.funnel["purchase"].key == ("impression_id",)
    assert config.funnel["purchase"].value == "order.total"
    assert config.features.id == ("imp.ad.id", "imp.ad.advertiser", "imp.ad.size", "imp.slot", "ctx.device")
    assert (dict(config.features.bag), config.features.number["imp.bid"].transform) == (
        {"ctx.geo": config.features.bag["ctx.geo"]},
        "log1p",
    )
    assert result["questions"] == [
        "ignore: other kinds of line, skipped: is one of them a stage?",
        "user: no field seems to name the user; histories need one",
    ]


def test_flags_of_a_line_become_stages_and_what_tells_of_them_outcomes(here):
    config, _ = written("kuairand")
    assert config.funnel["click"].when == {"is_click": ()}
    assert config.funnel["long_view"].when == {"is_click": (), "long_view": ()}
    assert {"is_like", "is_comment", "play_time_ms", "comment_stay_time"} <= set(config.outcomes)
    assert config.features.id == ("user_id", "video_id", "tab")
    assert list(config.features.number) == ["duration_ms"]


def test_a_late_time_becomes_a_stage_and_an_unsorted_file_gets_its_span(here):
    config, result = written("talkingdata")
    assert (config.funnel["install"].at, config.outcomes) == ("attributed_time", ("is_attributed",))
    assert config.lateness == 3 * 86_400_000
    assert any(question.startswith("time: the times have no offset") for question in result["questions"])


def test_seconds_and_the_key_that_is_called_like_the_root_s(here):
    config, _ = written("parquet")
    assert config.time.unit == "s"
    assert config.funnel["order"].key is None
    assert config.funnel["order"].value == "amount"


def test_a_run_file_that_exists_stays_as_it_is(here):
    events = flat_logs()
    Path("logs.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"logs.yaml exists already and stays as it is; write elsewhere with --out"):
        init(Call(), events, None)
    assert Path("logs.yaml").read_text() == "mine"


def test_the_run_file_is_named_after_the_folder_or_the_file_and_the_next_command_is_told(here, capsys):
    init(Call(), nested_log(), None)
    assert Path("ads-2026-03-01.yaml").exists()
    out = capsys.readouterr().out
    assert "  stages     imp 400 · click 100 · purchase 25, told apart by the field type\n" in out
    assert "next: streamctr check ads-2026-03-01.yaml\n" in out


def test_what_is_not_found_is_a_question_at_its_line(here):
    lines("things.jsonl", [{"a": n % 7, "b": n % 3} for n in range(50)])
    result, _ = init(Call(as_json=True), ["things.jsonl"], None)
    text = Path("things.yaml").read_text()
    assert [question.split(":")[0] for question in result["questions"]] == ["key", "time", "user", "click"]
    assert "time: EVENT_TIME  " in text
    assert "# ? which field is an event's time, in every line?" in text


def test_tables_beside_the_log_are_offered_as_lookups(here):
    events = nested_log()
    Path("items.csv").write_text("imp.ad.id,brand\n1,x\n2,y\n")
    init(Call(as_json=True), [*events, "items.csv"], Path("run.yaml"))
    assert "  # lookup: {items: {file: items.csv, key: imp.ad.id, take: [brand]}}\n" in Path("run.yaml").read_text()


def test_events_that_are_not_there_or_empty_are_told(here):
    with pytest.raises(DataError, match='"none" matches no event file'):
        init(Call(), ["none"], None)
    Path("empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty.jsonl holds no message"):
        init(Call(), ["empty.jsonl"], None)
    Path("broken.parquet").write_text("no")
    with pytest.raises(DataError, match=r"broken.parquet cannot be read"):
        init(Call(), ["broken.parquet"], None)


def test_delimiters_marks_for_nothing_and_a_missing_header_are_seen(here):
    rows = [f"{n};2026-03-01 00:{n // 60:02d}:{n % 60:02d};u{n % 7};{'NA' if n % 3 else n};{int(n % 5 == 0)}" for n in
            range(300)]  # fmt: skip
    Path("log.csv").write_text("\n".join(["id;time;user;score;clicked", *rows]) + "\n")
    init(Call(as_json=True), ["log.csv"], Path("a.yaml"))
    config = RunFile.load(Path("a.yaml")).config
    assert (config.csv.delimiter, config.csv.missing, config.key) == (";", ("NA",), ("id",))
    assert list(config.funnel) == ["impression", "click"]
    Path("bare.csv").write_text("\n".join(rows) + "\n")
    init(Call(as_json=True), ["bare.csv"], Path("b.yaml"))
    config = RunFile.load(Path("b.yaml")).config
    assert config.csv.columns == ("column1", "column2", "column3", "column4", "column5")


def test_all_files_of_a_log_are_named_by_one_pattern_where_it_means_just_them(here):
    """The sample ends in the first file; the others are events all the same, and a note among them is left alone."""
    Path("days").mkdir()
    for day in (1, 2, 10):
        messages = [{"t": text(86_400 * day + n), "id": f"{day}-{n}", "click": n % 3 == 0} for n in range(10_001)]
        lines(f"days/ads-{day}.jsonl", messages)
    Path("days/note.txt").write_text("mine")
    init(Call(as_json=True), ["days"], None)
    assert "\nfiles: days/*.jsonl\n" in Path("days.yaml").read_text()
    Path("days/other.jsonl").write_text("")
    init(Call(as_json=True), ["days"], Path("b.yaml"))
    assert "\nfiles: days/ads*.jsonl\n" in Path("b.yaml").read_text()


def test_folders_say_the_stage_where_the_names_of_files_do_not(here):
    for hour in (1, 2):
        for stage, more in (("impressions", 0), ("clicks", 5)):
            Path(f"ads/{stage}/2026-03-01/0{hour}").mkdir(parents=True)
            messages = [{"id": f"{hour}-{n}", "t": text(3600 * hour + n + more), "ad": n % 9} for n in range(50)]
            lines(f"ads/{stage}/2026-03-01/0{hour}/part-0.jsonl", messages)
    init(Call(as_json=True), ["ads"], None)
    config = RunFile.load(Path("ads.yaml")).config
    assert config.files.stages == {
        "impression": ("ads/impressions/**/*.jsonl",),
        "click": ("ads/clicks/**/*.jsonl",),
    }
    assert check(Call(as_json=True), Path("ads.yaml"))[1] == 0


def test_files_of_a_stage_that_cannot_come_first_follow_those_of_another_name(here):
    Path("shop").mkdir()
    lines("shop/offers.jsonl", [{"offer_id": f"o{n}", "t": text(n), "article": n % 9} for n in range(100)])
    lines("shop/purchases.jsonl", [{"offer_id": f"o{n}", "t": text(n + 7)} for n in range(0, 100, 5)])
    init(Call(as_json=True), ["shop"], None)
    config = RunFile.load(Path("shop.yaml")).config
    assert (list(config.funnel), config.key) == (["offer", "purchase"], ("offer_id",))
    assert config.features.id == ("article",)


def test_a_newsletter_is_sent_opened_and_clicked_by_subscribers(here):
    events = [(n, "sent", n) for n in range(0, 4000, 10)] + [(n + 5, "open", n) for n in range(0, 4000, 20)]
    events += [(n + 8, "click", n) for n in range(0, 4000, 100)]
    lines("mail.jsonl", [{"t": text(s), "action": a, "message_id": f"m{n}", "subscriber": f"s{n % 370}"} for s, a, n in
                         sorted(events)])  # fmt: skip
    init(Call(as_json=True), ["mail.jsonl"], None)
    config = RunFile.load(Path("mail.yaml")).config
    assert (list(config.funnel), config.stage, config.user) == (["sent", "open", "click"], "action", ("subscriber",))


def test_files_whose_times_overlap_are_read_side_by_side(here):
    Path("shards").mkdir()
    for shard in range(3):
        messages = [{"id": f"{shard}-{n}", "ts": text(60 * n + shard), "is_click": n % 4 == 0} for n in range(200)]
        lines(f"shards/log-{shard}.jsonl", messages)
    result, _ = init(Call(as_json=True), ["shards"], None)
    files = RunFile.load(Path("shards.yaml")).config.files
    assert (files.paths, files.merge, result["lateness"]) == (("shards/*.jsonl",), "time", "1m")


def test_a_sample_weight_is_no_number_but_a_question(here):
    lines("log.jsonl", [{"id": n, "ts": text(n), "sample_weight": 0.5 + n % 7, "weight": 2.5 * n, "click": n % 3 == 0}
                        for n in range(100)])  # fmt: skip
    result, _ = init(Call(as_json=True), ["log.jsonl"], None)
    assert result["features"]["number"] == ["weight"]
    assert "# weight: sample_weight " in Path("log.yaml").read_text()
    assert "weight: does it say how much a root counts in learning?" in result["questions"]


def test_a_key_with_zeros_before_it_in_one_stage_alone_is_asked_for_as_an_integer(here):
    lines("view.jsonl", [{"id": f"{n:06d}", "ts": text(n), "ad": n % 9} for n in range(100)])
    lines("click.jsonl", [{"id": str(n), "ts": text(n + 5)} for n in range(1, 100, 3)])
    result, _ = init(Call(as_json=True), ["view.jsonl", "click.jsonl"], Path("run.yaml"))
    assert result["questions"][0] == ("key: 07 and 7 are two texts: are they one id? then add types: {id: integer}")


def test_a_flag_of_a_log_without_times_is_asked_for_its_delay(here):
    """Not for its time, which is its line's."""
    lines("log.jsonl", [{"id": f"a{n}", "is_click": n % 3 == 0, "ad": n % 7} for n in range(100)])
    result, _ = init(Call(as_json=True), ["log.jsonl"], None)
    assert [question.split(":")[0] for question in result["questions"]] == ["time", "user", "click"]
    assert "ISO-8601, or s, ms or us since 1970" in result["questions"][0]
    assert result["questions"][2].startswith("click: the flag says not when")


def test_a_column_of_timestamps_is_no_part_of_a_key(here):
    stamps = pa.array([at(n) for n in range(200)], pa.timestamp("ms", "UTC"))
    columns = {"user_id": [n % 20 for n in range(200)], "item_id": [n % 7 for n in range(200)]}
    pq.write_table(pa.table(columns | {"ts": stamps, "is_click": [n % 5 == 0 for n in range(200)]}), "log.parquet")
    init(Call(as_json=True), ["log.parquet"], None)
    assert RunFile.load(Path("log.yaml")).config.key == ("user_id", "item_id")
    assert check(Call(as_json=True), Path("log.yaml"))[1] == 0
