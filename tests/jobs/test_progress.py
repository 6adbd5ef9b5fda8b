"""Progress where nobody watches a bar: lines on stderr."""

from jobs.progress import Progress


def test_where_the_end_is_known_a_line_comes_every_tenth(capsys):
    with Progress("replay", total=200) as progress:
        for done in (5, 20, 30, 100, 200):
            progress.reach(done, f"{done} events")
    assert capsys.readouterr().err.splitlines() == [
        "replay 10% 20 events",
        "replay 50% 100 events",
        "replay 100% 200 events",
    ]


def test_where_it_is_not_known_a_line_comes_whenever_twice_as_much_is_done(capsys):
    with Progress("replay", total=0) as progress:
        for done in (9, 10, 15, 16, 31, 70):
            progress.reach(done, f"{done} events")
    assert capsys.readouterr().err.splitlines() == ["replay 9 events", "replay 16 events", "replay 70 events"]
