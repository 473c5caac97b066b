"""PyPI's langchain-openai against a node."""

import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

URL = os.environ["HALLMARK_URL"] + "/v1"
model = ChatOpenAI(base_url=URL, api_key="none", model="m", max_retries=0)
ECHO = 'Echo: Grüße é😀\n"\\'

answer = model.invoke("Grüße")
assert answer.content == ECHO
assert answer.usage_metadata["total_tokens"] == 10, answer.usage_metadata

whole = None
for chunk in model.stream("Grüße", stream_usage=True):
    whole = chunk if whole is None else whole + chunk
assert whole.content == ECHO
assert whole.usage_metadata["total_tokens"] == 10, whole.usage_metadata
whole = None
for chunk in model.stream("Grüße", stream_usage=False):
    whole = chunk if whole is None else whole + chunk
assert whole.content == ECHO


def weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


tools = model.bind_tools([weather])
call = tools.invoke("Grüße")
assert call.tool_calls[0]["name"] == "weather"
answer = tools.invoke([HumanMessage("Grüße"), call, ToolMessage("sunny", tool_call_id=call.tool_calls[0]["id"])])
assert answer.content.startswith("Echo: sunny")

vectors = OpenAIEmbeddings(base_url=URL, api_key="none", model="m", check_embedding_ctx_length=False).embed_documents(["a"])
assert vectors == [[0.5, 1.0]], vectors
print("ok")
