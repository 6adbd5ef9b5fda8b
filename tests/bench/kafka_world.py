"""A broker, events in files and in topics, and daemons in processes of their own: what the benches of Kafka share."""

import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from jobs.demo import RUN_FILE
from jobs.kuairand import convert
from jobs.synthetic_data import write
from streamctr.synthetic import WorldConfig
from tests.kafka_broker import PROVIDE, Broker, find_libs, new_broker

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "kuairand"
STAGES = ("impression", "click", "conversion")
PARTITIONS = 4
SAME = ("weights_sha256", "events", "roots", "judged", "judged_from", "slices", "steps")
"""What two runs over the same events agree in."""
WITHOUT = WorldConfig(roots=90_000, days=2.0, users=2_000, items=5_000, click_rate=0.3, conversion_rate=0.4)
"""The world that stands in where KuaiRand is not there."""
WAIT_S = 120
RUN_S = 900
REMEMBERS = f"\nproducer.id.expiration.ms={(1 << 31) - 1}\n"
"""So long after the stamp of its last record a producer is known: by default a day, and events happened before that."""
_SNAPSHOT = re.compile(r"(?:e(\d+)-)?(\d{12})")


class BrokenError(AssertionError):
    """Something does not hold; in words."""


def check(holds: object, words: str) -> None:
    """Raises `BrokenError` with these words where it does not hold."""
    if not holds:
        raise BrokenError(words)


def wait_for(found: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
    """Wait until it is so, at most so long."""
    deadline = time.monotonic() + limit_s
    while not found():
        check(time.monotonic() < deadline, f"waited {limit_s:.0f} s in vain for {what}")
        time.sleep(0.02)


class Record(NamedTuple):
    """A message of a topic."""

    value: bytes | None
    key: bytes | None
    partition: int
    time_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Events:
    """Event files of a funnel, and the run file that describes them."""

    run_file: Path
    folder: Path
    name: str

    @property
    def files(self) -> str:
        return f"files={self.folder}/*.jsonl.zst"

    def lines(self, stage: str) -> list[bytes]:
        with pa.input_stream(str(self.folder / f"{stage}.jsonl.zst"), compression="zstd") as stream:
            return stream.read().splitlines()

    def mixed(self) -> list[tuple[int, str, bytes]]:
        """Of all stages in the order of their times: the time, the root's id, and the line with its `type`."""
        found = []
        for place, stage in enumerate(STAGES):
            for line in self.lines(stage):
                message = orjson.loads(line)
                found.append((message["time_ms"], place, message["id"], b'{"type":"%s",' % stage.encode() + line[1:]))
        found.sort(key=lambda event: event[:2])
        return [(time_ms, root, line) for time_ms, _, root, line in found]


def events_in(folder: Path) -> Events:
    """KuaiRand where it is there, else the synthetic world."""
    if DATA.exists():
        convert(str(DATA), str(folder))
        return Events(ROOT / "jobs" / "examples" / "kuairand.yaml", folder, "KuaiRand")
    write(str(folder), WITHOUT, lambda _: None)
    return Events(RUN_FILE, folder, "the synthetic world")


def partition_of(root: str, partitions: int = PARTITIONS) -> int:
    """By the root's id, as a producer would choose it."""
    return zlib.crc32(root.encode()) % partitions


@contextmanager
def folder_and_broker() -> Iterator[tuple[Path, Broker]]:
    """A temporary folder and a broker that runs in it; both are gone afterwards, also after SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    libs = find_libs()
    if libs is None:
        sys.exit(f"no Kafka broker: {PROVIDE}")
    with TemporaryDirectory(prefix="streamctr-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = new_broker(folder / "broker", libs)
        with (folder / "broker" / "server.properties").open("a") as properties:
            properties.write(REMEMBERS)
        try:
            broker.start()
            yield folder, broker
        finally:
            broker.close()


def send(broker: Broker, topic: str, records: Iterable[Record]) -> list[int]:
    """All acknowledged; the offset of each."""
    producer = broker.producer(compression_type="zstd", max_request_size=1 << 24)
    sent = [
        producer.send(topic, r.value, key=r.key, headers=list(r.headers), partition=r.partition, timestamp_ms=r.time_ms)
        for r in records
    ]
    producer.flush(timeout=WAIT_S)
    offsets = [future.get(timeout=WAIT_S).offset for future in sent]
    producer.close(timeout=10)
    return offsets


def setting(kafka: Mapping[str, Any]) -> str:
    """A kafka block as a setting of the command line."""
    return f"kafka={orjson.dumps(kafka).decode()}"


class Daemon:
    """`streamctr` in a process of its own, which may end itself at a moment (see `kafka_child`)."""

    _started = 0

    def __init__(self, folder: Path, arguments: Sequence[str], moment: str = "never") -> None:
        Daemon._started += 1
        self.about = f"{arguments[0]}, {moment}"
        self._out, self._err = (folder / f"{Daemon._started:04d}.{end}" for end in ("out", "err"))
        command = [sys.executable, "-m", "tests.bench.kafka_child", moment, *arguments]
        environment = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "6000", **os.environ, "PYTHONPATH": str(ROOT)}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def send(self, number: int) -> None:
        """A signal."""
        self.process.send_signal(number)

    def wait(self, limit_s: float = RUN_S) -> int:
        """Its exit code.

        Raises:
            BrokenError: it does not end.
        """
        try:
            return self.process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokenError(f"{self.about}: still there after {limit_s:.0f} s; {self.said()}") from None

    def kill(self) -> None:
        """SIGKILL, where it runs; a stopped one too."""
        if self.runs:
            self.process.kill()
            self.process.wait(timeout=WAIT_S)

    def said(self, characters: int = 600) -> str:
        """The end of what it wrote to stderr."""
        text = self._err.read_text(errors="replace").strip()
        return f"it said: {text[-characters:]}" if text else "it said nothing"

    def killed_at(self) -> int:
        """How much it had taken when it ended itself."""
        found = re.search(r"killed at (\d+)", self._err.read_text(errors="replace"))
        check(found, f"{self.about}: it did not kill itself; {self.said()}")
        return int(found[1])

    def ended(self, wanted: int = 0, limit_s: float = RUN_S) -> dict[str, Any]:
        """What it printed with --json, once it has ended with the code that is wanted.

        Raises:
            BrokenError: it ended otherwise.
        """
        code = self.wait(limit_s)
        check(code == wanted, f"{self.about}: exit code {code}, not {wanted}; {self.said()}")
        return orjson.loads(self._out.read_bytes()) if code == 0 else {}


@dataclass
class Bench:
    """Where the cases of a bench take place; all that it started ends with it."""

    folder: Path
    broker: Broker
    events: Events
    sets: tuple[str, ...] = ("snapshots.every=0", "snapshots.keep=3", "training.threads=1")
    _daemons: list[Daemon] = field(default_factory=list)
    _runs: int = 0

    def run(self, name: str) -> Path:
        """The directory of a new run."""
        self._runs += 1
        return self.folder / f"run-{self._runs:03d}-{name}"

    def start(self, command: str, run: Path, sets: Sequence[str], *options: str, moment: str = "never") -> Daemon:
        """Start a command in a run directory."""
        own = [f"--set={text}" for text in (self.events.files, *self.sets, *sets)]
        arguments = [command, str(self.events.run_file), "--run", str(run), "--json", *own, *options]
        self._daemons = [daemon for daemon in self._daemons if daemon.runs]
        self._daemons.append(Daemon(self.folder, arguments, moment))
        return self._daemons[-1]

    def consume(self, run: Path, sets: Sequence[str], moment: str = "never") -> Daemon:
        """`consume --until end`."""
        return self.start("consume", run, sets, "--until", "end", moment=moment)

    def produce(self, kafka: Mapping[str, Any]) -> int:
        """The event files to their topics; how many messages."""
        own = [f"--set={text}" for text in (self.events.files, setting(kafka))]
        arguments = ["produce", str(self.events.run_file), "--json", "--partitions", str(PARTITIONS), *own]
        self._daemons.append(Daemon(self.folder, arguments))
        sent = self._daemons[-1].ended()
        return sum(topic["messages"] for topic in sent["topics"].values())

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.kill()


def same(found: Mapping[str, Any], wanted: Mapping[str, Any], keys: Sequence[str] = SAME) -> None:
    """Both ended with the same weights and figures.

    Raises:
        BrokenError: they did not.
    """
    different = [key for key in keys if found[key] != wanted[key]]
    check(not different, f"not as the replay of the files: {', '.join(different)}")


def snapshots(run: Path, folder: str = "snapshots") -> list[tuple[int, int]]:
    """Epoch, and what was taken, of each finished snapshot of a run, the newest last."""
    names = (run / folder).iterdir() if (run / folder).exists() else ()
    found = (_SNAPSHOT.fullmatch(path.name) for path in names)
    return sorted((int(match[1] or 0), int(match[2])) for match in found if match)


def newest(run: Path, folder: str = "snapshots") -> int:
    """What the newest snapshot has taken; 0 where there is none."""
    return snapshots(run, folder)[-1][1] if snapshots(run, folder) else 0


def logged(run: Path, event: str) -> list[dict[str, Any]]:
    """Lines of a run's log of this event, the oldest first; also of logs that were put aside."""
    paths = sorted(run.glob("log.jsonl*"), key=lambda path: path.stat().st_mtime)
    lines = (line for path in paths for line in path.read_bytes().splitlines())
    found = (orjson.loads(line) for line in lines if line.endswith(b"}"))
    return [line for line in found if line.get("event") == event]
