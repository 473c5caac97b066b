"""Proofs beside ezkl's, one thread each, of networks of the same shapes: `./x bench-proof [MODEL ..] [--peer MODEL ..]`.

Ours is `crates/proof/examples/prove_bench` (from quantised input to proof bytes, the model's commitment at hand). ezkl runs offline
with a setup of its own (`gen_srs`) on an ONNX file of the same layers; what it needs once a model (keys) is printed apart. By default
ezkl proves the perceptron alone; `--peer lenet` takes some minutes and 12 GB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def dense(nodes, weights, x, y, k, n, rng):
    weights += [
        numpy_helper.from_array(rng.normal(0, k**-0.5, (k, n)).astype(np.float32), f"{y}.w"),
        numpy_helper.from_array(rng.normal(0, 0.1, n).astype(np.float32), f"{y}.b"),
    ]
    nodes.append(helper.make_node("Gemm", [x, f"{y}.w", f"{y}.b"], [y]))


def conv(nodes, weights, x, y, shape, pad, rng):
    scale = (shape[1] * shape[2] * shape[3]) ** -0.5
    weights += [
        numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), f"{y}.w"),
        numpy_helper.from_array(rng.normal(0, 0.1, shape[0]).astype(np.float32), f"{y}.b"),
    ]
    nodes.append(helper.make_node("Conv", [x, f"{y}.w", f"{y}.b"], [y], pads=[pad] * 4, kernel_shape=shape[2:]))


def mlp(nodes, weights, rng):
    widths = [64, 64, 32, 10]
    at = "x"
    for layer, (k, n) in enumerate(zip(widths, widths[1:])):
        dense(nodes, weights, at, f"d{layer}", k, n, rng)
        at = f"d{layer}"
        if layer < 2:
            nodes.append(helper.make_node("Relu", [at], [f"r{layer}"]))
            at = f"r{layer}"
    return at, [1, 64]


def lenet(nodes, weights, rng):
    at, channels = "x", 1
    for layer, (filters, pad) in enumerate([(6, 2), (16, 0)]):
        conv(nodes, weights, at, f"c{layer}", [filters, channels, 5, 5], pad, rng)
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"cr{layer}"]))
        nodes.append(helper.make_node("MaxPool", [f"cr{layer}"], [f"p{layer}"], kernel_shape=[2, 2], strides=[2, 2]))
        at, channels = f"p{layer}", filters
    nodes.append(helper.make_node("Flatten", [at], ["flat"]))
    at = "flat"
    for layer, (k, n) in enumerate([(400, 120), (120, 84), (84, 10)]):
        dense(nodes, weights, at, f"d{layer}", k, n, rng)
        at = f"d{layer}"
        if layer < 2:
            nodes.append(helper.make_node("Relu", [at], [f"r{layer}"]))
            at = f"r{layer}"
    return at, [1, 1, 28, 28]


PEERS = {"mlp": mlp, "lenet": lenet}


def timed(f, *args, **kwargs):
    start = time.perf_counter()
    f(*args, **kwargs)
    return time.perf_counter() - start


def ezkl_times(name):
    """Times of ezkl in this process, which the caller starts anew for each model."""
    import ezkl

    rng = np.random.default_rng(1)
    nodes, weights = [], []
    out, shape = PEERS[name](nodes, weights, rng)
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        at = lambda file: os.path.join(folder, file)
        onnx.save(model, at("model.onnx"))
        with open(at("input.json"), "w") as file:
            json.dump({"input_data": [rng.uniform(-1, 1, int(np.prod(shape))).tolist()]}, file)
        ezkl.gen_settings(at("model.onnx"), at("settings.json"))
        ezkl.calibrate_settings(at("input.json"), at("model.onnx"), at("settings.json"), "resources")
        ezkl.compile_circuit(at("model.onnx"), at("model.compiled"), at("settings.json"))
        with open(at("settings.json")) as file:
            logrows = json.load(file)["run_args"]["logrows"]
        ezkl.gen_srs(at("srs"), logrows)
        keys = timed(ezkl.setup, at("model.compiled"), at("vk"), at("pk"), at("srs"))
        witness = timed(ezkl.gen_witness, at("input.json"), at("model.compiled"), at("witness.json"))
        proving = timed(ezkl.prove, at("witness.json"), at("model.compiled"), at("pk"), at("proof.json"), at("srs"))
        verifying = timed(ezkl.verify, at("proof.json"), at("settings.json"), at("vk"), at("srs"))
        with open(at("proof.json")) as file:
            proof = json.load(file)["proof"]
        size = len(proof) if isinstance(proof, list) else (len(proof) - 2) // 2
        key = os.path.getsize(at("pk"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "model": name,
        "prove_ms": 1e3 * (witness + proving),
        "verify_ms": 1e3 * verifying,
        "proof_kib": size / 1024,
        "keys_ms": 1e3 * keys,
        "key_mb": key / 1e6,
        "peak_mb": peak,
    }


def one_thread(command):
    """Runs on one core, with one worker thread in whatever asks for a number."""
    env = dict(os.environ, RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1")
    out = subprocess.run(["taskset", "-c", "0", *command], env=env, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in out.stdout.decode().splitlines() if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--peer", nargs="*", default=["mlp"], choices=sorted(PEERS))
    parser.add_argument("--rounds", default="5")
    parser.add_argument("--ours", required=not any(arg.startswith("--ezkl") for arg in sys.argv))
    parser.add_argument("--ezkl")
    args = parser.parse_args()
    if args.ezkl:
        print(json.dumps(ezkl_times(args.ezkl)))
        return
    peers = {}
    for name in args.peer:
        [peers[name]] = one_thread([sys.executable, __file__, "--ezkl", name])
    print("| model | parameters | requests | prove | verify | proof | bits | memory | ezkl: prove | verify | proof | memory | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    ours = []
    for name in args.models or ["mlp", "lenet", "dense", "cnn", "encoder", "batch"]:
        ours += one_thread([args.ours, name, "--rounds", args.rounds])
    for row in ours:
        peer = peers.get(row["model"])
        theirs = (
            f"{peer['prove_ms'] / 1e3:.1f} s | {peer['verify_ms']:.0f} ms | {peer['proof_kib']:.0f} KiB | "
            f"{peer['peak_mb']} MB | {peer['prove_ms'] / row['prove_ms']:.0f} x"
            if peer
            else "| | | |"
        )
        print(
            f"| {row['model']} | {row['parameters']:,} | {row['requests']} | {row['prove_ms']:.0f} ms | "
            f"{row['verify_ms']:.1f} ms | {row['proof_kib']:.0f} KiB | {row['bits']:.1f} | {row['peak_mb']} MB | {theirs} |"
        )
    for peer in peers.values():
        print(f"ezkl, once for {peer['model']}: keys {peer['keys_ms'] / 1e3:.1f} s, {peer['key_mb']:.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
