"""opengradient's own checks accept our answers, single and streamed, and refuse altered ones."""

import copy
import json
import os
import urllib.request

from opengradient.client import tee_ohttp_client as stream_reader
from opengradient.client.tee_verify import (
    VerificationError,
    build_inner_request,
    response_content_for_hash,
    verify_response,
)
from opengradient.types import StreamChunk

URL = os.environ["HALLMARK_URL"]


def fetch(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.read().decode()


KEY = json.loads(fetch("/signing-key"))
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Wetter für eine Stadt – 天気",
        "parameters": {"type": "object", "properties": {"n": {"type": "number", "minimum": 1e-7, "maximum": 1e22}}},
    },
}
ATTACHMENT = [
    {"type": "text", "text": "look: 🖼"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    {"type": "file", "file": {"filename": "é.pdf", "file_data": "AAAA"}},
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "maximum": 0.1}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"n": 1.50}'}}
USER = {"role": "user", "content": "Grüße 😀 \u007f \u2028 \t"}
REQUESTS = [
    {"messages": [USER]},
    {"messages": [USER], "temperature": 0.1, "max_tokens": 100, "stop": ["é"], "top_p": 0.5},
    {"messages": [USER], "temperature": 1},
    {"messages": [USER], "temperature": 1.2345678901234567, "stop": "x", "web_search": True},
    {"messages": [{"role": "developer", "content": "be brief"}, USER], "temperature": 1e-5, "stop": [], "tools": []},
    {"messages": [{"role": "user", "content": ATTACHMENT}], "response_format": SCHEMA},
    {"messages": [USER], "tools": [TOOL], "tool_choice": "auto"},
    {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
        ],
        "tools": [TOOL],
    },
]


def verify(canonical, body, content):
    return verify_response(
        canonical_request=canonical,
        response_body=body,
        response_content=content,
        signing_key_pem=KEY["public_key"],
        expected_tee_id=KEY["tee_id"],
    )


def refused(canonical, body, content):
    try:
        verify(canonical, body, content)
    except VerificationError:
        return
    raise SystemExit("an altered answer was accepted")


def attack(canonical, body, content):
    """Every alteration is refused."""
    refused(canonical, body, content + " ")
    refused({**canonical, "temperature": 0.7}, body, content)
    refused(canonical, {**body, "tee_timestamp": body["tee_timestamp"] + 1}, content)
    refused(canonical, {**body, "tee_id": "0x" + "0" * 64}, content)
    signature = body["tee_signature"]
    refused(canonical, {**body, "tee_signature": signature[::-1].lstrip("=") + "=="}, content)
    other = copy.deepcopy(canonical)
    other["messages"][0]["content"] = "something else"
    refused(other, body, content)


for request in REQUESTS:
    request = {"model": "m", **request}
    wire, canonical = build_inner_request(request)
    body = json.loads(fetch("/v1/chat/completions", wire))
    content = response_content_for_hash(body)
    assert content, body
    verify(canonical, body, content)
    attack(canonical, body, content)

    frames, full, calls, final = fetch("/v1/chat/completions", {**wire, "stream": True}), "", {}, None
    for frame in stream_reader._iter_sse_objects(frames):
        full += stream_reader._delta_content(frame)
        stream_reader._accumulate_tool_calls(calls, frame)
        if isinstance(frame.get("tee_signature"), str):
            final = frame
    if stream_reader._finish_reason(final) == "tool_calls":
        full = json.dumps([calls[i] for i in sorted(calls)], sort_keys=True)
    assert full == content, (full, content)
    verify(canonical, final, full)
    attack(canonical, final, full)
    chunk = StreamChunk.from_sse_data(final)
    assert chunk.is_final and chunk.tee_signature == final["tee_signature"], chunk

completion = json.loads(fetch("/v1/completions", {"model": "m", "prompt": "hé", "max_tokens": 5, "temperature": 0.0}))
assert completion["completion"].startswith("Echo: h"), completion
assert completion["tee_signature"] and completion["tee_timestamp"]
print("ok")
