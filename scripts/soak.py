"""A real node under a mixed hostile load: does its memory stay bounded, and do good requests go on being answered?

    soak.py [SECONDS]      default 600

Starts `hallmark up` with keys and a provider (this script) that misbehaves half of the time, and then at once: good requests,
whole and streamed, and to the shipped chat model; 10,000 idle connections; clients that send a byte a second, that take nothing
of a long answer, that leave in the middle; bodies too large, not JSON, too deep, with hostile tools; wrong keys; a provider that
sends malformed events, dies in the middle, sends lines without end or calls that are no calls. Prints a table; exit code 1 if a
good request failed, a bad one was not refused as it should be, the log tells of prompts or keys, or the resident memory's peak in
the last third of the time is more than 15 % and 16 MiB above its peak before (the first sixth not counted).
"""

import asyncio
import collections
import itertools
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
HALLMARK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/hallmark"
SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 600
IDLE = 10_000
MARK = "umbrella-plum-orbit"  # in every prompt; must not be in the log
WORDS = [f"word{i} " for i in range(20)]

counts = collections.Counter()
surprises = collections.Counter()
latencies = collections.defaultdict(list)
samples = []


# --- the provider -----------------------------------------------------------------------------------------------------


def chunk(delta, finish=None):
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
             "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
GOOD = b"".join(chunk({"content": word}) for word in WORDS) + chunk({}, "stop") + b"data: [DONE]\n\n"
CALL = {"index": 10**9, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{\0\"]"}}
EVIL = [
    SSE + chunk({"content": "a"}) + b"data: {\"choices\": [{\n\n",
    SSE + chunk({"content": "a"}),
    SSE + b"data: " + b"x" * (5 << 20),
    SSE + b"data: \xff\xfe\n\n",
    SSE + chunk({"tool_calls": [CALL]}),
    SSE + b"data: []\n\ndata: 7\n\ndata: null\n\n",
    SSE + b"\0" * 100_000,
    SSE + b"data: " + b"[" * 100_000 + b"\n\n",
    b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"choices\":",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01 this is no HTTP\r\n\r\n",
    b"",
]
evil = itertools.cycle(EVIL)


async def provider(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = json.loads(await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1])))
            if body["model"] == "good" and not body.get("stream"):
                message = {"role": "assistant", "content": "".join(WORDS)}
                answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 20},
                          "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
                data = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
                await writer.drain()
                continue
            if body["model"] == "good":
                writer.write(SSE + GOOD)
            elif body["model"] == "long":
                writer.write(SSE)
                for _ in range(400):
                    writer.write(chunk({"content": "x" * 10_000}) * 4)
                    await writer.drain()
                writer.write(chunk({}, "stop") + b"data: [DONE]\n\n")
            else:
                writer.write(next(evil))
            await writer.drain()
            break
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


# --- clients ----------------------------------------------------------------------------------------------------------


def request(body, key, path="/v1/chat/completions", more=b""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n"
    return head.encode() + more + b"content-length: %d\r\n\r\n" % len(data) + data


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": f"Say it, {MARK}."}], **more}


class Load:
    def __init__(self, port, key):
        self.port, self.key, self.end = port, key, time.monotonic() + SECONDS

    def running(self):
        return time.monotonic() < self.end

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)

    async def exchange(self, data):
        """Sends; gives the status and all that comes until the answer's end."""
        reader, writer = await self.connect()
        try:
            # A node that refuses does not read to the end.
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                pass
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            status = int(head.split(b" ", 2)[1])
            length = re.search(rb"content-length: (\d+)", head.lower())
            if length:
                return status, head, await asyncio.wait_for(reader.readexactly(int(length[1])), 60)
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                piece = await asyncio.wait_for(reader.read(1 << 16), 60)
                if not piece:
                    break
                body += piece
            return status, head, body
        finally:
            writer.close()

    async def every(self, pause, name, once):
        while self.running():
            try:
                wrong = await once()
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.LimitOverrunError, ValueError) as error:
                wrong = type(error).__name__
            counts[name] += 1
            if wrong:
                surprises[f"{name}: {wrong}"] += 1
            await asyncio.sleep(pause)

    async def good(self):
        started = time.monotonic()
        status, head, body = await self.exchange(request(chat("good"), self.key))
        latencies["good, whole"].append(time.monotonic() - started)
        if status != 200 or b"x-hallmark-receipt" not in head or json.loads(body)["choices"][0]["message"]["content"] != "".join(WORDS):
            return f"status {status}"

    async def good_stream(self):
        started = time.monotonic()
        status, _, body = await self.exchange(request(chat("good", stream=True), self.key))
        latencies["good, streamed"].append(time.monotonic() - started)
        text = "".join(re.findall(r'"content":"(word\d+ )"', body.decode()))
        if status != 200 or text != "".join(WORDS) or b": hallmark-seal " not in body or b"data: [DONE]" not in body:
            return f"status {status}, {len(body)} bytes"

    async def own_model(self):
        started = time.monotonic()
        status, head, _ = await self.exchange(request(chat("tiny-chat", max_tokens=8), self.key))
        latencies["good, own model"].append(time.monotonic() - started)
        if status != 200 or b"x-hallmark-receipt" not in head:
            return f"status {status}"

    async def evil_provider(self, stream):
        status, _, body = await self.exchange(request(chat("evil", stream=stream), self.key))
        if status == 200 and (not stream or b"hallmark-seal" in body or b"error" not in body):
            return f"an answer of {len(body)} bytes"
        if status != 200 and status not in (502, 503, 504):
            return f"status {status}"

    async def refused(self, data, expected):
        status, _, body = await self.exchange(data)
        # What is no HTTP request is refused before there is anything to say it in.
        if status != expected or (body and "message" not in json.loads(body)["error"]):
            return f"status {status}, expected {expected}: {data[-60:]}"

    def bad_requests(self):
        """What is sent, and the status that must come."""
        ask = lambda body: request(body, self.key)
        form = lambda schema: chat("tiny-chat", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
        tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/nowhere"}}}
        long = {"role": "user", "content": MARK * 20_000}
        return itertools.cycle([
            (ask(b"{"), 400), (ask(b"\xff\xfe"), 400), (ask(b"[" * 100_000), 400), (ask(b"{\"model\":1}"), 400), (ask(b""), 400),
            (ask({"model": "good", "messages": []}), 400), (ask(chat("nobody")), 404), (ask(chat("good", tools=[1])), 400),
            (ask(chat("good", tools=[{"type": "function", "function": {"name": 7}}])), 400), (ask(form({"type": "no such type"})), 400),
            (ask(form({"$ref": "#/nowhere"})), 400), (ask(form({"type": "string", "minLength": 10**9, "pattern": "(a{1000}){1000}"})), 400),
            (ask(chat("tiny-chat", tools=[tool], tool_choice="required")), 400), (ask(chat("tiny-chat") | {"messages": [long]}), 400),
            (ask(b" " * ((8 << 20) + 1)), 413), (request(chat("good"), "sk-wrong-" + "k" * 200), 401), (request(chat("good"), "\x7f"), 400),
            (request(b"{}", self.key, "/v1/nothing"), 404), (request(chat("good"), self.key, more=b"x-a: " + b"b" * 1_000_000 + b"\r\n"), 431),
        ])

    async def leaver(self):
        reader, writer = await self.connect()
        writer.write(request(chat("long", stream=True), self.key))
        await asyncio.wait_for(reader.read(1000), 60)
        writer.close()

    async def stalled(self):
        """Takes nothing of a long answer; must be let go."""
        reader, writer = await self.connect()
        writer.transport.pause_reading()
        writer.write(request(chat("long", stream=True), self.key))
        started = time.monotonic()
        while self.running() and time.monotonic() < started + 90:
            await asyncio.sleep(1)
        writer.transport.resume_reading()
        got = b""
        try:
            while not got.endswith(b"\r\n0\r\n\r\n") and (piece := await asyncio.wait_for(reader.read(1 << 20), 20)):
                got = got[-7:] + piece
            writer.close()
        except ConnectionError:
            return None
        if time.monotonic() >= started + 90 and got.endswith(b"\r\n0\r\n\r\n"):
            return "the whole answer, though it was not taken"

    async def drip(self, first, data, longest):
        """`first` at once, then a byte a second; must be cut off within `longest` seconds."""
        reader, writer = await self.connect()
        started = time.monotonic()
        try:
            writer.write(first)
            for byte in data:
                writer.write(bytes([byte]))
                try:
                    got = await asyncio.wait_for(reader.read(100), 1)
                    return None if not got or b" 408 " in got else "another answer"
                except asyncio.TimeoutError:
                    if not self.running():
                        return None
                    if time.monotonic() > started + longest:
                        return "not cut off"
        except ConnectionError:
            return None
        finally:
            writer.close()

    async def idle(self, index):
        """Half say nothing, half have asked once; when the node lets one go, another comes."""
        await asyncio.sleep(index / 1000)
        while self.running():
            try:
                reader, writer = await self.connect()
                if index % 2:
                    writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\n")
                counts["idle connections opened"] += 1
                while self.running():
                    try:
                        if not await asyncio.wait_for(reader.read(100), min(200, max(0.1, self.end - time.monotonic()))):
                            break
                    except asyncio.TimeoutError:
                        pass
                writer.close()
            except (OSError, asyncio.IncompleteReadError) as error:
                surprises[f"idle: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    async def watch(self, pid):
        started = time.monotonic()
        while self.running():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
            files = len(os.listdir(f"/proc/{pid}/fd"))
            samples.append((time.monotonic() - started, rss, files))
            await asyncio.sleep(1)

    async def run(self, pid):
        bad = self.bad_requests()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-slow: " + b"s" * 10_000
        body = request(b" " * 10_000, self.key)
        many = lambda number, pause, name, once: [self.every(pause, name, once) for _ in range(number)]
        await asyncio.gather(
            self.watch(pid),
            *many(6, 0.05, "good, whole", self.good),
            *many(6, 0.05, "good, streamed", self.good_stream),
            *many(1, 0.2, "good, own model", self.own_model),
            *many(3, 0.1, "malformed provider, streamed", lambda: self.evil_provider(True)),
            *many(2, 0.1, "malformed provider, whole", lambda: self.evil_provider(False)),
            *many(4, 0.1, "bad request", lambda: self.refused(*next(bad))),
            *many(5, 0.2, "leaves in the middle", self.leaver),
            *many(10, 1, "takes nothing", self.stalled),
            *many(50, 1, "a byte a second, head", lambda: self.drip(b"", head, 120)),
            *many(50, 1, "a byte a second, body", lambda: self.drip(body[:-10_000], body[-10_000:], 60)),
            *(self.idle(index) for index in range(IDLE)),
        )


# --- the run ----------------------------------------------------------------------------------------------------------


def prepare(home, ports):
    """The command that serves, and a key. A provider that breaks connections has a port, and so connections, of its own."""
    providers, keys = home / "providers.toml", home / "keys.toml"
    rows = zip(ports, (("good", "long"), ("evil",)))
    providers.write_text("".join(
        f'[[provider]]\nname = "soak{port}"\nkind = "openai"\nbase_url = "http://127.0.0.1:{port}/v1"\nkey_env = "SOAK_KEY"\n'
        + "".join(f'[[provider.model]]\nname = "{name}"\n' for name in names) for port, names in rows
    ))
    up = [HALLMARK, "--home", home / "home", "up", "--keys", keys]
    key = subprocess.run([*up, "--new-key", "soak"], check=True, capture_output=True, text=True).stdout.strip()
    return [*up, "--providers", providers, "--listen", "127.0.0.1:0"], key


def table(bound):
    print("| what | times |\n|---|---|")
    for name, count in sorted(counts.items()):
        print(f"| {name} | {count:,} |")
    print("\n| answer | median ms | p99 ms | longest ms |\n|---|---|---|---|")
    for name, times in latencies.items():
        times = sorted(time * 1000 for time in times)
        print(f"| {name} | {statistics.median(times):.1f} | {times[len(times) * 99 // 100]:.1f} | {times[-1]:.1f} |")
    print("\n| seconds | resident MiB | open files |\n|---|---|---|")
    for share in range(11):
        at, rss, files = samples[(len(samples) - 1) * share // 10]
        print(f"| {at:.0f} | {rss:.0f} | {files:,} |")
    for name, count in sorted(surprises.items()):
        print(f"UNEXPECTED {count} x {name}")
    before, after = bound
    print(f"resident memory's peak: {before:.0f} MiB before, {after:.0f} MiB in the last third")


def peaks():
    """The memory's peak before the last third, and in it."""
    middle = [rss for at, rss, _ in samples if SECONDS / 6 <= at < SECONDS * 2 / 3]
    return max(middle), max(rss for at, rss, _ in samples if at >= SECONDS * 2 / 3)


async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 2000:
        sys.exit(f"{hard} open files are too few for {IDLE} connections: raise the limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    servers = [await asyncio.start_server(provider, "127.0.0.1", 0, backlog=1024, limit=1 << 24) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    with tempfile.TemporaryDirectory() as folder:
        home, log = pathlib.Path(folder), pathlib.Path(folder) / "log"
        command, key = prepare(home, ports)
        with open(log, "wb") as stderr:
            node = subprocess.Popen(command, stderr=stderr, env=os.environ | {"SOAK_KEY": "sk-upstream-" + MARK})
        try:
            while not (port := re.search(r"listening on http://[^:]+:(\d+)", log.read_text())):
                await asyncio.sleep(0.1)
            await Load(int(port[1]), key).run(node.pid)
            if node.poll() is not None:
                surprises[f"the node ended with {node.returncode}"] += 1
        finally:
            node.send_signal(2)
            node.wait(60)
        text = log.read_text()
    for secret in (MARK, key):
        if secret in text:
            surprises["a prompt or a key in the log"] += 1
    before, after = peaks()
    table((before, after))
    return int(bool(surprises) or after > before * 1.15 + 16)


sys.exit(asyncio.run(main()))
