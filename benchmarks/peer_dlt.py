"""What we are compared with: dlt's rest_api source into PostgreSQL, merged by primary key. Runs in .venv-bench.

Reads one JSON line from standard input for each load, and answers each with the seconds that `pipeline.run` took: dlt's start
and imports are not counted.
"""

import json
import sys
import time
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source


def source(url: str, token: str, query: str, *, window: bool) -> Any:
    """The same pages that our connector reads. `window`: only what has changed since the last load that had a window."""
    endpoint: dict[str, Any] = {
        "path": "query",
        "params": {"q": query},
        "data_selector": "records",
        "paginator": {"type": "json_link", "next_url_path": "nextRecordsUrl"},
    }
    if window:
        where = " WHERE SystemModstamp >= {incremental.start_value} ORDER"
        endpoint["params"]["q"] = query.replace(" ORDER", where, 1)
        endpoint["incremental"] = {"cursor_path": "SystemModstamp", "initial_value": "2000-01-01T00:00:00.000+0000"}
    return rest_api_source(
        {
            "client": {"base_url": f"{url}/services/data/v62.0/", "auth": {"type": "bearer", "token": token}},
            "resource_defaults": {"primary_key": "Id", "write_disposition": "merge"},
            "resources": [{"name": "account", "endpoint": endpoint, "processing_steps": [{"map": bare}]}],
        }
    )


def bare(record: dict[str, Any]) -> dict[str, Any]:
    """Twelve columns as ours, without what Salesforce says of the record itself."""
    record.pop("attributes", None)
    return record


def load(told: dict[str, Any]) -> float:
    pipeline = dlt.pipeline(
        pipeline_name=told["dataset"],
        pipelines_dir=told["folder"],
        destination=dlt.destinations.postgres(told["database"]),
        dataset_name=told["dataset"],
    )
    began = time.monotonic()
    pipeline.run(source(told["url"], told["token"], told["query"], window=told["window"])).raise_on_failed_jobs()
    return time.monotonic() - began


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(load(json.loads(line))), flush=True)  # noqa: T201 - the answer


main()
