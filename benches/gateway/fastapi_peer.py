"""The first peer of the gateway's measurement: a proxy on FastAPI, uvicorn and httpx that gives the same receipts (receipts.py).

    uvicorn --app-dir benches/gateway fastapi_peer:app --port 9003 --workers 2 --no-access-log --log-level warning

UPSTREAM names the server behind it.
"""

import os

import httpx
import receipts
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9001/v1")
notary = receipts.Notary()
app = FastAPI()
limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
client = httpx.AsyncClient(limits=limits, trust_env=False)


@app.post("/v1/chat/completions")
async def chat(request: Request):
    body = await request.json()
    upstream = await client.post(UPSTREAM + "/chat/completions", json=body)
    answer, headers = receipts.answered(notary, body, upstream.json())
    return JSONResponse(answer, headers=headers)


@app.get("/v1/receipts/{claim_id}")
async def receipt(claim_id: str):
    return notary.bundle(claim_id)
