"""`action=watch watch.page=true`: serves the live page on this machine's loopback.

The address holds a token that nobody else knows. A page of another site can neither read nor press anything: a request
must name the loopback as its host, which a name that is made to lead here does not, and a press must come from this
page itself. The page runs no script but its own two files.
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web
from rich.console import Console
from rich.text import Text

from sweeplab.cli.live_view import LiveView
from sweeplab.records.store import StoreError
from sweeplab.report import render_live_file
from sweeplab.runtime.errors import ConfigError

_LOOPBACK: Final = "127.0.0.1"
_LOOPBACK_NAMES: Final = (_LOOPBACK, "localhost", "[::1]")
_SCRIPTS: Final = ("report.js", "live.js")
_MOST_BYTES: Final = 10_000  # of a request
_LOOK_SECONDS: Final = 1.0
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _check(request: web.Request, token: str) -> None:
    """Raises what the caller is answered with where it is not this page on this machine."""
    name = request.host if request.host.endswith("]") else request.host.rpartition(":")[0] or request.host
    if name not in _LOOPBACK_NAMES:
        raise web.HTTPForbidden(text="this page is served to this machine only")
    given = request.path.split("/")[1]
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise web.HTTPNotFound
    if request.method == "POST":
        own = request.headers.get("Origin") == f"http://{request.host}"
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if not own or site != "same-origin" or request.content_type != "application/json":
            raise web.HTTPForbidden(text="only this page's own buttons ask for anything")


def build_application(view: LiveView, token: str) -> web.Application:
    """The page at `/TOKEN/`, what it asks for beside it."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            _check(request, token)
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        response.headers.update(_HEADERS)
        return response

    async def show_page(_: web.Request) -> web.Response:
        try:
            return web.Response(text=await asyncio.to_thread(view.make_page), content_type="text/html")
        except StoreError as error:
            return web.Response(text=str(error), status=500)

    async def show_state(_: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(view.state))

    async def show_script(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.Response(text=render_live_file(name), content_type="text/javascript")

    async def ask(request: web.Request) -> web.Response:
        try:
            return web.Response(text=await asyncio.to_thread(view.ask, await request.json()))
        except (ConfigError, StoreError) as error:
            return web.Response(text=str(error), status=409)
        except ValueError:
            return web.Response(text="the request is no JSON", status=400)

    application = web.Application(middlewares=[guard], client_max_size=_MOST_BYTES)
    application.router.add_get("/{token}/", show_page)
    application.router.add_get("/{token}/state", show_state)
    application.router.add_get(f"/{{token}}/{{name:{'|'.join(_SCRIPTS)}}}", show_script)
    application.router.add_post("/{token}/ask", ask)
    return application


async def _serve(folder: Path, say: Callable[[str], None]) -> None:
    view, token = LiveView(folder), secrets.token_urlsafe(24)
    runner = web.AppRunner(build_application(view, token), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _LOOPBACK, 0)
        await site.start()
        port = runner.addresses[0][1]
        say(f"page  http://{_LOOPBACK}:{port}/{token}/\nCtrl-C ends the page; the study does not depend on it.")
        has_ended = False
        while True:
            phase = (await asyncio.to_thread(view.state))["phase"]
            if phase == "ended" and not has_ended:
                say("The study has ended; the page stays until Ctrl-C.")
            has_ended = phase == "ended"
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await runner.cleanup()


def serve_page(folder: Path, console: Console) -> None:
    """Serves the page of the study in `folder` until it is interrupted. Raises `KeyboardInterrupt`."""

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)
        console.file.flush()

    asyncio.run(_serve(folder, say))
