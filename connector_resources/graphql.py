"""GraphQL over HTTP, as a manifest describes it: JSON in a POST, which needs no client library.

Paths of the manifest lead into `data`. An answer that has both data and errors is taken for what it tells: a field that an
error points at is absent, whatever stands there. Codes are looked for in `errors.0.extensions.code`.
"""

from collections.abc import Mapping
from typing import Any

from connector_resources import templates
from connector_resources.answers import Answer, Judge, Told, status_error
from connector_resources.errors import ContractError, IntegrationError, RecordError
from connector_resources.generic import ManifestConnector, body_of
from connector_resources.manifest import Call
from connector_resources.paging import Reply
from connector_resources.refusals import Nonsense, shown_code
from connector_resources.values import at

_CODE = ("errors", "0", "extensions", "code")
_UNEXPECTED = "INTERNAL_SERVER_ERROR"  # what servers commonly say where others say status 500

# Codes of Apollo Server by which it, or a resolver, says no before anything is done.
_REFUSALS = (
    "BAD_USER_INPUT",
    "BAD_REQUEST",
    "FORBIDDEN",
    "UNAUTHENTICATED",
    "GRAPHQL_VALIDATION_FAILED",
    "GRAPHQL_PARSE_FAILED",
)


class GraphQLConnector(ManifestConnector):
    def exchange(self, call: Call, values: Mapping[str, Any], url: str | None, about_record: bool, again: bool) -> Reply:
        variables = templates.fill(call.body or {}, values)
        answer = self.http.send(
            "POST",
            self.link(url) if url else self.http.url + templates.path(self.manifest.title, self.manifest.endpoint, values),
            self._judge(about_record, changes="mutation" in call.query.partition("{")[0]),
            content=body_of({"query": call.query, "variables": variables}),
            headers=templates.texts(self.manifest.headers, values),
            auth=self.auth,
            spend=self.spend,
            repeatable=again,
            told=Told(self.manifest.endpoint, values),
        )
        body = self.content(answer)
        untold = tuple(tuple(map(str, one["path"])) for one in _errors(body) if isinstance(one.get("path"), list))
        return Reply(body.get("data") or {}, answer.headers, untold)

    def _judge(self, about_record: bool, changes: bool) -> Judge:
        def judge(answer: Answer) -> IntegrationError | None:
            if answer.status >= 300:
                return self._refusal(answer, about_record, changes)
            body = self.content(answer)
            if not isinstance(body, dict):
                return Nonsense(f"{self.manifest.title} answered a query with something else than a result.")
            data = body.get("data")
            told = isinstance(data, dict) and any(value is not None for value in data.values())
            if told or (not _errors(body) and isinstance(data, dict)):
                return None
            code = self._code(answer)
            if known := self.refusals.listed(answer.status, code, answer):
                return known
            if code == _UNEXPECTED:
                return self.refusals.said("unavailable", code, answer)
            if about_record and _begun(body) and code not in _REFUSALS:
                return Nonsense(self._unclear(code, answer))
            return self.refusals.said("record" if about_record else "contract", code, answer)

        return judge

    def _refusal(self, answer: Answer, about_record: bool, changes: bool) -> IntegrationError | None:
        """What a status means. Some servers (Ariadne) answer 400 wherever `data` is null, also to a mutation that began."""
        code = self._code(answer)
        problem = self.refusals.of(answer.status, code, about_record, answer) or status_error(answer)
        if not changes or not isinstance(problem, RecordError) or code in _REFUSALS:
            return problem
        if self.refusals.listed(answer.status, code, answer) or not _begun(self._body(answer)):
            return problem
        return Nonsense(self._unclear(code, answer))

    def _unclear(self, code: str, answer: Answer) -> str:
        code = answer.told.without_values(code) if answer.told else code
        line = f"code: {code}" if code else f"status: {answer.status}"
        return (
            f"{self.manifest.title} began what was asked for, and failed over it or its answer ({code or 'no code'}). "
            f"If that is how it refuses a record, say so in the manifest's errors.table: {{{line}, means: record}}."
        )

    def _code(self, answer: Answer) -> str:
        return shown_code(at(self._body(answer), self.manifest.error_code or _CODE))

    def _body(self, answer: Answer) -> Any:
        try:
            return self.content(answer)
        except ContractError:
            return None


def _begun(body: Any) -> bool:
    """Whether an error points at a field, so that a resolver was at work (GraphQL, 7.1.2)."""
    return any(isinstance(one.get("path"), list) and one["path"] for one in _errors(body))


def _errors(body: Any) -> list[Mapping[str, Any]]:
    errors = body.get("errors") if isinstance(body, dict) else None
    return [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
