"""The service that asks, for the model of requests."""

from tests.requests.conftest import wire

__all__ = ["wire"]
