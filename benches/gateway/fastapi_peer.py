"""The peer of the gateway's measurement: a FastAPI proxy that does the same hashing and signing, and no more.

    uvicorn --app-dir benches/gateway fastapi_peer:app --port 9003 --workers 2 --no-access-log --log-level warning

UPSTREAM names the server behind it.
"""

import hashlib
import json
import os

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9001/v1")
KEY = Ed25519PrivateKey.generate()
app = FastAPI()
limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
client = httpx.AsyncClient(limits=limits, trust_env=False)


def commitment(text: str) -> bytes:
    return hashlib.sha256(os.urandom(32) + text.encode()).digest()


@app.post("/v1/chat/completions")
async def chat(request: Request):
    body = await request.json()
    asked = commitment(json.dumps(body, sort_keys=True))
    upstream = await client.post(UPSTREAM + "/chat/completions", json=body)
    answer = upstream.json()
    answered = commitment(json.dumps(answer["choices"][0]["message"], sort_keys=True))
    claim = hashlib.sha256(asked + answered).digest()
    # As a receipt has: one signature over the claim's id, one over the statement.
    statement = json.dumps({"claim": claim.hex(), "inputs": asked.hex(), "outputs": answered.hex()}).encode()
    answer["receipt"] = {"id": claim.hex(), "word": KEY.sign(claim).hex(), "signature": KEY.sign(statement).hex()}
    return JSONResponse(answer, headers={"x-receipt": claim.hex()})
