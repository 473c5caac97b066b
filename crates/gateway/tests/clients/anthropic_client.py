"""PyPI's anthropic against a node."""

import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["HALLMARK_URL"], api_key="none", max_retries=0)
USER = [{"role": "user", "content": "Grüße"}]
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]
ECHO = 'Echo: Grüße é😀\n"\\'

answer = client.messages.create(model="m", max_tokens=10, messages=USER, system="be brief")
assert (answer.content[0].text, answer.stop_reason) == (ECHO, "end_turn")
assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3)
assert answer.hallmark["receipt"]

call = client.messages.create(model="m", max_tokens=10, messages=USER, tools=TOOLS)
assert (call.content[0].name, call.content[0].input["n"], call.stop_reason) == ("weather", 1.5, "tool_use")
result = {"type": "tool_result", "tool_use_id": call.content[0].id, "content": "sunny"}
history = USER + [{"role": "assistant", "content": call.content}, {"role": "user", "content": [result]}]
assert client.messages.create(model="m", max_tokens=10, messages=history, tools=TOOLS).content[0].text.startswith("Echo: sunny")

with client.messages.stream(model="m", max_tokens=10, messages=USER) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert (text, final.content[0].text, final.stop_reason, final.usage.output_tokens) == (ECHO, ECHO, "end_turn", 3)

with client.messages.stream(model="m", max_tokens=10, messages=USER, tools=TOOLS) as stream:
    final = stream.get_final_message()
assert final.content[0].input == call.content[0].input

try:
    client.messages.create(model="other", max_tokens=10, messages=USER)
    raise SystemExit("expected an error")
except anthropic.NotFoundError as error:
    assert error.body["error"]["type"] == "not_found_error", error.body
print("ok")
