"""The gateway beside two Python proxies that hash and sign as it does: requests per second, latency, ratios, as a table.

    bench-gateway.py [ROUNDS] [SECONDS]      default 3 rounds of 5 s for each, interleaved; medians

Client, upstream (which answers at once) and server share the machine's cores; 64 keep-alive connections. Every answer is signed.
`RSA alone` is the rate at which the library signs with RSA-2048 on as many threads as there are cores, beside the gateway with
OpenGradient's fields, which need one such signature an answer.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
LOAD = TARGET / "release/examples/load"
UPSTREAM = "http://127.0.0.1:9001/v1"
PYTHON = sys.executable
SERVERS = {
    "hallmark": [LOAD, "gateway", "127.0.0.1:{port}", "{life}", UPSTREAM],
    "hallmark, OpenGradient's fields": [LOAD, "gateway-tee", "127.0.0.1:{port}", "{life}", UPSTREAM],
    "FastAPI, uvicorn, httpx; 2 workers": [PYTHON, "-m", "uvicorn", "--app-dir", ROOT / "benches/gateway", "fastapi_peer:app",
                                           "--port", "{port}", "--workers", "2", "--no-access-log", "--log-level", "warning"],
    "aiohttp; 2 workers": [PYTHON, ROOT / "benches/gateway/aiohttp_peer.py", "{port}"],
}


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout.split()


def measure(port, seconds):
    """Requests per second, median and 99th percentile in ms."""
    return [float(x) for x in run(LOAD, "client", f"127.0.0.1:{port}", 64, seconds)]


def main():
    rounds, seconds = (int(x) for x in (sys.argv[1:] + ["3", "5"][len(sys.argv) - 1 :])[:2])
    life = 60 + rounds * len(SERVERS) * (seconds + 3)
    environment = os.environ | {"UPSTREAM": UPSTREAM, "NO_PROXY": "*"}
    start = lambda command: subprocess.Popen([str(part) for part in command], env=environment, start_new_session=True)
    running = [start([LOAD, "upstream", "127.0.0.1:9001", life])]
    ports = {}
    try:
        for port, (name, command) in enumerate(SERVERS.items(), 9011):
            running.append(start([str(part).format(port=port, life=life) for part in command]))
            ports[name] = port
        time.sleep(5)
        for port in ports.values():
            measure(port, 1)
        rows, rsa = {name: [] for name in ports}, []
        for _ in range(rounds):
            for name, port in ports.items():
                rows[name].append(measure(port, seconds))
            rsa.append(float(run(LOAD, "rsa", seconds)[0]))
    finally:
        for process in running:
            os.killpg(process.pid, 15)
    middle = {name: [statistics.median(column) for column in zip(*results)] for name, results in rows.items()}
    ours, tee = middle["hallmark"][0], middle["hallmark, OpenGradient's fields"][0]
    print("| server | requests/s | median ms | p99 ms | hallmark / this |\n|---|---|---|---|---|")
    for name, (rate, half, slow) in middle.items():
        print(f"| {name} | {rate:,.0f} | {half:.2f} | {slow:.2f} | {ours / rate:.1f} |")
    alone = statistics.median(rsa)
    print(f"| RSA-2048 alone, {os.cpu_count()} threads | {alone:,.0f} | | | with OpenGradient's fields {tee / alone:.2f} of it |")


main()
