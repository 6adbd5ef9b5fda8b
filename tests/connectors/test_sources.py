"""Every source gives each message once and in order, wherever it is stopped: the same battery for all of them."""

from dataclasses import replace

import orjson
import pytest

from connectors.files import FilesConfig, FileSource
from connectors.files.find import FilePartition
from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaSource
from connectors.memory import MemorySource, Partition
from streamctr.schema import CsvConfig, Funnel, StageConfig
from streamctr.testing import check_source

FUNNEL = Funnel.from_mapping({"view": None, "click": StageConfig(observe=1000)})
LINES = [[b'{"of":%d,"n":%d}' % (partition, n) for n in range(size)] for partition, size in enumerate((90, 0, 13, 400))]


@pytest.mark.parametrize("block_lines", [1, 7, 1000])
def test_memory(block_lines):
    partitions = [Partition(0, tuple(lines)) for lines in LINES]
    check_source(lambda: MemorySource(partitions, block_lines), LINES)


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 19])
def test_files(tmp_path, block_bytes):
    partitions = []
    for place, lines in enumerate(LINES):
        parts = [lines[:50], lines[50:]] if lines else []
        paths = tuple(str(tmp_path / f"{place}-{part}.jsonl") for part in range(len(parts)))
        for path, part in zip(paths, parts, strict=True):
            with open(path, "wb") as file:
                file.write(b"".join(line + b"\n" for line in part))
        partitions.append(FilePartition(0, paths))
    check_source(lambda: FileSource(partitions, FilesConfig(paths="x"), CsvConfig(), block_bytes), LINES)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("settings", [{"max_poll_records": 7, "buffer_bytes": 1 << 10}, {}], ids=["small", "large"])
def test_kafka(kafka, client, settings):
    topic = kafka.topic(len(LINES))
    kafka.send(topic, [(partition, line) for partition, lines in enumerate(LINES) for line in lines])
    config = KafkaConfig(servers=kafka.servers, topic=topic, client=client, **settings)
    check_source(lambda: KafkaSource(config, FUNNEL, True, "end"), LINES)


class Elsewhere(MemorySource):
    """Goes one line further than its positions said."""

    def seek(self, positions):
        super().seek(orjson.dumps([at + 1 for at in orjson.loads(positions)]).decode())


class Stutter(MemorySource):
    """Gives a line again when it was stopped in the middle, without a word in its positions."""

    def seek(self, positions):
        super().seek(positions)
        self._stopped = True

    def poll(self, partition):
        block = super().poll(partition)
        again, self._stopped = getattr(self, "_stopped", False), False
        return replace(block, payload=block.payload + block.payload) if again else block


class Silent(MemorySource):
    """One that never says that it has ended."""

    def poll(self, partition):
        return replace(super().poll(partition), ended=False)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Elsewhere, "it is elsewhere"),
        (Stutter, "is not what it should be, over stops"),
        (Silent, "neither a message nor an end"),
        (lambda parts: MemorySource(parts[:3]), "3 partitions, not 4"),
        (lambda parts: MemorySource([*parts[:3], Partition(0, parts[3].lines[1:])]), "partition 3 is not what"),
    ],
)
def test_the_battery_finds_what_is_broken(broken, words):
    partitions = [Partition(0, tuple(lines)) for lines in LINES]
    with pytest.raises(AssertionError, match=words):
        check_source(lambda: broken(partitions), LINES)
