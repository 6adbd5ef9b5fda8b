"""Every source gives each message once and in order, wherever it is stopped: the same battery for all of them."""

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
