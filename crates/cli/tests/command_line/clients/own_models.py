"""PyPI's openai and anthropic against `hallmark up` with models of one's own: a GGUF file and an embedding model's folder."""

import json
import os
import pathlib
import sys

URL = os.environ["HALLMARK_URL"]
USER = [{"role": "user", "content": "What is a dog?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Zürich"]}, "days": {"enum": [1, 2, 3]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def obeys(arguments):
    assert set(arguments) == {"city", "days"}, arguments
    assert arguments["city"] in ["Bern", "Zürich"] and arguments["days"] in [1, 2, 3], arguments


def with_openai():
    import openai

    client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)
    assert {"gguf", "embeds", "tiny-chat"} <= {model.id for model in client.models.list()}
    function = {"name": "weather", "description": "The weather", "parameters": SCHEMA}
    tools = [{"type": "function", "function": function}, {"type": "function", "function": {"name": "now"}}]
    named = {"type": "function", "function": {"name": "weather"}}
    answers = set()
    for model in ["gguf", "tiny-chat"]:
        ask = lambda **more: client.chat.completions.create(model=model, messages=USER, max_tokens=160, seed=5, **more)
        answer = ask(temperature=0)
        assert answer.hallmark["receipt"] and answer.choices[0].finish_reason in ("stop", "length")
        answers.add(answer.choices[0].message.content)
        text = "".join(c.choices[0].delta.content or "" for c in ask(temperature=0, stream=True) if c.choices)
        assert text == answer.choices[0].message.content
        for choice, names in [("required", {"weather", "now"}), (named, {"weather"})]:
            whole = ask(tools=tools, tool_choice=choice).choices[0]
            assert (whole.finish_reason, len(whole.message.tool_calls), whole.message.content) == ("tool_calls", 1, None)
            call = whole.message.tool_calls[0].function
            assert call.name in names
            obeys(json.loads(call.arguments)) if call.name == "weather" else None
            with client.chat.completions.stream(
                model=model, messages=USER, max_tokens=160, seed=5, tools=tools, tool_choice=choice
            ) as stream:
                final = stream.get_final_completion().choices[0].message
            assert final.tool_calls[0].function.arguments == call.arguments
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": ["yes", "no"]}}}
        assert json.loads(ask(response_format=form).choices[0].message.content) in ["yes", "no"]
    # One set of weights, in two kinds of files.
    assert len(answers) == 1, answers
    tool = {"type": "function", "strict": False, **function}
    answer = client.responses.create(model="gguf", input="Hi", tools=[tool], tool_choice="required", max_output_tokens=160)
    obeys(json.loads(answer.output[0].arguments))

    expected = json.loads(pathlib.Path(os.environ["HALLMARK_EXPECTED"]).read_text())
    for more in [{}, {"encoding_format": "float"}]:
        got = client.embeddings.create(model="embeds", input=[one["text"] for one in expected], **more).data
        differences = [abs(a - b) for one, e in zip(expected, got) for a, b in zip(one["vector"], e.embedding, strict=True)]
        assert len(got) == len(expected) and max(differences) < 1e-4, max(differences)
    one = client.embeddings.create(model="embeds", input=expected[0]["tokens"]).data[0].embedding
    assert max(abs(a - b) for a, b in zip(one, got[0].embedding, strict=True)) < 1e-6


def with_anthropic():
    import anthropic

    client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    for choice in [{"type": "any"}, {"type": "tool", "name": "weather"}]:
        ask = dict(model="gguf", max_tokens=160, messages=USER, tools=tools, tool_choice=choice)
        answer = client.messages.create(**ask)
        assert (answer.stop_reason, answer.content[0].type, answer.content[0].name) == ("tool_use", "tool_use", "weather")
        obeys(answer.content[0].input)
        with client.messages.stream(**ask) as stream:
            obeys(stream.get_final_message().content[0].input)


{"openai": with_openai, "anthropic": with_anthropic}[sys.argv[1]]()
print("ok")
