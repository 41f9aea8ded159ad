"""Records through sObject Collections ("Using Composite Resources" of the REST API Developer Guide).

One composite call writes up to 200 records, reads back what versions they have got, and reads the versions of those that the
lane writes next; nothing of it is ever sent twice by itself. Salesforce has no conditional write: reading the version directly
before narrows the time in which somebody else's change could be overwritten, to about one call, and does not close it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from connector_resources.contract import Changes, Outcome
from connector_resources.errors import AnswerLost, ContractError, IntegrationError, Redirected, SystemUnavailable
from connector_resources.salesforce import ingest, soql
from connector_resources.salesforce.api import Api
from connector_resources.salesforce.describe import Description
from connector_resources.salesforce.errors import UNPARSED, BulkUnsupported, salesforce_error, unparsed
from connector_resources.salesforce.jobs import SINCE, Jobs
from connector_resources.salesforce.jobs import told as ending
from connector_resources.salesforce.lanes import MOST, Row, calls, lanes
from connector_resources.salesforce.pages import DELETED, WHO
from connector_resources.salesforce.refusals import GONE, LOCKED, sentence
from connector_resources.salesforce.results import Result, frame, parts_of, reason_of, records_of, results_of, subrequest
from connector_resources.salesforce.rows import locking, rows

if TYPE_CHECKING:
    import pandas as pd

RETRIEVED = 2_000  # records that one retrieve reads at most
_LONGEST_QUESTION = 12_000  # characters of a query inside a composite call
_COLLATING = 48  # the version of the API that began to change the order of subrequests
_CALLS_OF_A_JOB = 20  # about so many, looks at its state included
_LOCK_WAITS = (1.0, 2.0, 4.0)  # seconds before each further try of what was locked


class Writing:
    """Writes the changes of one entity, `concurrency` calls at a time; more than `bulk_above` of one action as a bulk job."""

    def __init__(
        self, api: Api, described: Description, changes: Changes, jobs: Jobs, concurrency: int, bulk_above: int
    ) -> None:
        self.api = api
        self.described = described
        self.entity = described.entity
        self.changes = changes
        self.jobs = jobs
        self.concurrency = concurrency
        self.bulk_above = bulk_above
        self.rows = rows(described, changes)
        self.results: dict[int, Result] = {}
        self.current: dict[str, Mapping[str, Any]] = {}  # what is known of records, by the first 15 characters of their ids
        self.locked: list[Row] = []
        self.halted: IntegrationError | None = None
        self.fields = [name for name in (self.entity.key, self.entity.modified, WHO) if name and self.entity.field(name)]

    def outcomes(self) -> "pd.DataFrame":
        """See Connector.write. What concerns all records (not signed in, no calls left) is raised if nothing was written yet;
        else the records that were not sent are ABSENT, with its sentence."""
        self._refuse_twins()
        known = [row for row in self.rows if row.action != "create"]
        self._look([str(row.id) for row in known], [*self.fields, *locking(self.described)])
        for row in known:
            parents = self.current.get(str(row.id)[:15]) or {}
            row.locks |= {str(parents[name])[:15] for name in locking(self.described) if parents.get(name)}
        todo = [row for row in self.rows if row.at not in self.results]
        for action in ("create", "update", "delete"):
            mine = [row for row in todo if row.action == action]
            if self.results:
                self._forget(mine)  # what was written before has taken its time
            self._write(self._by_bulk(mine))
        if self.halted and not any(one.outcome in (Outcome.DONE, Outcome.UNKNOWN) for one in self.results.values()):
            raise self.halted
        return self._frame()

    def _refuse_twins(self) -> None:
        """Two new records with one key would become one record."""
        seen = Counter(row.key.casefold() for row in self.rows if row.key)
        if seen.total() == len(seen):
            return
        for row in self.rows:
            if row.key and (twins := seen[row.key.casefold()]) > 1:
                message = f"{twins} records of this run have the same {self.entity.upsert_key}: correct it in the ERP."
                self.results[row.at] = Result(Outcome.REFUSED, None, message=message)

    def _write(self, todo: Sequence[Row]) -> None:
        """One action's rows: side by side in lanes, then what was locked by itself, a few times."""
        side_by_side = lanes(todo, self.concurrency)
        if len(side_by_side) > 1:
            with ThreadPoolExecutor(len(side_by_side), thread_name_prefix="salesforce") as threads:
                list(threads.map(self._lane, side_by_side))
        elif side_by_side:
            self._lane(side_by_side[0])
        for wait in _LOCK_WAITS:
            if not self.locked or self.halted:
                break
            self.api.http.sleep(wait)
            again, self.locked = sorted(self.locked, key=lambda row: row.at), []
            self._forget(again)
            self._lane(again)
        for row in self.locked:
            if not self.halted:  # else they were not tried again, and are told as not sent
                self.results[row.at] = Result(Outcome.REFUSED, row.id, message=sentence(self.entity.name, LOCKED))
        self.locked = []

    def _by_bulk(self, todo: list[Row]) -> list[Row]:
        """Write as bulk jobs what is worth it; the rows that are left to write otherwise."""
        left, needed = self.api.calls_left(), math.ceil(len(todo) / MOST)
        many = len(todo) > self.bulk_above or (left is not None and needed > max(left, _CALLS_OF_A_JOB))
        if self.halted or not many or not self.api.at_least(SINCE) or not ingest.possible(self.entity, self.changes, todo):
            return todo
        left_over: list[Row] = []
        try:
            for number, part in enumerate(ingest.parts(self.entity, todo)):
                if number:
                    self._forget(part)  # the jobs before have taken their time
                if unmoved := self._unmoved(part):
                    content = ingest.table(self.changes, self.entity, unmoved)
                    self._ingest(unmoved, ingest.start(self.jobs, self.entity, unmoved[0].action, content))
        except BulkUnsupported:
            told = {*self.results, *(row.at for row in self.locked)}
            left_over = [row for row in todo if row.at not in told]
        except IntegrationError as problem:
            self.halted = problem
        locked, self.locked = self.locked, []
        return locked + left_over

    def _ingest(self, part: Sequence[Row], id_: str) -> None:
        """Note what became of a job's rows. Raises, after noting them as unknown, what keeps it from being known."""
        try:
            job = self.jobs.waited("ingest", id_)
            told = ingest.told(self.jobs, self.entity, part[0].action, id_)
        except IntegrationError as problem:
            self._unknown(part, str(problem))
            raise
        results: list[dict[str, Any]] = []
        rows = []
        for row in part:
            key = ingest.key_of(row)
            if key in told.done:
                results.append({"id": told.done[key], "success": True})
            elif key in told.refused:
                code, fields = told.refused[key]
                results.append({"errors": [{"statusCode": code, "fields": fields}]})
            else:
                known = key in told.left
                message = f"Salesforce ended the bulk job {id_} as {ending(job)} before this {self.entity.name} was written."
                self.results[row.at] = Result(Outcome.ABSENT if known else Outcome.UNKNOWN, row.id, message=message)
                continue
            rows.append(row)
        self._forget(part)
        self._note(rows, results, asked=False)

    def _lane(self, lane: Sequence[Row]) -> None:
        """Call by call, until one fails for a reason that concerns all."""
        batches = list(calls(lane))
        for number, batch in enumerate(batches):
            if self.halted:
                return
            try:
                unmoved = self._unmoved(batch)
                if unmoved:
                    self._call(unmoved, batches[number + 1] if number + 1 < len(batches) else [])
            except IntegrationError as problem:
                self.halted = problem

    def _unmoved(self, batch: Sequence[Row]) -> list[Row]:
        """Without the rows whose record somebody else has changed or deleted, and those that have nothing to write."""
        unread = [str(row.id) for row in batch if row.action != "create" and str(row.id)[:15] not in self.current]
        self._look(unread, self.fields)
        left = []
        for row in batch:
            record = self.current.get(str(row.id)[:15], {}) if row.action != "create" else {}
            version = record.get(self.entity.modified or "")
            if row.action != "create" and (not record or record.get(DELETED)):
                self.results[row.at] = self._gone(row)
            elif row.version is not None and version is not None and version != row.version:
                message = f"The {self.entity.name} was changed in Salesforce since it was read."
                self.results[row.at] = Result(Outcome.MOVED, row.id, message=message)
            elif row.empty:
                self.results[row.at] = Result(Outcome.DONE, row.id, version)
            else:
                left.append(row)
        return left

    def _call(self, batch: Sequence[Row], following: Sequence[Row]) -> None:
        """Write a batch. Raises what concerns all that is left to write; what this batch may have done is noted before."""
        requests = [self._request(batch), *self._questions(batch, following)]
        self._forget([*batch, *following])
        try:
            order = {"collateSubrequests": False} if self.api.at_least(_COLLATING) else {}
            body = orjson.dumps({"allOrNone": False, **order, "compositeRequest": requests})
            parts = parts_of(self.api.send("POST", "composite", body))
            refused = salesforce_error(parts["write"])
            if refused and not unparsed(parts["write"]):
                raise refused
        except (AnswerLost, Redirected, SystemUnavailable) as problem:
            self._unknown(batch, str(problem))
            if isinstance(problem, AnswerLost):
                return  # this call alone; the lane goes on
            raise
        if refused:
            self._apart(batch, following)
            return
        try:
            results = results_of(parts["write"], len(batch))
        except ContractError as problem:
            self._unknown(batch, str(problem))
            raise
        for name in ("after", "next"):
            if name in parts and parts[name].status < 300:
                self._learn(records_of(parts[name]))
        self._note(batch, results, asked="after" in parts)

    def _apart(self, batch: Sequence[Row], following: Sequence[Row]) -> None:
        """A batch that was refused for one of its values: halved until that record stands alone."""
        if len(batch) == 1:
            self.results[batch[0].at] = Result(Outcome.REFUSED, batch[0].id, message=sentence(self.entity.name, UNPARSED))
            return
        half = len(batch) // 2
        self._call(batch[:half], [])
        self._call(batch[half:], following)

    def _note(self, batch: Sequence[Row], results: Sequence[Mapping[str, Any]], asked: bool) -> None:
        done = [str(result["id"]) for result in results if result.get("success")]
        if not asked and done:
            try:
                self._look(done, self.fields)
            except IntegrationError:  # what was done is done; only its version stays unknown
                for id_ in done:
                    self.current.pop(id_[:15], None)
        user = self.api.user
        for row, result in zip(batch, results, strict=True):
            if result.get("success"):
                id_ = str(result["id"])
                self.results[row.at] = Result(Outcome.DONE, id_, self._version(id_, user))
                continue
            code, fields = reason_of(result)
            gone = row.action != "create" and self.current.get(str(row.id)[:15], {}).get(DELETED, code == "NOT_FOUND")
            if code == LOCKED:
                self.locked.append(row)
            elif code in GONE and gone:
                self.results[row.at] = self._gone(row)
            else:
                self.results[row.at] = Result(Outcome.REFUSED, row.id, message=sentence(self.entity.name, code, fields))

    def _gone(self, row: Row) -> Result:
        if row.action == "delete":
            return Result(Outcome.DONE, row.id)
        return Result(Outcome.MOVED, row.id, message=f"The {self.entity.name} is gone from Salesforce.")

    def _version(self, id_: str, user: str | None) -> str | None:
        """The version that our write left; null when somebody else wrote after us."""
        record = self.current.get(id_[:15], {})
        version = record.get(self.entity.modified or "")
        ours = record.get(WHO) in (None, user)
        return str(version) if version is not None and ours else None

    def _request(self, batch: Sequence[Row]) -> dict[str, Any]:
        action, path = batch[0].action, "composite/sobjects"
        if action == "delete":
            ids = ",".join(str(row.id) for row in batch)
            return subrequest("write", "DELETE", self.api.place(f"{path}?allOrNone=false&ids={ids}"))
        if action == "create" and self.entity.upsert_key:
            path = f"{path}/{self.entity.name}/{self.entity.upsert_key}"
        method = "POST" if action == "create" and not self.entity.upsert_key else "PATCH"
        body = {"allOrNone": False, "records": [row.body for row in batch]}
        return subrequest("write", method, self.api.place(path), body)

    def _questions(self, batch: Sequence[Row], following: Sequence[Row]) -> Iterable[dict[str, Any]]:
        """Queries for what versions these rows have got, and what versions those rows have now."""
        key, action = self.entity.upsert_key, batch[0].action
        wheres = {}
        if action != "create":
            wheres["after"] = soql.one_of(self.entity.key, [str(row.id)[:15] for row in batch])
        elif key:
            wheres["after"] = soql.one_of(key, [str(row.key) for row in batch])
        if following and action != "create":
            wheres["next"] = soql.one_of(self.entity.key, [str(row.id)[:15] for row in following])
        fields = [*self.fields, *([DELETED] if self.entity.field(DELETED) else [])]
        for name, where in wheres.items():
            question = soql.encoded(soql.select(self.entity.name, fields, where)) if len(where) < _LONGEST_QUESTION else ""
            if 0 < len(question) < _LONGEST_QUESTION:
                yield subrequest(name, "GET", self.api.place(f"queryAll?q={question}"))

    def _look(self, ids: Sequence[str], fields: Sequence[str]) -> None:
        """Learn what these records hold now: nothing, of those that are gone."""
        for start in range(0, len(ids), RETRIEVED):
            chunk = ids[start : start + RETRIEVED]
            body = orjson.dumps({"ids": chunk, "fields": fields})
            answer = self.api.send("POST", f"composite/sobjects/{self.entity.name}", body, repeatable=True).json()
            if not isinstance(answer, list) or len(answer) != len(chunk):
                raise ContractError("Salesforce answered a retrieve without one entry for each record.")
            self.current |= {id_[:15]: record or {} for id_, record in zip(chunk, answer, strict=True)}

    def _learn(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.current |= {str(record.get(self.entity.key))[:15]: record for record in records}

    def _forget(self, batch: Iterable[Row]) -> None:
        for row in batch:
            self.current.pop(str(row.id)[:15], None)

    def _unknown(self, batch: Sequence[Row], message: str) -> None:
        for row in batch:
            self.results[row.at] = Result(Outcome.UNKNOWN, row.id, message=message)

    def _frame(self) -> "pd.DataFrame":
        unsent = str(self.halted or "")
        results = [self.results.get(row.at) or Result(Outcome.ABSENT, row.id, message=unsent) for row in self.rows]
        return frame(self.changes, results)
