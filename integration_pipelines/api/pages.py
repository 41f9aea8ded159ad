"""Server-rendered pages under a strict content security policy: no script, no outside asset, styles by nonce."""

import secrets
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse


class Pages:
    """The templates beside this file."""

    def __init__(self) -> None:
        loader = PackageLoader("integration_pipelines.api", "templates")
        self._templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)

    def page(self, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> HTMLResponse:
        """The template filled with `values`, every one escaped; never kept by a cache."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        kept = {"Content-Security-Policy": policy, "Cache-Control": "no-store", **(headers or {})}
        return HTMLResponse(self._templates.get_template(name).render(nonce=nonce, **values), status, kept)
