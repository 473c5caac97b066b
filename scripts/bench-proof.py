"""Proofs beside ezkl's, one thread each, of the same trained networks: `./x bench-proof [NETWORK ..] [--peer NETWORK ..]`.

The networks are `models/proof_networks.py`'s, trained on first use. `hallmark model quantize` makes integers of them, and its error and
the accuracy before and after stand in the table. Times are of `crates/proof/examples/prove_bench`: from quantised input to proof bytes, the
model's commitment at hand. ezkl runs offline on the float network with a setup of its own (`gen_srs`); what it needs once a model (keys)
is printed apart. By default ezkl proves the perceptron alone; `--peer mlp lenet` takes a quarter of an hour and 11 GB.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx

NETWORKS = ["mlp", "lenet", "dense", "cnn", "encoder"]
# Requests of one proof for the row `batch`, which are requests to the network `dense`.
BATCH = 64


def ezkl_times(folder):
    """Times of ezkl in this process, which the caller starts anew for each model; each stage is told, for some take many minutes."""
    import ezkl

    def step(f, *args):
        start = time.perf_counter()
        f(*args)
        seconds = time.perf_counter() - start
        print(f"ezkl, {folder.name}: {f.__name__} {seconds:.1f} s", file=sys.stderr)
        return seconds

    model = onnx.load(folder / "model.onnx")
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    [held] = np.load(folder / "held.npz").values()
    with tempfile.TemporaryDirectory() as scratch:
        at = lambda file: os.path.join(scratch, file)
        onnx.save(model, at("model.onnx"))
        with open(at("input.json"), "w") as file:
            json.dump({"input_data": [held[0].astype(float).ravel().tolist()]}, file)
        step(ezkl.gen_settings, at("model.onnx"), at("settings.json"))
        step(ezkl.calibrate_settings, at("input.json"), at("model.onnx"), at("settings.json"), "resources")
        step(ezkl.compile_circuit, at("model.onnx"), at("model.compiled"), at("settings.json"))
        with open(at("settings.json")) as file:
            logrows = json.load(file)["run_args"]["logrows"]
        step(ezkl.gen_srs, at("srs"), logrows)
        keys = step(ezkl.setup, at("model.compiled"), at("vk"), at("pk"), at("srs"))
        witness = step(ezkl.gen_witness, at("input.json"), at("model.compiled"), at("witness.json"))
        proving = step(ezkl.prove, at("witness.json"), at("model.compiled"), at("pk"), at("proof.json"), at("srs"))
        verifying = step(ezkl.verify, at("proof.json"), at("settings.json"), at("vk"), at("srs"))
        with open(at("proof.json")) as file:
            proof = json.load(file)["proof"]
        size = len(proof) if isinstance(proof, list) else (len(proof) - 2) // 2
        key = os.path.getsize(at("pk"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "model": folder.name,
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


def quantised(hallmark, folder):
    """Makes quantised.onnx and rows.bin in the folder of a network; the quantiser's report with the accuracy on held-out rows."""
    with tempfile.TemporaryDirectory() as home:
        def run(*args):
            return subprocess.run([hallmark, "--home", home, "--json", *map(str, args)], stdout=subprocess.PIPE, check=True).stdout

        def accuracy(model):
            run("infer", model, "--input", folder / "held.npz", "--output", folder / "answers.npz")
            [answers] = np.load(folder / "answers.npz").values()
            return float((answers.argmax(1) == np.load(folder / "labels.npy")).mean())

        report = json.loads(
            run("model", "quantize", folder / "model.onnx", "--calibrate", folder / "calibrate.npz", "--name", folder.name)
        )
        shutil.copy(pathlib.Path(home) / "models" / report["id"] / "files" / "model.onnx", folder / "quantised.onnx")
        [held] = np.load(folder / "held.npz").values()
        (folder / "rows.bin").write_bytes(held[:BATCH].tobytes())
        report["accuracy"] = {"before": accuracy(folder / "model.onnx"), "after": accuracy(folder.name)}
        return report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS, "batch"])
    parser.add_argument("--peer", nargs="*", default=["mlp"], choices=NETWORKS)
    parser.add_argument("--rounds", default="5")
    parser.add_argument("--work", type=pathlib.Path, help="a folder for the trained networks")
    parser.add_argument("--ours", help="prove_bench")
    parser.add_argument("--hallmark", help="the release binary")
    parser.add_argument("--ezkl", type=pathlib.Path)
    args = parser.parse_args()
    if args.ezkl:
        print(json.dumps(ezkl_times(args.ezkl)))
        return
    wanted = args.networks or [*NETWORKS, "batch"]
    source = {name: "dense" if name == "batch" else name for name in wanted}
    needed = dict.fromkeys([*source.values(), *args.peer])
    missing = [name for name in needed if not (args.work / name / "model.onnx").exists()]
    if missing:
        script = pathlib.Path(__file__).parent.parent / "models" / "proof_networks.py"
        print(f"training {', '.join(missing)} (minutes)", file=sys.stderr)
        subprocess.run([sys.executable, script, args.work, *missing], check=True)
    reports = {name: quantised(args.hallmark, args.work / name) for name in dict.fromkeys(source.values())}
    peers = {}
    for name in args.peer:
        [peers[name]] = one_thread([sys.executable, __file__, "--ezkl", str(args.work / name)])
    print("| network | parameters | accuracy: float | int8 | prove | verify | proof | bits | memory | commit, once | ezkl: prove | verify | proof | memory | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in wanted:
        requests = BATCH if name == "batch" else 1
        command = [args.ours, str(args.work / source[name]), "--requests", str(requests), "--rounds", args.rounds]
        [row] = one_thread(command)
        before, after = reports[source[name]]["accuracy"].values()
        peer = peers.get(name)
        theirs = (
            f"{peer['prove_ms'] / 1e3:.1f} s | {peer['verify_ms']:.0f} ms | {peer['proof_kib']:.0f} KiB | "
            f"{peer['peak_mb']:,} MB | {peer['prove_ms'] / row['prove_ms']:,.0f} x"
            if peer
            else "| | | |"
        )
        each = f" ({row['prove_ms'] / requests:.1f} a request)" if requests > 1 else ""
        print(
            f"| {name} | {row['parameters']:,} | {before:.2%} | {after:.2%} | {row['prove_ms']:.0f} ms{each} | {row['verify_ms']:.1f} ms | "
            f"{row['proof_kib']:.0f} KiB | {row['bits']:.1f} | {row['peak_mb']} MB | {row['commit_ms']:.0f} ms | {theirs} |"
        )
    for peer in peers.values():
        print(f"ezkl, once for {peer['model']}: keys {peer['keys_ms'] / 1e3:.1f} s, {peer['key_mb']:,.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
