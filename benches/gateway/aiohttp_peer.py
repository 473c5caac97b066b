"""The second peer: what fastapi_peer.py does, on aiohttp at both ends, which is faster. Two processes share the port.

    aiohttp_peer.py PORT

UPSTREAM names the server behind it.
"""

import os
import sys

import aiohttp
import receipts
from aiohttp import web

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9001/v1")
NOTARY = web.AppKey("notary", receipts.Notary)
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def chat(request: web.Request) -> web.Response:
    body = await request.json()
    async with request.app[SESSION].post(UPSTREAM + "/chat/completions", json=body) as upstream:
        answer = await upstream.json()
    answer, headers = receipts.answered(request.app[NOTARY], body, answer)
    return web.json_response(answer, headers=headers)


async def receipt(request: web.Request) -> web.Response:
    return web.json_response(request.app[NOTARY].bundle(request.match_info["claim_id"]))


async def session(app: web.Application):
    app[SESSION] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256))
    yield
    await app[SESSION].close()


def make() -> web.Application:
    app = web.Application()
    app[NOTARY] = receipts.Notary()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/receipts/{claim_id}", receipt)
    app.cleanup_ctx.append(session)
    return app


if __name__ == "__main__":
    os.fork()
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), reuse_port=True, print=None, access_log=None)
