"""The second peer: what fastapi_peer.py does, on aiohttp at both ends, which is faster. Two processes share the port.

    aiohttp_peer.py PORT

UPSTREAM names the server behind it.
"""

import hashlib
import json
import os
import sys

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9001/v1")
KEY = Ed25519PrivateKey.generate()
SESSION = web.AppKey("session", aiohttp.ClientSession)


def commitment(text: str) -> bytes:
    return hashlib.sha256(os.urandom(32) + text.encode()).digest()


async def chat(request: web.Request) -> web.Response:
    body = await request.json()
    asked = commitment(json.dumps(body, sort_keys=True))
    async with request.app[SESSION].post(UPSTREAM + "/chat/completions", json=body) as upstream:
        answer = await upstream.json()
    answered = commitment(json.dumps(answer["choices"][0]["message"], sort_keys=True))
    claim = hashlib.sha256(asked + answered).digest()
    statement = json.dumps({"claim": claim.hex(), "inputs": asked.hex(), "outputs": answered.hex()}).encode()
    answer["receipt"] = {"id": claim.hex(), "word": KEY.sign(claim).hex(), "signature": KEY.sign(statement).hex()}
    return web.json_response(answer, headers={"x-receipt": claim.hex()})


async def session(app: web.Application):
    app[SESSION] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256))
    yield
    await app[SESSION].close()


def make() -> web.Application:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.cleanup_ctx.append(session)
    return app


if __name__ == "__main__":
    os.fork()
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), reuse_port=True, print=None, access_log=None)
