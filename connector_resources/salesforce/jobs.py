"""Jobs of Bulk API 2.0 ("Bulk API 2.0 and Bulk API Developer Guide"): create, upload, wait, fetch.

A job works by itself, so nothing is lost with an answer: its state is asked for again. Waits between two looks grow, for each
look is a call of the org's quota.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from connector_resources.errors import (
    AnswerTooLarge,
    AuthenticationError,
    ConfigurationError,
    ContractError,
    IntegrationError,
    NetworkError,
    RetryableError,
    SystemUnavailable,
)
from connector_resources.salesforce.api import Api
from connector_resources.salesforce.errors import BulkUnsupported

DONE, FAILED, ABORTED, OPEN = "JobComplete", "Failed", "Aborted", "Open"
SINCE = 47  # the version of the API that brought bulk queries; ingest came with 41
PAGE = 10_000  # records of a page of results; pages lie in memory whole
_FIRST, _LONGEST = 1.0, 30.0  # seconds between two looks at a job
_ABORTING = 60.0  # seconds that an aborted job may take to stop
_ALIVE = ("UploadComplete", "InProgress")  # of an ingest job that may still write
_UNSUPPORTED = re.compile(r"\b(FUNCTIONALITY_NOT_ENABLED|INVALIDENTITY|INVALID_TYPE_FOR_OPERATION|InvalidEntity)\b")
_CODE = re.compile(r"\s*([A-Za-z_]{3,60})\s?:")


class Jobs:
    """`patience`: seconds that a job may take in all."""

    def __init__(self, api: Api, patience: int) -> None:
        self.api = api
        self.patience = patience

    def query(self, text: str, deleted: bool) -> Iterator[bytes]:
        """The results of a query, file by file.

        Raises BulkUnsupported for what only the REST API reads, before the first file, and SystemUnavailable for a job that
        failed, was aborted or takes too long."""
        body = {"operation": "queryAll" if deleted else "query", "query": text}
        id_ = self._created("query", body)
        try:
            job = self.waited("query", id_)
            if job["state"] != DONE:
                raise self._failure(id_, job)
            yield from self._results(id_)
        finally:
            self._forget("query", id_)

    def _results(self, id_: str) -> Iterator[bytes]:
        locator, size = "", PAGE
        while locator != "null":
            params = {"maxRecords": str(size)} | ({"locator": locator} if locator else {})
            try:
                answer = self.api.answer(f"jobs/query/{id_}/results", params)
            except AnswerTooLarge:
                if size == 1:
                    raise
                size = max(1, size // 4)
                continue
            yield answer.content
            locator = answer.headers.get("sforce-locator", "null")

    def ingest(self, settings: Mapping[str, Any], content: bytes) -> str:
        """Start a job over this table of records; its id. Raises what keeps it from starting: then nothing was written."""
        id_ = self._created("ingest", {"contentType": "CSV", "lineEnding": "LF", "columnDelimiter": "COMMA", **settings})
        try:
            self.api.send("PUT", f"jobs/ingest/{id_}/batches", content, "text/csv; charset=UTF-8")
        except IntegrationError as problem:
            with suppress(IntegrationError):
                self._set_state("ingest", id_, ABORTED)
            if isinstance(problem, RetryableError):  # even where the file arrived: the job was never told to begin
                raise NetworkError(f"{problem} The bulk job was not started.") from None
            raise
        self._close(id_)
        return id_

    def waited(self, which: str, id_: str) -> Mapping[str, Any]:
        """The job when it has ended, well or not. One that takes too long is aborted, so that it writes nothing later on.
        Raises SystemUnavailable for a query that took too long, and for an ingest that cannot be aborted."""
        start, slept, wait, allowed = self.api.http.now(), 0.0, _FIRST, float(self.patience)
        while True:
            job: Any = self.api.get(f"jobs/{which}/{id_}")
            state = job.get("state") if isinstance(job, dict) else None
            if not isinstance(state, str):
                raise ContractError("Salesforce answered about a bulk job in a form that the connector does not know.")
            if state in (DONE, FAILED, ABORTED):
                return dict(job)
            if state == OPEN and which == "ingest":
                self._close(id_)  # the answer to the first time was lost, and so was the request
            if max(slept, (self.api.http.now() - start).total_seconds()) + wait > allowed:
                with suppress(IntegrationError):  # it has ended meanwhile, or the next look tells
                    self._set_state(which, id_, ABORTED)
                if which == "query" or allowed > self.patience:
                    raise SystemUnavailable(
                        f"Salesforce has not finished the bulk job {id_} within {self.patience:,} seconds: see Bulk Data Load "
                        "Jobs in its Setup, or raise bulk_patience of the connector."
                    )
                allowed, wait = allowed + _ABORTING, _FIRST
            self.api.http.sleep(wait)
            slept, wait = slept + wait, min(2 * wait, _LONGEST)

    def none_alive(self, entity: str) -> None:
        """Raises SystemUnavailable while a job of our user may still write records of this entity, such as one that a run left
        behind when it died: nobody can tell yet what it will have written."""
        if not self.api.at_least(SINCE):
            return
        place: str | None = "jobs/ingest"
        while place:
            try:
                page: Any = self.api.get(place, {"jobType": "V2Ingest"} if place == "jobs/ingest" else None)
            except AuthenticationError:
                raise
            except ConfigurationError:  # nobody has a bulk job where there is no Bulk API
                return
            try:
                for job in page["records"]:
                    if job["object"] == entity and job["state"] in _ALIVE and self._ours(job):
                        raise SystemUnavailable(
                            f"Salesforce has not finished the bulk job {job['id']} yet; until then nobody can tell what it "
                            f"writes to {entity}. The next try looks again: see Bulk Data Load Jobs in Salesforce's Setup."
                        )
                place = page.get("nextRecordsUrl")
            except (KeyError, TypeError, AttributeError):
                raise ContractError("Salesforce lists its bulk jobs in a form that the connector does not know.") from None

    def _ours(self, job: Mapping[str, Any]) -> bool:
        return self.api.user is None or str(job.get("createdById"))[:15] == self.api.user[:15]

    def file(self, id_: str, name: str) -> bytes:
        """One of the three result files of an ingest job."""
        return self.api.answer(f"jobs/ingest/{id_}/{name}").content

    def _created(self, which: str, body: Mapping[str, Any]) -> str:
        """A second job, where the first one's answer was lost, does no harm: one that is never started does nothing.

        Raises BulkUnsupported for what has to go by the REST API."""
        try:
            job = self.api.send("POST", f"jobs/{which}", orjson.dumps(body), repeatable=True).json()
        except AuthenticationError:
            raise
        except (ConfigurationError, ContractError) as problem:  # what is wrong with it, the REST API will say as well
            raise BulkUnsupported(str(problem)) from None
        id_ = job.get("id") if isinstance(job, dict) else None
        if not isinstance(id_, str) or not id_.isalnum():
            raise ContractError("Salesforce created a bulk job without telling its id.")
        return id_

    def _close(self, id_: str) -> None:
        """Let the job begin. A lost answer is no matter: `waited` sees whether it has begun."""
        with suppress(RetryableError):
            self._set_state("ingest", id_, "UploadComplete")

    def _set_state(self, which: str, id_: str, state: str) -> None:
        self.api.send("PATCH", f"jobs/{which}/{id_}", orjson.dumps({"state": state}))

    def _forget(self, which: str, id_: str) -> None:
        with suppress(IntegrationError):  # else Salesforce drops it after seven days
            self.api.send("DELETE", f"jobs/{which}/{id_}", repeatable=True)

    def _failure(self, id_: str, job: Mapping[str, Any]) -> IntegrationError:
        reason = str(job.get("errorMessage") or "")
        if _UNSUPPORTED.search(reason):
            return BulkUnsupported("Salesforce's Bulk API does not read this entity, or one of these fields.")
        return SystemUnavailable(f"Salesforce ended the bulk job {id_} as {told(job)}; see Bulk Data Load Jobs in its Setup.")


def told(job: Mapping[str, Any]) -> str:
    """How a job ended, with the code of its error: the rest of the message may quote queries and values."""
    code = _CODE.match(str(job.get("errorMessage") or ""))
    return f"{job['state']} ({code[1]})" if code else str(job["state"])
