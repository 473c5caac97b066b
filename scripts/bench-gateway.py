"""The gateway beside two Python proxies that give the same receipts: requests per second, latency, ratios, as tables.

    bench-gateway.py [ROUNDS] [SECONDS]      default 3 rounds of 5 s for each, interleaved; medians

Client, upstream (which answers at once) and server share the machine's cores; 64 keep-alive connections. Client and upstream run as
batch tasks (SCHED_BATCH), so that a message for them does not take the core from the server; all servers gain from it. Every answer
is signed: before the measurement, the second verifier (clients/python) checks a receipt of each server.
`RSA alone` is the rate at which the library signs with RSA-2048 on as many threads as there are cores, beside the gateway with
OpenGradient's fields, which need one such signature an answer. Last, the time to the first token of a stream, from the gateway
and through the proxy that verifies it, in turns.
"""

import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "clients/python"))
import verify_receipt  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
LOAD = TARGET / "release/examples/load"
UPSTREAM = "http://127.0.0.1:9001/v1"
PYTHON = sys.executable
OURS, TEE = "hallmark", "hallmark, OpenGradient's fields"
SERVERS = {
    OURS: [LOAD, "gateway", "127.0.0.1:{port}", "{life}", UPSTREAM],
    TEE: [LOAD, "gateway-tee", "127.0.0.1:{port}", "{life}", UPSTREAM],
    "FastAPI, uvicorn, httpx; 2 workers": [PYTHON, "-m", "uvicorn", "--app-dir", ROOT / "benches/gateway", "fastapi_peer:app",
                                           "--port", "{port}", "--workers", "2", "--no-access-log", "--log-level", "warning"],
    "aiohttp; 2 workers": [PYTHON, ROOT / "benches/gateway/aiohttp_peer.py", "{port}"],
}
ROUNDS_OF_STREAMS = 300


def batch():
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run(*command, **more):
    command = [str(part) for part in command]
    return [float(x) for x in subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout.split()]


def measure(port, seconds):
    """Requests per second, median and 99th percentile in ms."""
    return run(LOAD, "client", f"127.0.0.1:{port}", 64, seconds, preexec_fn=batch)


def verify(name, port):
    """A receipt of the server holds together, with its openings."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(method, path, body=None, headers={}):
        connection.request(method, path, body, headers | {"content-type": "application/json"})
        response = connection.getresponse()
        return response, response.read()

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    response, _ = ask("POST", "/v1/chat/completions", body)
    headers = {"x-hallmark-capability": response.headers["x-hallmark-capability"]}
    # The same connection, so that it is the same worker.
    _, bundle = ask("GET", "/v1/receipts/" + response.headers["x-hallmark-receipt"], headers=headers)
    checks = verify_receipt.check(bundle)
    made = {check for check, outcome in checks.items() if outcome}
    if False in checks.values() or not made >= {"certificate", "signature", "claim", "inputs", "outputs", "evidence", "word"}:
        sys.exit(f"{name}: its receipt does not hold: {checks}")


def measure_all(ports, rounds, seconds):
    for name, port in ports.items():
        verify(name, port)
        measure(port, 1)
    rows, rsa = {name: [] for name in ports}, []
    for _ in range(rounds):
        for name, port in ports.items():
            rows[name].append(measure(port, seconds))
        rsa.append(run(LOAD, "rsa", seconds)[0])
    return {name: [statistics.median(column) for column in zip(*results)] for name, results in rows.items()}, statistics.median(rsa)


def main():
    rounds, seconds = (int(x) for x in (sys.argv[1:] + ["3", "5"][len(sys.argv) - 1 :])[:2])
    life = 90 + rounds * len(SERVERS) * (seconds + 3)
    environment = os.environ | {"UPSTREAM": UPSTREAM, "NO_PROXY": "*"}
    start = lambda command, **more: subprocess.Popen([str(part) for part in command], env=environment, start_new_session=True, **more)
    running = [start([LOAD, "upstream", "127.0.0.1:9001", life], preexec_fn=batch)]
    ports = {}
    try:
        for port, (name, command) in enumerate(SERVERS.items(), 9011):
            running.append(start([str(part).format(port=port, life=life) for part in command]))
            ports[name] = port
        gateway = f"127.0.0.1:{ports[OURS]}"
        running.append(start([LOAD, "proxy", "127.0.0.1:9010", life, f"http://{gateway}"]))
        time.sleep(5)
        middle, rsa = measure_all(ports, rounds, seconds)
        direct, slow, proxied, slow_proxied = run(LOAD, "latency", gateway, "127.0.0.1:9010", ROUNDS_OF_STREAMS)
    finally:
        for process in running:
            os.killpg(process.pid, 15)
    ours, tee = middle[OURS][0], middle[TEE][0]
    print("| server | requests/s | median ms | p99 ms | hallmark / this |\n|---|---|---|---|---|")
    for name, (rate, half, late) in middle.items():
        print(f"| {name} | {rate:,.0f} | {half:.2f} | {late:.2f} | {ours / rate:.1f} |")
    print(f"| RSA-2048 alone, {os.cpu_count()} threads | {rsa:,.0f} | | | with OpenGradient's fields {tee / rsa:.2f} of it |")
    print(f"\n| first token of {ROUNDS_OF_STREAMS} streams | median ms | p99 ms |\n|---|---|---|")
    print(f"| from the gateway | {direct:.2f} | {slow:.2f} |\n| through `hallmark proxy` | {proxied:.2f} | {slow_proxied:.2f} |")


main()
