"""REST: JSON over HTTP, as a manifest describes it."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from connector_resources import templates
from connector_resources.answers import Told
from connector_resources.generic import ManifestConnector, body_of
from connector_resources.manifest import Call
from connector_resources.paging import Reply
from connector_resources.templates import NOTHING, shown


class RestConnector(ManifestConnector):
    def exchange(self, call: Call, values: Mapping[str, Any], url: str | None, about_record: bool, again: bool) -> Reply:
        title = self.manifest.title
        headers = templates.texts({**self.manifest.headers, **call.headers}, values)
        place = self.link(url) if url else self.http.url + templates.path(title, call.path, values)
        params = {} if url else templates.query(call.params, values)
        body = templates.fill(call.body, values)
        kind, content = "application/json", None if body is NOTHING else body_of(body)
        if call.encode == "form" and body not in (None, NOTHING):
            kind, content = "application/x-www-form-urlencoded", urlencode(list(_form(body))).encode()
        answer = self.http.send(
            call.method,
            place,
            self.refusals.judge(about_record),
            content=content,
            content_type=kind,
            params=params or None,  # an empty mapping would cut off a link's own query
            headers=headers,
            auth=self.auth,
            spend=self.spend,
            repeatable=again,
            told=Told(call.path, values),
        )
        return Reply(self.content(answer), answer.headers, path=answer.path)


def _form(body: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A form's pairs; what is nested is named with brackets: address[city], items[0]."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            yield from _form(value, f"{name}[{key}]" if name else str(key))
    elif isinstance(body, list):
        for at, value in enumerate(body):
            yield from _form(value, f"{name}[{at}]")
    else:
        yield name, "" if body is None else shown(body)
