# One environment, .venv, made by the first verb that needs it. TORCH_BACKEND=cpu takes torch's CPU build.
export PYTHONDONTWRITEBYTECODE =
export GOMP_SPINCOUNT ?= 6000
PYTHON ?= python3
TORCH_BACKEND ?=
DATA ?= ../shared/data/kuairand
BIN := .venv/bin
UV := $(BIN)/uv pip install -q --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))

.PHONY: demo test check bench bench-peers bench-growth bench-memory bench-kafka crash-kafka soak fuzz kuairand broker lock clean

demo: .venv/.run
	$(BIN)/streamctr demo

test: .venv/.test
	$(BIN)/python -m pytest

check: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.test
	$(BIN)/python -m tests.bench.rate
	$(BIN)/python -m tests.bench.snapshot

bench-peers: .venv/.run
	$(BIN)/python -m tests.bench.peers .venv-peers

bench-growth: .venv/.run
	$(BIN)/python -m tests.bench.growth

bench-memory: .venv/.run
	$(BIN)/python -m tests.bench.memory

bench-kafka: .venv/.test
	$(BIN)/python -m tests.bench.kafka_rate

crash-kafka: .venv/.test
	$(BIN)/python -m tests.bench.crash_kafka

soak: .venv/.test
	$(BIN)/python -m tests.bench.soak

broker: .venv/.test
	$(BIN)/python -m tests.kafka_broker

fuzz: .venv/.run
	$(BIN)/python -m tests.bench.fuzz

kuairand: .venv/.run
	$(BIN)/python -m tests.bench.kuairand $(DATA)

lock: .venv/.run
	$(BIN)/uv pip compile -q --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra test --extra confluent pyproject.toml -o requirements.lock

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv

.venv/.run: pyproject.toml requirements.lock | .venv/bin/uv
	$(UV) -c requirements.lock -e .
	touch $@

.venv/.test: .venv/.run
	$(UV) -c requirements.lock -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-peers build runs
	find . -name __pycache__ -prune -exec rm -rf {} +
