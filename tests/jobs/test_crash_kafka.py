"""A daemon that is killed five times, and three times while it writes a snapshot, ends as a replay of the files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kafka_broker import PROVIDE, find_libs

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_kills_of_a_daemon_change_nothing():
    if find_libs() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Kafka broker: {PROVIDE}")
    command = [sys.executable, "-m", "tests.bench.crash_kafka", "--quick", "kills"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok     5 kills, kafka-python" in done.stdout
    assert "8 kills, " in done.stdout  # three of them in snapshots
