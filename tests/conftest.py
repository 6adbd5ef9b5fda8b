"""What all tests share: properties are never judged by how fast a busy machine checks them."""

from hypothesis import HealthCheck, settings
from kafka_broker import kafka

__all__ = ["kafka"]

settings.register_profile("noisy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("noisy machine")
