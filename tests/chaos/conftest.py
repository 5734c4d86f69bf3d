"""The orchestrator's fixtures, for its faults."""

from tests.orchestrator.conftest import corpus, make_bench

__all__ = ["corpus", "make_bench"]
