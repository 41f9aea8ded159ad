"""Bulk API 2.0 jobs: their life from Open to JobComplete, and what they answer ("Bulk API 2.0 and Bulk API Developer Guide").

Work is done when a job's state is asked for: the first answer after the upload says InProgress, the next one JobComplete.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connector_resources.sandbox.salesforce import bulk, query, tables
from connector_resources.sandbox.salesforce.ids import record_id
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.refusal import Refusal, not_found
from connector_resources.sandbox.salesforce.tables import DELIMITERS, ENDINGS

LARGEST = 150_000_000  # bytes of an upload
INGESTING = ("insert", "update", "upsert", "delete")
_UNSUPPORTED = ("User", "Organization")  # types that this org's bulk API does not write
_PAGE = 50_000  # records of a page of results, if not told otherwise
_OPEN, _UPLOADED, _WORKING, _DONE, _FAILED, _ABORTED = [
    "Open",
    "UploadComplete",
    "InProgress",
    "JobComplete",
    "Failed",
    "Aborted",
]


@dataclass
class Job:
    """One job. `work` does what it is for and returns an error message, if it fails; `files` are its results by name."""

    id: str
    settings: dict[str, Any]
    state: str
    created: str
    work: Callable[["Job"], str | None]
    content: bytes | None = None
    files: dict[str, tables.Table] = field(default_factory=dict)
    error: str | None = None
    processed: int = 0
    looks: int = 0

    @property
    def failed(self) -> int:
        return len(self.files["failedresults"].rows) if "failedresults" in self.files else 0

    def told(self) -> dict[str, Any]:
        """As the job resource answers."""
        ingest = self.settings["operation"] not in ("query", "queryAll")
        counts = {"numberRecordsFailed": self.failed} if ingest else {}
        place = {"contentUrl": f"services/data/v{self.settings['apiVersion']}/jobs/ingest/{self.id}/batches"}
        return {
            "id": self.id,
            **self.settings,
            "state": self.state,
            "createdDate": self.created,
            "systemModstamp": self.created,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "jobType": "V2Ingest" if ingest else "V2Query",
            "numberRecordsProcessed": self.processed,
            "retries": 0,
            "totalProcessingTime": 0,
            **counts,
            **(place if ingest and self.state == _OPEN else {}),
            **({"errorMessage": self.error} if self.error else {}),
        }


class Jobs:
    """The jobs of one org."""

    def __init__(self, org: Org) -> None:
        self.org = org

    def create(self, which: str, body: Mapping[str, Any], version: str) -> dict[str, Any]:
        """A new job; `which`: "ingest" or "query". Raises Refusal 400."""
        operation = body.get("operation")
        settings = {
            "operation": operation,
            "columnDelimiter": body.get("columnDelimiter") or "COMMA",
            "lineEnding": body.get("lineEnding") or "LF",
            "apiVersion": float(version),
            "createdById": self.org.user_id,
        }
        if settings["columnDelimiter"] not in DELIMITERS or settings["lineEnding"] not in ENDINGS:
            raise Refusal(400, "INVALIDJOB", "InvalidJob : unknown columnDelimiter or lineEnding")
        if which == "query":
            settings["object"], work = self._querying(body)
        else:
            settings |= self._ingesting(body)
            work = self._ingest
        job = Job(
            record_id("750", secrets.randbelow(62**9)),
            settings,
            _UPLOADED if which == "query" else _OPEN,
            self.org.tick(),
            work,
        )
        self.org.jobs[job.id] = job
        return job.told()

    def _querying(self, body: Mapping[str, Any]) -> tuple[str, Callable[[Job], str | None]]:
        text = body.get("query")
        if body.get("operation") not in ("query", "queryAll") or not isinstance(text, str):
            raise Refusal(400, "INVALIDJOB", "InvalidJob : a query job needs operation query or queryAll, and a query")
        with self.org.lock:
            sobject, ids, row = query.exported(self.org, text, body["operation"] == "queryAll")
        header = row(None)

        def work(job: Job) -> None:
            table = self.org.records[sobject]
            job.files["results"] = tables.Table(header, [row(table[id_]) for id_ in ids if id_ in table])
            job.processed = len(job.files["results"].rows)

        return sobject, work

    def _ingesting(self, body: Mapping[str, Any]) -> dict[str, Any]:
        kind, operation, key = body.get("object"), body.get("operation"), body.get("externalIdFieldName")
        if operation == "hardDelete":
            message = "hardDelete operation requires special user profile permission, please contact your system administrator"
            raise Refusal(400, "FEATURENOTENABLED", f"FeatureNotEnabled : {message}")
        if operation not in INGESTING:
            raise Refusal(400, "INVALIDJOB", f"InvalidJob : unknown operation {operation}")
        if kind not in self.org.schema or kind in _UNSUPPORTED:
            raise Refusal(400, "INVALIDENTITY", f"InvalidEntity : Entity '{kind}' is not supported by the Bulk API.")
        if (operation == "upsert") != bool(key):
            raise Refusal(400, "INVALIDJOB", "InvalidJob : externalIdFieldName is for upsert, and upsert needs it")
        if body.get("contentType", "CSV") != "CSV":
            raise Refusal(400, "INVALIDJOB", "InvalidJob : contentType must be CSV")
        return {"object": kind} | ({"externalIdFieldName": key} if key else {})

    def upload(self, id_: str, content: bytes, kind: str) -> None:
        """Raises Refusal 400 for a second upload, for anything but CSV, and for too much."""
        job = self.job("ingest", id_)
        if kind.partition(";")[0].strip() != "text/csv":
            raise Refusal(400, "INVALIDJOB", "InvalidJob : the content must be text/csv")
        if job.state != _OPEN or job.content is not None:
            message = (
                f"Found multiple contents for job: <{id_}>, please 'Close' / 'Abort' / 'Delete' the current Job then create a "
                "new Job and make sure you only do 'PUT' once on a given Job."
            )
            raise Refusal(400, "INVALIDJOBSTATE", message)
        if len(content) > LARGEST:
            raise Refusal(400, "MAX_SIZE_EXCEEDED", "The uploaded data is larger than 150 MB.")
        job.content = content

    def _ingest(self, job: Job) -> str | None:
        return bulk.ingested(self.org, job)

    def set_state(self, which: str, id_: str, state: Any) -> dict[str, Any]:
        """Raises Refusal 400 for a state that the job cannot go to."""
        job = self.job(which, id_)
        if state == _ABORTED:
            if job.state in (_DONE, _FAILED, _ABORTED):
                raise Refusal(400, "INVALIDJOBSTATE", f"Aborting already {_word(job.state)} Job not allowed")
            if which == "ingest" and job.state == _UPLOADED:
                bulk.unprocessed(job)
            job.state = _ABORTED
        elif state == _UPLOADED and which == "ingest":
            if job.state != _OPEN:
                raise Refusal(400, "INVALIDJOBSTATE", f"Closing already {_word(job.state)} Job not allowed")
            job.state = _UPLOADED
        else:
            raise Refusal(400, "INVALIDJOBSTATE", f"Job state {state} not allowed")
        return job.told()

    def told(self, which: str, id_: str) -> dict[str, Any]:
        job = self.job(which, id_)
        job.looks += 1
        if job.state == _WORKING:
            job.state = _FAILED if job.error else _DONE
        elif job.state == _UPLOADED and job.looks > self.org.bulk_queue:
            with self.org.lock:
                job.error = job.work(job)
            job.state = _WORKING
        return job.told() if job.state != _WORKING else {**job.told(), "numberRecordsProcessed": 0}

    def listed(self, which: str) -> dict[str, Any]:
        querying = which == "query"
        found = [id_ for id_, job in self.org.jobs.items() if (job.settings["operation"] in ("query", "queryAll")) is querying]
        return {"done": True, "nextRecordsUrl": None, "records": [self.told(which, id_) for id_ in found]}

    def delete(self, which: str, id_: str) -> None:
        job = self.job(which, id_)
        if job.state in (_OPEN, _WORKING):
            raise Refusal(400, "INVALIDJOBSTATE", "Deleting a Job that is not closed is not allowed")
        del self.org.jobs[job.id]

    def file(self, id_: str, name: str) -> bytes:
        """One of an ingest job's three result files."""
        job = self.job("ingest", id_)
        if job.state not in (_DONE, _FAILED, _ABORTED):
            raise Refusal(400, "INVALIDJOBSTATE", "Job results are available when the job is complete")
        return tables.written(job.files.get(name.lower(), tables.Table([], [])), **_form(job))

    def page(self, id_: str, params: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        """A page of a query job's results, and its headers."""
        job = self.job("query", id_)
        if job.state != _DONE:
            raise Refusal(400, "INVALIDJOBSTATE", "Job results are available when the job is complete")
        results, start, size = job.files["results"], params.get("locator", "0"), params.get("maxRecords", str(_PAGE))
        if not start.isdigit() or not size.isdigit() or not int(size) or (int(start) and int(start) >= len(results.rows)):
            raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid locator or maxRecords")
        end = int(start) + int(size)
        rows = results.rows[int(start) : end]
        more = str(end) if end < len(results.rows) else "null"
        content = tables.written(tables.Table(results.header, rows), **_form(job))
        return content, {"Sforce-Locator": more, "Sforce-NumberOfRecords": str(len(rows))}

    def job(self, which: str, id_: str) -> Job:
        """Raises Refusal 404."""
        job = self.org.jobs.get(id_) or next((j for known, j in self.org.jobs.items() if known[:15] == id_), None)
        if job is None or (job.settings["operation"] in ("query", "queryAll")) is not (which == "query"):
            raise not_found()
        return job


def _form(job: Job) -> dict[str, str]:
    return {"delimiter": DELIMITERS[job.settings["columnDelimiter"]], "ending": ENDINGS[job.settings["lineEnding"]]}


def _word(state: str) -> str:
    return {_DONE: "Completed", _UPLOADED: "Closed"}.get(state, state)
