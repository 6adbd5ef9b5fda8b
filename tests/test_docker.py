"""What docker/ promises, as far as no engine is needed; the demo's commands run by hand, against a broker."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
TOOLS = Path(sys.executable).parent
INSIDE = "kafka:19092"
SMALL = {"ROOTS": "3000"}


def steps():
    """Instructions of the Dockerfile as (word, rest)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def of_last_stage(word):
    begin = max(at for at, (name, _) in enumerate(steps()) if name == "FROM")
    return [rest for name, rest in steps()[begin:] if name == word]


def composed(given):
    """The compose file with its `${NAME-default}` and `${NAME:-default}` put in."""

    def value(found):
        name, colon, default = found.groups()
        return given.get(name, default) or (default if colon else "")

    return yaml.safe_load(re.sub(r"\$\{(\w+)(:?)-([^}]*)\}", value, COMPOSE.read_text()))


def service(name, **given):
    return composed(given)["services"][name]


@pytest.mark.parametrize(
    "check",
    [
        ["hadolint", DOCKERFILE],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
    ],
    ids=["Dockerfile", "compose.yaml"],
)
def test_the_linters_of_both_files_find_nothing(check):
    done = subprocess.run([TOOLS / check[0], *check[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_a_user_who_may_write_runs_and_kernels_and_has_no_compiler():
    assert of_last_stage("USER") == ["1000:1000"]
    made = " ".join(of_last_stage("RUN"))
    environment = dict(pair.split("=", 1) for rest in of_last_stage("ENV") for pair in rest.split())
    for folder in (*of_last_stage("WORKDIR"), "/work/runs", environment["NUMBA_CACHE_DIR"]):
        assert folder in made.split("install -d -o streamctr", 1)[1].split()
    assert not re.search(r"gcc|build-essential|apt-get", DOCKERFILE.read_text())
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["GOMP_SPINCOUNT"] == re.search(r"GOMP_SPINCOUNT \?= (\d+)", (ROOT / "Makefile").read_text())[1]


def test_the_image_holds_what_the_lock_and_the_repository_hold():
    installs = [rest for name, rest in steps() if name == "RUN" and "uv pip install" in rest]
    assert all("requirements.lock" in rest for rest in installs)
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert "confluent-kafka" in locked
    assert "--extra confluent" in installs[0]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source for name, rest in steps() if name == "COPY" and "--from" not in rest for source in sources_of(rest)
    ]
    assert allowed == {source.split("/")[0] for source in copied}
    assert [source for source in copied if not (ROOT / source).exists()] == []
    packages = yaml.safe_load(re.search(r"include = (\[.*\])", (ROOT / "pyproject.toml").read_text())[1])
    assert {package.rstrip("*") for package in packages} <= set(copied)


def sources_of(copy):
    return [word for word in copy.split()[:-1] if not word.startswith("--")]


@pytest.mark.parametrize(
    ("given", "said"),
    [({}, "--torch-backend cpu "), ({"TORCH_BACKEND": ""}, ""), ({"TORCH_BACKEND": "cu130"}, "--torch-backend cu130 ")],
)
def test_a_build_argument_chooses_between_cpu_and_gpu(given, said):
    arguments = service("produce", **given)["build"]["args"]
    assert ("ARG", "TORCH_BACKEND=cpu") in steps()
    install = next(rest for name, rest in steps() if name == "RUN" and "-r pyproject.toml" in rest)
    shown = subprocess.run(
        ["sh", "-c", f'uv() {{ echo "$@"; }}; {install}'], env=arguments, capture_output=True, text=True
    )
    assert shown.stdout.startswith(f"pip install {said}--only-binary :all: -c requirements.lock -r pyproject.toml")


def test_the_broker_keeps_its_topics_and_takes_transactions_with_one_node():
    kafka = service("kafka")
    assert kafka["volumes"] == [f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}"]
    assert kafka["healthcheck"]["test"][:2] == ["CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh"]
    names = ("OFFSETS_TOPIC_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_REPLICATION_FACTOR")
    for name in (*names, "TRANSACTION_STATE_LOG_MIN_ISR"):
        assert kafka["environment"][f"KAFKA_{name}"] == 1
    assert f"INSIDE://{INSIDE}" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert all(port.startswith("127.0.0.1:") for port in kafka["ports"])


def test_the_daemon_starts_behind_the_world_has_time_for_its_last_snapshot_and_keeps_its_runs():
    produce, consume = service("produce"), service("consume")
    assert produce["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert consume["depends_on"]["produce"] == {"condition": "service_completed_successfully"}
    assert "--once" in produce["command"]  # `up` starts what has ended, too
    assert consume["stop_grace_period"] == "2m"
    named = dict(volume.split(":") for volume in consume["volumes"])
    assert named == {"runs": "/work/runs", "kernels": "/var/cache/streamctr"}
    assert set(named) < set(composed({})["volumes"])


def test_the_commands_of_the_demo_end_with_a_snapshot_that_verifies(tmp_path, monkeypatch, kafka):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "jobs" / "examples")
    topics = ", ".join(f"{stage}: demo-{uuid.uuid4().hex[:12]}" for stage in ("impression", "click", "conversion"))
    own = [f"--set=kafka.topics={{{topics}}}", "--json"]

    def run(name, *more):
        command = [word.replace(INSIDE, kafka.servers) for word in service(name, **SMALL)["command"]]
        done = CliRunner().invoke(app, [*command, *more, *own])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    sent = run("produce")["topics"].values()
    again = run("produce")
    assert [topic["messages"] for topic in again["topics"].values()] == [0, 0, 0]
    assert again["warnings"][0].startswith("nothing is sent: demo-")
    read = run("consume", "--until", "end")
    assert read["events"]["impression"]["joined"] == 3000
    assert sum(topic["messages"] for topic in sent) == sum(stage["read"] for stage in read["events"].values())
    shown = CliRunner().invoke(app, ["snapshots", "verify", "runs/synthetic", "--json"])
    assert shown.exit_code == 0, shown.stderr
    assert read["snapshot"] in json.loads(shown.stdout)["verified"]
