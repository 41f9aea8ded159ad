"""What every run needs, loaded once in the forkserver. Nothing is connected, and no thread is started."""

import gc
from importlib import import_module

import pandas
import pandera.pandas

from connector_resources.catalogue import load_catalogue
from connector_resources.registry import BUILT_IN
from connector_resources.tls import roots

MODULES = (
    *("dagster._core.execution.api", "dagster._grpc.impl", "dagster_postgres", "psycopg2"),
    *("pyarrow.compute", "pyarrow.csv", "pyarrow.ipc", "orjson", "psycopg", "sqlalchemy"),
    *("connector_resources.erp_write", "connector_resources.rest"),
    *(place.partition(":")[0] for place in BUILT_IN.values()),
    *(f"integration_pipelines.orchestration.{name}" for name in ("jobs", "launcher", "session")),
    *(f"integration_pipelines.steps.{name}" for name in ("extract", "validate", "map", "resolve", "load", "transforms")),
    "integration_pipelines.store.installation",
)

for module in MODULES:
    import_module(module)
pandera.pandas.DataFrameSchema({}).validate(pandas.DataFrame())  # with the first schema, pandera imports what checks frames
load_catalogue()  # our own ERP's
roots()
gc.collect()
gc.freeze()  # so that a collection in a run's process does not touch, and copy, the pages that it shares
