"""Preloaded into the forkserver: lets the warm launcher run a job that is no sync."""

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, build_reconstructable_job

from benchmarks.five_ops.job import five_ops
from integration_pipelines.orchestration import launcher


def job_named(job_name: str) -> dg.JobDefinition:
    assert job_name == five_ops.name
    return five_ops


def reconstructable(job_name: str) -> ReconstructableJob:
    return build_reconstructable_job(__name__, "job_named", (job_name,))


launcher.reconstructable = reconstructable
