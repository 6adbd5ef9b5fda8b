"""`make broker`: the tests' own broker for people."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient
from kafka_broker import PROVIDE, START_S, find_libs, new_broker

ROOT = Path(__file__).parent.parent


def three_ports():
    """The first of three free ones in a row."""
    for first in range(21_000, 30_000, 7):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for place, client in enumerate((one, two, three)):
                    client.bind(("127.0.0.1", first + place))
            except OSError:
                continue
            return first
    raise RuntimeError("no three free ports in a row")


def started(port, folder):
    command = [sys.executable, "-m", "tests.kafka_broker", "--port", str(port), "--folder", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def test_it_keeps_its_topics_ends_with_ctrl_c_and_refuses_ports_that_are_in_use(tmp_path):
    libs, port = find_libs(), three_ports()
    if libs is None:
        pytest.skip(f"no Kafka broker: {PROVIDE}")
    broker = started(port, tmp_path / "kept")
    try:
        assert "is up, its topics in" in broker.stdout.readline()
        assert "".join(broker.stdout.readline() for _ in range(2)) == f"kafka:\n  servers: 127.0.0.1:{port}\n"
        client = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=START_S * 1000)
        client.create_topics({"kept": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
        client.close()
        other = started(port, tmp_path / "other")
        said = other.communicate(timeout=START_S)[1]
        assert other.returncode == 69
        assert f"in use; it takes the ports {port} to {port + 2}, or others by --port" in said
        broker.send_signal(signal.SIGINT)
        assert broker.communicate(timeout=START_S) == ("stopping\n", "")
        assert broker.returncode == 0
    finally:
        broker.terminate()
        broker.communicate(timeout=START_S)
    again = new_broker(tmp_path / "kept", libs)
    try:
        again.start()
        assert again.admin.list_topics() == ["kept"]
    finally:
        again.close()
