"""A real Kafka broker for tests: one a session, on free ports of this machine, with users and TLS; no Docker.

Where it comes from, in this order: STREAMCTR_TEST_KAFKA=host:port (a running one, without the users), KAFKA_HOME, or
Java and Maven, which fetch it once into ~/.cache/streamctr.

`python -m tests.kafka_broker` runs the same one for people, in the foreground, and keeps its topics.
"""

import argparse
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

VERSION = "4.3.0"
PASSWORD = "a right password"
STORE_PASSWORD = "storepass"
CLUSTER_ID = base64.urlsafe_b64encode(b"streamctr-broker").rstrip(b"=").decode()
PROVIDE = "set STREAMCTR_TEST_KAFKA=host:port, or KAFKA_HOME, or install Java 17 and Maven"
START_S = 60

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>streamctr</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/log
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
log.cleaner.backoff.ms=100
message.max.bytes=41943040
socket.request.max.bytes=104857600
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:reader
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_reader="{password}" user_stranger="{password}";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="admin";
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password={store_password}
ssl.keystore.type=PKCS12
"""


@dataclass
class Broker:
    """A broker that runs, and what tests ask of it."""

    servers: str
    """host:port, without a password."""
    secure: str = ""
    """host:port with SASL over TLS, for the users `reader` (may all) and `stranger` (may nothing); or empty."""
    folder: Path | None = None
    classpath: str = ""
    process: subprocess.Popen[bytes] | None = None
    _admin: KafkaAdminClient | None = field(default=None, repr=False)

    @property
    def ca(self) -> str:
        """Whose signature its certificate has, a PEM file."""
        return str(self.folder / "ca.pem")

    @property
    def admin(self) -> KafkaAdminClient:
        """One client for all tests."""
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self.servers, bootstrap_timeout_ms=START_S * 1000)
        return self._admin

    def topic(self, partitions: int = 1, prefix: str = "events", **configs: object) -> str:
        """A new topic without time retention, of a name of its own."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self.create(name, partitions, **configs)
        return name

    def create(self, name: str, partitions: int = 1, **configs: object) -> None:
        settings = {key.replace("_", "."): str(value) for key, value in ({"retention_ms": -1} | configs).items()}
        new = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
        self.admin.create_topics({name: new}, timeout_ms=10_000, wait_for_metadata=True)

    def producer(self, **settings: object) -> KafkaProducer:
        return KafkaProducer(bootstrap_servers=self.servers, linger_ms=20, batch_size=1 << 18, **settings)

    def send(self, topic: str, messages: Iterable[tuple[int, bytes | None]], **settings: object) -> None:
        """Messages as (partition, value), all acknowledged; a value of None has a key, as a tombstone must."""
        producer = self.producer(**settings)
        sent = [
            producer.send(topic, value, partition=partition, key=b"key" if value is None else None)
            for partition, value in messages
        ]
        producer.flush(timeout=30)
        for future in sent:
            future.get(timeout=10)
        producer.close(timeout=10)

    def start(self) -> None:
        """Run it in its folder; after `stop` or `kill` again, with what it had."""
        java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", self.classpath]
        with (self.folder / "broker.log").open("ab") as log:
            settings = str(self.folder / "server.properties")
            self.process = subprocess.Popen([*java, "kafka.Kafka", settings], stdout=log, stderr=log, cwd=self.folder)
        host, port = self.servers.split(":")
        for _ in range(START_S * 10):
            if self.process.poll() is not None:
                break
            with socket.socket() as client:
                if client.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the broker did not start: {(self.folder / 'broker.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL, to its own process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=START_S)
            self.process = None

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        self.kill()


def find_libs() -> Path | None:
    """The folder of Kafka's jars; None where there is nothing to have them from."""
    home = os.environ.get("KAFKA_HOME")
    if shutil.which("java") is None:
        return None
    if home:
        return Path(home) / "libs"
    folder = Path.home() / ".cache" / "streamctr" / f"kafka-{VERSION}"
    if not (folder / "libs").is_dir():
        if shutil.which("mvn") is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(POM)
        fetched = folder / f"fetched-{os.getpid()}"  # named libs only when all are there
        call = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        subprocess.run([*call, "-DincludeScope=runtime"], cwd=folder, check=True, timeout=300)
        fetched.rename(folder / "libs")
    return folder / "libs"


def new_broker(folder: Path, libs: Path, ports: tuple[int, int, int] = (0, 0, 0)) -> Broker:
    """A broker of its own in a folder, formatted where that is empty, and not yet started; a port of 0 is a free one.

    Raises:
        OSError: a port is in use.
    """
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for client, port in zip((one, two, three), ports, strict=True):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of one that just stopped
            client.bind(("127.0.0.1", port))
        plain, secure, controller = (client.getsockname()[1] for client in (one, two, three))
    values = {"plain": plain, "secure": secure, "controller": controller, "folder": folder}
    text = PROPERTIES.format(**values, password=PASSWORD, store_password=STORE_PASSWORD)
    (folder / "server.properties").write_text(text)
    classpath = f"{libs}/*"
    broker = Broker(f"127.0.0.1:{plain}", f"127.0.0.1:{secure}", folder, classpath)
    if (folder / "log" / "meta.properties").exists():
        return broker
    _certify(folder)
    scram = f"SCRAM-SHA-512=[name=reader,password={PASSWORD}]"
    call = ["java", "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID]
    _run([*call, "-c", str(folder / "server.properties"), "--add-scram", scram])
    return broker


def _certify(folder: Path) -> None:
    """A certificate for 127.0.0.1 in `broker.p12`, and what clients trust it by in `ca.pem`."""
    (folder / "broker.p12").unlink(missing_ok=True)  # of a start that failed half way
    store = ["-alias", "broker", "-keystore", str(folder / "broker.p12"), "-storepass", STORE_PASSWORD]
    pair = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650", "-storetype", "PKCS12"]
    _run(["keytool", *pair, *store, "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1"])
    _run(["keytool", "-exportcert", "-rfc", *store, "-file", str(folder / "ca.pem")])


def _run(call: list[str]) -> None:
    done = subprocess.run(call, capture_output=True, text=True, timeout=START_S)
    if done.returncode:
        raise RuntimeError(f"{call[0]} failed: {done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker of this session."""
    running = os.environ.get("STREAMCTR_TEST_KAFKA")
    libs = None if running else find_libs()
    if not running and libs is None:
        if os.environ.get("CI"):
            pytest.fail(f"no Kafka broker: {PROVIDE}")
        pytest.skip(f"no Kafka broker: {PROVIDE}")
    broker = Broker(running) if running else new_broker(tmp_path_factory.mktemp("broker"), libs)
    try:
        if not running:
            broker.start()
        yield broker
    finally:
        broker.close()


def main() -> int:
    """Run a broker in the foreground until Ctrl-C; its topics stay in its folder."""
    home = Path.home() / ".cache" / "streamctr" / "broker"
    options = argparse.ArgumentParser(prog="make broker", description=main.__doc__)
    options.add_argument("--port", type=int, default=9092, help="and the two behind it; default: %(default)s")
    options.add_argument("--folder", type=Path, default=home, help="where its topics stay; default: %(default)s")
    asked = options.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    broker = None
    try:
        libs = find_libs()  # fetched the first time, 44 MB
        if libs is None:
            return _refused("there is no Java 17 with Maven; install both, or Java, and set KAFKA_HOME")
        asked.folder.mkdir(parents=True, exist_ok=True)
        broker = new_broker(asked.folder.resolve(), libs, (asked.port, asked.port + 1, asked.port + 2))
        broker.start()
        print(f"Kafka {VERSION} is up, its topics in {broker.folder}; Ctrl-C stops it", flush=True)
        print(f"kafka:\n  servers: {broker.servers}", flush=True)
        return broker.process.wait()
    except OSError as error:
        return _refused(f"{error}; it takes the ports {asked.port} to {asked.port + 2}, or others by --port")
    except (RuntimeError, subprocess.SubprocessError) as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        print("stopping", flush=True)
        return 0
    finally:
        if broker is not None and broker.process is not None:
            broker.process.terminate()  # a terminal's Ctrl-C reached it too: twice is as good as once
            broker.process.wait(timeout=START_S)


def _refused(why: str) -> int:
    print(f"no broker: {why}", file=sys.stderr)
    return 69


if __name__ == "__main__":
    sys.exit(main())
