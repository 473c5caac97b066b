"""PyPI's openai against a node."""

import asyncio
import os

import openai

URL = os.environ["HALLMARK_URL"] + "/v1"
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
USER = [{"role": "user", "content": "Grüße"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
ECHO = 'Echo: Grüße é😀\n"\\'

assert [m.id for m in client.models.list()] == ["m"]
assert client.models.retrieve("m").owned_by == "acme"

raw = client.chat.completions.with_raw_response.create(model="m", messages=USER)
answer = raw.parse()
assert answer.choices[0].message.content == ECHO
assert answer.usage.total_tokens == 10
assert answer.hallmark["receipt"] == raw.headers["x-hallmark-receipt"]

answer = client.chat.completions.create(model="m", messages=USER, tools=TOOLS)
call = answer.choices[0].message.tool_calls[0]
assert (call.function.name, answer.choices[0].finish_reason) == ("weather", "tool_calls")

text, last = "", None
for chunk in client.chat.completions.create(model="m", messages=USER, stream=True, stream_options={"include_usage": True}):
    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    last = chunk
assert (text, last.usage.total_tokens, last.choices) == (ECHO, 10, [])

with client.chat.completions.stream(model="m", messages=USER, tools=TOOLS) as stream:
    final = stream.get_final_completion()
assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments


async def many():
    async with openai.AsyncOpenAI(base_url=URL, api_key="none") as client:
        ask = lambda: client.chat.completions.create(model="m", messages=USER)
        return await asyncio.gather(*[ask() for _ in range(20)])


assert len({answer.hallmark["receipt"] for answer in asyncio.run(many())}) == 20

assert client.completions.create(model="m", prompt="Grüße").choices[0].text == ECHO
assert "".join(c.choices[0].text for c in client.completions.create(model="m", prompt="Grüße", stream=True)) == ECHO

vectors = client.embeddings.create(model="m", input=["a", "bc"]).data
assert [v.embedding for v in vectors] == [[0.5, 1.0], [0.5, 2.0]], vectors

answer = client.responses.create(model="m", input="Grüße", instructions="be brief")
assert (answer.output_text, answer.status, answer.usage.total_tokens) == (ECHO, "completed", 10)
tools = [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": False}]
answer = client.responses.create(model="m", input=USER, tools=tools)
assert (answer.output[0].type, answer.output[0].name) == ("function_call", "weather")
history = USER + [answer.output[0].model_dump(exclude_none=True)]
history += [{"type": "function_call_output", "call_id": answer.output[0].call_id, "output": "sunny"}]
assert client.responses.create(model="m", input=history, tools=tools).output_text.startswith("Echo: sunny")
with client.responses.stream(model="m", input="Grüße") as stream:
    text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
    final = stream.get_final_response()
assert (text, final.output_text) == (ECHO, ECHO)
assert final.hallmark["receipt"]
with client.responses.stream(model="m", input="Grüße", tools=tools) as stream:
    final = stream.get_final_response()
assert final.output[0].arguments == call.function.arguments

for error, ask in [
    (openai.NotFoundError, {"model": "other", "messages": USER}),
    (openai.BadRequestError, {"model": "m", "messages": []}),
]:
    try:
        client.chat.completions.create(**ask)
        raise SystemExit(f"expected {error}")
    except error as got:
        assert got.body["type"] == "invalid_request_error", got.body
print("ok")
