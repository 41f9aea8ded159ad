"""What every run needs, imported once in the forkserver. Nothing is connected and no thread is started."""

import gc

import dagster._core.execution.api
import dagster_postgres
import orjson
import pandera.pandas
import psycopg2
import pyarrow.compute

import connector_resources.erp_write
import connector_resources.salesforce.resource
import integration_pipelines.orchestration.jobs
import integration_pipelines.orchestration.launcher
import integration_pipelines.steps.extract
import integration_pipelines.steps.load
import integration_pipelines.steps.map
import integration_pipelines.steps.resolve
import integration_pipelines.steps.transforms
import integration_pipelines.steps.validate
import integration_pipelines.store.installation

gc.collect()
gc.freeze()  # so that a collection in a run's process does not touch, and copy, the pages that it shares
