"""GraphiQL as it was built beside us: one page, its assets, no outside network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from nomaflow_api.doors.responses import PAGE

if TYPE_CHECKING:
    from starlette.requests import Request

STATIC = Path(__file__).parents[1] / "static"
FOR_EVER = "public, max-age=31536000, immutable"
NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>GraphiQL is not built</title></head>
<body><h1>GraphiQL is not built here</h1>
<p>Run <code>make install</code> where the npm registry can be reached, or
<code>npm ci &amp;&amp; npm run build</code> in <code>services/api/console</code>,
then load this page again.</p>
<p>The API itself is at <code>/graphql</code> and needs no page.</p></body></html>
"""


class Pages:
    """Serves a folder of built files; a page asks for the token and keeps it in its tab."""

    def __init__(self, static: Path = STATIC) -> None:
        self._static = static.resolve()

    async def home(self, _request: Request) -> Response:
        """Lead to the one page there is."""
        return RedirectResponse("/graphiql", 307)

    async def run(self, _request: Request) -> Response:
        """Answer the link of an alert: there is no page of a run yet, so GraphiQL it is."""
        return RedirectResponse("/graphiql", 307)

    async def graphiql(self, _request: Request) -> Response:
        """Answer with GraphiQL, or with how to build it."""
        headers = {"Content-Security-Policy": PAGE, "Cache-Control": "no-cache"}
        page = self._static / "graphiql.html"
        if not page.is_file():
            return HTMLResponse(NOT_BUILT, 404, headers)
        return FileResponse(page, headers=headers, media_type="text/html")

    async def asset(self, request: Request) -> Response:
        """Answer with a file whose name changes with its content."""
        folder = self._static / "assets"
        path = (folder / request.path_params["path"]).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            raise HTTPException(404)
        return FileResponse(
            path, headers={"Content-Security-Policy": PAGE, "Cache-Control": FOR_EVER}
        )
