"""The REST surface: which path and method leads to what, and how answers and refusals look.

Follows the REST API Developer Guide; versions as Salesforce retires them ("API End-of-Life Policy").
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from connector_resources.sandbox.grants import TokenRefusal
from connector_resources.sandbox.salesforce import changes, composite, ids, query, soap, subrequests, writes
from connector_resources.sandbox.salesforce.exchange import Answer, Call
from connector_resources.sandbox.salesforce.jobs import Jobs
from connector_resources.sandbox.salesforce.oauth import CONSENT, Authority
from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.paths import Place, locate
from connector_resources.sandbox.salesforce.reading import read
from connector_resources.sandbox.salesforce.records import Record
from connector_resources.sandbox.salesforce.refusal import Refusal, not_found

OLDEST, NEWEST = 31, 67
LONGEST_URI = 16_384  # bytes that the real one takes in a request line


class Rest:
    """Answers calls from one org."""

    def __init__(self, org: Org, authority: Authority) -> None:
        self.org = org
        self.authority = authority
        self.jobs = Jobs(org)
        name, rest = r"([A-Za-z]\w*)", r"([^/]+)"
        row = rf"sobjects/{name}/{rest}"
        self.routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", "", self.resources),
            ("GET", "limits", self.limits),
            ("GET", "query(All)?", self.run_query),
            ("GET", rf"query(?:All)?/{rest}", self.more),
            ("GET", "sobjects", self.types),
            ("GET", f"sobjects/{name}", self.type),
            ("POST", f"sobjects/{name}", self.create),
            ("GET", f"sobjects/{name}/describe", self.describe),
            ("GET", f"sobjects/{name}/(updated|deleted)", self.changed),
            ("GET", row, self.record),
            ("PATCH", row, self.update),
            ("DELETE", row, self.delete),
            ("GET", f"{row}/{rest}", self.record_by_key),
            ("PATCH", f"{row}/{rest}", self.upsert),
            ("DELETE", f"{row}/{rest}", self.delete_by_key),
            ("POST", "composite/sobjects", self.create_many),
            ("PATCH", "composite/sobjects", self.update_many),
            ("DELETE", "composite/sobjects", self.delete_many),
            ("PATCH", f"composite/sobjects/{name}/{name}", self.upsert_many),
            ("GET", f"composite/sobjects/{name}", self.retrieve_many),
            ("POST", f"composite/sobjects/{name}", self.retrieve_many),
            ("POST", "composite", self.composite),
            ("POST", "composite/batch", self.batch),
            ("POST", "jobs/(ingest|query)", self.create_job),
            ("GET", "jobs/(ingest|query)", self.list_jobs),
            ("GET", f"jobs/(ingest|query)/{rest}", self.job),
            ("PATCH", f"jobs/(ingest|query)/{rest}", self.change_job),
            ("DELETE", f"jobs/(ingest|query)/{rest}", self.delete_job),
            ("PUT", f"jobs/ingest/{rest}/batches", self.upload),
            ("GET", f"jobs/ingest/{rest}/((?i:successfulresults|failedresults|unprocessedrecords))", self.job_file),
            ("GET", f"jobs/query/{rest}/results", self.job_results),
        ]

    def answer(self, call: Call) -> Answer:
        """What the org says to this call; refusals included."""
        if len(call.path) + len(call.query) > LONGEST_URI:
            return Answer(414, "<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>", {"Content-Type": "text/html"})
        try:
            return self._answer(call)
        except Refusal as problem:
            return Answer(problem.status, problem.body)
        except TokenRefusal as problem:
            return Answer(400, problem.body, {"Cache-Control": "no-store"})

    def _answer(self, call: Call) -> Answer:
        path = call.path.rstrip("/")
        if match := re.fullmatch(r"/services/data/v(\d+)\.0(?:/(.*))?", path):
            return self._versioned(call, int(match[1]), match[2] or "")
        if path == "/services/data" and call.method == "GET":
            return Answer(200, [_version(number) for number in range(OLDEST, NEWEST + 1)])
        if path == "/services/oauth2/token" and call.method == "POST":
            token = self.authority.token(call.form(), call.headers.get("authorization"), call.base)
            return Answer(200, token, {"Cache-Control": "no-store"})
        if path in (CONSENT, f"{CONSENT}/device") and call.method in ("GET", "POST"):
            return self.authority.consents.answer(call)
        if path in ("/services/oauth2/userinfo", f"/id/{self.org.id}/{self.org.user_id}") and call.method in ("GET", "POST"):
            self._check_session(call)
            return Answer(200, self.authority.identity(call.base))
        if (match := re.fullmatch(r"/services/Soap/u/(\d+\.0)(?:/\w+)?", path)) and call.method == "POST":
            status, envelope = soap.login(self.org, self.authority, call.body, call.base, match[1])
            return Answer(status, envelope, {"Content-Type": "text/xml;charset=UTF-8"})
        raise not_found()

    def _versioned(self, call: Call, version: int, path: str) -> Answer:
        if version < OLDEST:
            message = f"The requested API version {version}.0 is retired and no longer supported. Please use a later version."
            raise Refusal(410, "UNSUPPORTED_API_VERSION", message)
        if version > NEWEST:
            raise not_found()
        self._check_session(call)
        try:
            self.org.count_call()
            answer = self._routed(call, f"/services/data/v{version}.0", path)
        except Refusal as problem:
            answer = Answer(problem.status, problem.body)
        usage = {"Sforce-Limit-Info": f"api-usage={self.org.api_used}/{self.org.api_limit}"}
        return Answer(answer.status, answer.body, {**answer.headers, **usage})

    def _check_session(self, call: Call) -> None:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme not in ("Bearer", "OAuth") or not self.org.valid_session(token):
            raise Refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")

    def _routed(self, call: Call, version: str, path: str) -> Answer:
        method = call.method
        if method == "POST" and "_HttpMethod" in call.params:
            method = call.params["_HttpMethod"].upper()
        allowed = []
        for wanted, pattern, follow in self.routes:
            match = re.fullmatch(pattern, path)
            if match and wanted == method:
                return follow(call, version, *(group and unquote(group) for group in match.groups()))
            if match:
                allowed.append(wanted)
        if allowed:
            message = f"HTTP Method '{method}' not allowed. Allowed are {','.join(allowed)}"
            raise Refusal(405, "METHOD_NOT_ALLOWED", message)
        raise not_found()

    # Descriptions

    def resources(self, _: Call, version: str) -> Answer:
        names = ("sobjects", "query", "queryAll", "limits", "composite")
        return Answer(
            200, {name: f"{version}/{name}" for name in names} | {"identity": f"/id/{self.org.id}/{self.org.user_id}"}
        )

    def limits(self, _: Call, __: str) -> Answer:
        daily = {"Max": self.org.api_limit, "Remaining": max(0, self.org.api_limit - self.org.api_used)}
        return Answer(200, {"DailyApiRequests": daily, "DataStorageMB": {"Max": 1024, "Remaining": 1000}})

    def types(self, _: Call, version: str) -> Answer:
        sobjects = [kind.described(version) for kind in self.org.schema.values()]
        return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": sobjects})

    def type(self, _: Call, version: str, name: str) -> Answer:
        return Answer(200, {"objectDescribe": self.org.kind(name).described(version), "recentItems": []})

    def describe(self, _: Call, version: str, name: str) -> Answer:
        kind = self.org.kind(name)
        children = [
            {
                "cascadeDelete": child.cascade,
                "childSObject": child.sobject,
                "deprecatedAndHidden": False,
                "field": child.field,
                "relationshipName": child.relationship,
                "restrictedDelete": False,
            }
            for child in kind.children
        ]
        fields = [one.described() for one in self.org.fields(kind).values()]
        return Answer(200, kind.described(version) | {"fields": fields, "childRelationships": children, "recordTypeInfos": []})

    # Reading

    def run_query(self, call: Call, version: str, all_: str | None) -> Answer:
        text = call.params.get("q")
        if text is None:
            raise Refusal(400, "MALFORMED_QUERY", "unexpected token: '<EOF>'")
        batch = query.batch_size(call.headers.get("sforce-query-options"))
        return Answer(200, query.first_page(self.org, version, text, all_ is not None, batch))

    def more(self, _: Call, version: str, locator: str) -> Answer:
        return Answer(200, query.next_page(self.org, version, locator))

    def changed(self, call: Call, _: str, name: str, which: str) -> Answer:
        find = changes.updated if which == "updated" else changes.deleted
        return Answer(200, find(self.org, self.org.kind(name), call.params))

    def record(self, call: Call, version: str, name: str, id_: str) -> Answer:
        kind = self.org.kind(name)
        if ids.normal(id_) is None:
            writes.key_field(self.org, kind, id_)
        return self._shown(call, version, name, writes.live(self.org, kind, id_))

    def record_by_key(self, call: Call, version: str, name: str, field_name: str, value: str) -> Answer:
        try:
            return self._shown(call, version, name, self._by_key(name, field_name, value))
        except writes.Ambiguous as several:
            return _choices(version, name, several)

    def retrieve_many(self, call: Call, version: str, name: str) -> Answer:
        if call.method == "POST":
            body = call.json()
            wanted, fields = body.get("ids", []), body.get("fields", [])
        else:
            wanted, fields = (call.params.get(key, "").split(",") for key in ("ids", "fields"))
        kind = self.org.kind(name)
        if len(wanted) > composite.RETRIEVED:
            raise Refusal(400, "EXCEEDED_ID_LIMIT", f"record limit reached. cannot retrieve more than {composite.RETRIEVED}")
        render = query.renderer(self.org, kind, [locate(self.org, kind, one) for one in fields], version)
        table = self.org.records[kind.name]
        found = [table.get(ids.normal(id_) or "") for id_ in wanted]
        return Answer(200, [render(record) if record and not record.get("IsDeleted") else None for record in found])

    def _by_key(self, name: str, field_name: str, value: str) -> Record:
        kind = self.org.kind(name)
        key = writes.key_field(self.org, kind, field_name)
        found = writes.live(self.org, kind, value) if key.type == "id" else writes.with_value(self.org, kind, key, value)
        if found is None:
            raise not_found()
        return found

    def _shown(self, call: Call, version: str, name: str, record: Record) -> Answer:
        kind = self.org.kind(name)
        places = [Place((), kind, one) for one in self.org.fields(kind).values()]
        if "fields" in call.params:
            places = [locate(self.org, kind, path.strip()) for path in call.params["fields"].split(",")]
        return Answer(200, query.renderer(self.org, kind, places, version)(record))

    # Writing

    def create(self, call: Call, version: str, name: str) -> Answer:
        kind = self.org.kind(name)
        id_ = writes.create(self.org, kind, read(self.org, kind, call.json()))
        where = {"Location": f"{version}/sobjects/{kind.name}/{id_}"}
        return Answer(201, {"id": id_, "success": True, "errors": []}, where)

    def update(self, call: Call, _: str, name: str, id_: str) -> Answer:
        kind = self.org.kind(name)
        writes.update(self.org, kind, id_, read(self.org, kind, call.json()))
        return Answer(204)

    def delete(self, _: Call, __: str, name: str, id_: str) -> Answer:
        writes.delete(self.org, self.org.kind(name), id_)
        return Answer(204)

    def delete_by_key(self, _: Call, version: str, name: str, field_name: str, value: str) -> Answer:
        try:
            writes.delete(self.org, self.org.kind(name), self._by_key(name, field_name, value)["Id"])
        except writes.Ambiguous as several:
            return _choices(version, name, several)
        return Answer(204)

    def upsert(self, call: Call, version: str, name: str, field_name: str, value: str) -> Answer:
        kind = self.org.kind(name)
        try:
            id_, created = writes.upsert(self.org, kind, field_name, value, read(self.org, kind, call.json()))
        except writes.Ambiguous as several:
            return _choices(version, name, several)
        return Answer(201 if created else 200, {"id": id_, "success": True, "errors": [], "created": created})

    def create_many(self, call: Call, _: str) -> Answer:
        return Answer(200, composite.create(self.org, call.json()))

    def update_many(self, call: Call, _: str) -> Answer:
        return Answer(200, composite.update(self.org, call.json()))

    def upsert_many(self, call: Call, _: str, name: str, field_name: str) -> Answer:
        return Answer(200, composite.upsert(self.org, self.org.kind(name), field_name, call.json()))

    def delete_many(self, call: Call, _: str) -> Answer:
        all_or_none = call.params.get("allOrNone", "false").lower() == "true"
        return Answer(200, composite.delete(self.org, call.params.get("ids", "").split(","), all_or_none))

    def composite(self, call: Call, _: str) -> Answer:
        return Answer(200, subrequests.answered(self.org, call.json(), self._running(call), b"@{" in call.body))

    def batch(self, call: Call, _: str) -> Answer:
        return Answer(200, subrequests.batched(self.org, call.json(), self._running(call)))

    def _running(self, call: Call) -> subrequests.Run:
        def run(method: str, url: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any, Mapping[str, str]]:
            path, _, question = url.partition("?")
            match = re.fullmatch(r"/services/data/(v\d+\.0)/(.*)", path.rstrip("/"))
            if match is None or match[2] in ("composite", "composite/batch"):
                raise Refusal(400, "INVALID_INPUT", f"The url of a subrequest must lead to a resource of this API: {url}")
            names = {name.lower(): value for name, value in headers.items()}
            inner = Call(method, path, question, {**call.headers, **names}, b"", call.base, body)
            answer = self._routed(inner, f"/services/data/{match[1]}", match[2])
            return answer.status, answer.body, answer.headers

        return run

    # Bulk API 2.0

    def create_job(self, call: Call, version: str, which: str) -> Answer:
        return Answer(200, self.jobs.create(which, call.json(), version.rpartition("v")[2]))

    def list_jobs(self, _: Call, __: str, which: str) -> Answer:
        return Answer(200, self.jobs.listed(which))

    def job(self, _: Call, __: str, which: str, id_: str) -> Answer:
        return Answer(200, self.jobs.told(which, id_))

    def change_job(self, call: Call, _: str, which: str, id_: str) -> Answer:
        return Answer(200, self.jobs.set_state(which, id_, call.json().get("state")))

    def delete_job(self, _: Call, __: str, which: str, id_: str) -> Answer:
        self.jobs.delete(which, id_)
        return Answer(204)

    def upload(self, call: Call, _: str, id_: str) -> Answer:
        self.jobs.upload(id_, call.body, call.headers.get("content-type", ""))
        return Answer(201)

    def job_file(self, _: Call, __: str, id_: str, which: str) -> Answer:
        return Answer(200, self.jobs.file(id_, which))

    def job_results(self, call: Call, _: str, id_: str) -> Answer:
        content, headers = self.jobs.page(id_, call.params)
        return Answer(200, content, headers)


def _version(number: int) -> dict[str, str]:
    return {"label": f"Release {number}", "url": f"/services/data/v{number}.0", "version": f"{number}.0"}


def _choices(version: str, name: str, several: writes.Ambiguous) -> Answer:
    return Answer(300, [f"{version}/sobjects/{name}/{id_}" for id_ in several.ids])
