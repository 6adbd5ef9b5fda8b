"""`--from`: a new run starts from the learner of another one's snapshot; everything else of it starts anew."""

import json

import pytest
from test_cli import streamctr
from test_halves import did, here  # noqa: F401 - the fixture

NEVER = ["--frozen", "2000-01-01T00:00Z"]
"""Nothing is learned, so that what a run starts with is what it ends with."""


@pytest.fixture
def donor(here):  # noqa: F811
    """What was pretrained in runs/donor, in three epochs."""
    did("join", "--run", "runs/donor")
    return did("learn", "--run", "runs/donor", "--epochs", "3")


def about(run):
    return json.loads(streamctr("snapshots", "show", run, "--json")[1])["about"]


@pytest.mark.parametrize("command", ["replay", "learn"])
def test_a_run_starts_with_the_donors_weights_and_nothing_else_of_it(here, donor, command):  # noqa: F811
    if command == "learn":
        did("join", "--run", "runs/new")
    cold = did("replay", "--run", "runs/cold", *NEVER)
    warm = did(command, "--run", "runs/new", "--from", "runs/donor", *NEVER)
    assert warm["weights_sha256"] == donor["weights_sha256"] != cold["weights_sha256"]
    assert (warm["steps"], warm["judged"]["click"]["rows"]) == (0, 222)
    assert warm["judged"]["click"]["nll"] < cold["judged"]["click"]["nll"]


def test_it_learns_on_from_there_and_says_so(here, donor):  # noqa: F811
    name = f"runs/donor/snapshots/{donor['snapshot']}"
    code, out, err = streamctr("replay", "ads.yaml", "--run", "runs/new", "--from", name, "--json")
    assert (code, f"starting from the learner of {name}\n" in err) == (0, True)
    whole = did("replay", "--run", "runs/cold")
    assert json.loads(out)["steps"] == whole["steps"]
    assert json.loads(out)["weights_sha256"] not in (whole["weights_sha256"], donor["weights_sha256"])


def test_a_resume_goes_on_from_its_own_snapshot_and_still_tells_the_donor(here, donor):  # noqa: F811
    whole = did("replay", "--run", "runs/whole", "--from", "runs/donor")
    did("replay", "--run", "runs/new", "--from", "runs/donor", "--until", "2022-04-15T05:22Z")
    parts = did("replay", "--run", "runs/new")
    assert parts["weights_sha256"] == whole["weights_sha256"]
    told = about("runs/new")["from"]
    assert told["snapshot"] == f"runs/donor/snapshots/{donor['snapshot']}"
    assert told["weights_sha256"] == donor["weights_sha256"]
    manifest = json.loads((here / told["snapshot"] / "manifest.json").read_bytes())
    assert told["xxh3_128"] == manifest["xxh3_128"]
    assert about("runs/donor")["from"] is None


def test_a_run_that_has_begun_does_not_start_from_another_but_may_from_itself_anew(here, donor):  # noqa: F811
    code, _, err = streamctr("learn", "ads.yaml", "--run", "runs/donor", "--epochs", "3", "--from", "runs/donor")
    assert code == 78
    assert err == (
        f"--from starts a new run, but runs/donor has snapshot {donor['snapshot']}: leave --from away to go on from "
        "that, choose another directory with --run, or start anew with --fresh\n"
    )
    again = did("learn", "--run", "runs/donor", "--from", "runs/donor", "--fresh", *NEVER)
    assert again["weights_sha256"] == donor["weights_sha256"]


def test_a_learner_that_does_not_fit_is_refused_before_anything_is_learned(here, donor):  # noqa: F811
    arguments = ["replay", "ads.yaml", "--run", "runs/new", "--from", "runs/donor"]
    misfits = {
        "model.towers=[8]": "model.towers: [4] is now [8]",
        "features.id=[item, user]": "features.id: ['user', 'item'] is now ['item', 'user']",  # of the same shape
        "training.optimizer=adagrad": "does not fit this run: optimizer.",
    }
    for setting, said in misfits.items():
        code, _, err = streamctr(*arguments, "--set", setting)
        assert (code, said in err) == (78, True), err
    assert not (here / "runs/new/snapshots").exists()
    assert streamctr(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("start", "code", "said"),
    [
        ("events", 78, "--from events is neither a snapshot nor the directory of a run that has one"),
        ("nowhere", 78, "--from nowhere is neither a snapshot nor the directory of a run that has one"),
        ("runs/donor/joined/000000000390", 78, "snapshot 000000000390 holds no learner; name one of replay or learn"),
    ],
)
def test_what_is_no_learner_is_refused(here, donor, start, code, said):  # noqa: F811
    came, _, err = streamctr("replay", "ads.yaml", "--run", "runs/new", "--from", start)
    assert (came, said in err) == (code, True)


def test_a_donor_that_does_not_verify_is_refused(here, donor):  # noqa: F811
    arrays = here / "runs/donor/snapshots" / donor["snapshot"] / "state.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    code, _, err = streamctr("replay", "ads.yaml", "--run", "runs/new", "--from", "runs/donor")
    assert (code, "state.safetensors should have checksum" in err) == (74, True)
