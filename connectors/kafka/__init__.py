"""Kafka topics as a source of events (`source`), and as a sink (`producer`); `config` alone loads no client."""
