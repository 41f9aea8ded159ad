"""The same job beside all that a run of ours needs, as its module would import it under stock Dagster."""

from benchmarks.five_ops.job import defs
from integration_pipelines.orchestration import preload

assert preload.MODULES  # they are imported by it

__all__ = ["defs"]
