#!/usr/bin/env python3
"""A second verifier of Hallmark receipts, written from spec/receipt.md alone.

It reads bundles with a JSON parser, SHA-256 and an Ed25519/P-256 library (`pip install cryptography`), and checks certificates,
signatures, the claim's id and every commitment. It re-runs nothing, checks no proof and trusts nobody: what it says is whether a bundle holds
together, not whether to believe it.

    verify_receipt.py BUNDLE...            one line a bundle; exit code 0 if all hold together, 1 otherwise
    verify_receipt.py --json BUNDLE...     {"FILE": {"CHECK": "passed" | "failed" | "not checked", ...}, ...}
"""

import base64
import hashlib
import json
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_INTEGER = 2**53 - 1
MAX_BUNDLE, MAX_PAYLOAD, MAX_GRAPH, MAX_DATA, MAX_ITEM = 128 << 20, 1 << 20, 32 << 20, 48 << 20, 1 << 20
KINDS = ["signature", "replay", "tee", "zk"]
# Kinds that need no signature: receipts never list them (§9.2).
PROVE_THEMSELVES = {"zk"}
MAX_CLAIMS, MAX_INTEGERS, MAX_PROOF = 4096, 1 << 20, 4 << 20
PURPOSES = ["receipt", "stream", "opengradient-rsa", "tls", "hpke"]
STATEMENT = "application/vnd.in-toto+json"
CERTIFICATE = "application/vnd.hallmark.certificate+json"
CLAIM_ID = "application/vnd.hallmark.claim-id"
ATTESTED_CLAIM = "application/vnd.hallmark.attested-claim"
# ONNX's codes and the bytes of one element (§4.1).
DTYPES = {
    "float32": (1, 4), "uint8": (2, 1), "int8": (3, 1), "uint16": (4, 2), "int16": (5, 2), "int32": (6, 4), "int64": (7, 8),
    "string": (8, 0), "bool": (9, 1), "float16": (10, 2), "float64": (11, 8), "uint32": (12, 4), "uint64": (13, 8),
    "bfloat16": (16, 2),
}
# Per float type: bits of the exponent's mask, of the fraction's mask, and the one NaN.
NANS = {
    "float32": (0x7F800000, 0x007FFFFF, 0x7FC00000),
    "float64": (0x7FF0000000000000, 0x000FFFFFFFFFFFFF, 0x7FF8000000000000),
    "float16": (0x7C00, 0x03FF, 0x7E00),
    "bfloat16": (0x7F80, 0x007F, 0x7FC0),
}
ED25519_P = 2**255 - 19
# The y coordinates of the eight points of small order.
ED25519_WEAK = {
    0, 1, ED25519_P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}
P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Bad(Exception):
    """What a document is refused for."""


def need(condition, what):
    if not condition:
        raise Bad(what)


# --- §1 JSON ------------------------------------------------------------------------------------------------------------


def parse(data, limit=MAX_BUNDLE):
    need(len(data) <= limit, "too long")
    count = 0

    def integer(text):
        need(text != "-0" and abs(int(text)) <= MAX_INTEGER, "integer out of range")
        return int(text)

    def refuse(text):
        raise Bad(f"{text}: not a plain integer")

    def pairs(members):
        names = [name for name, _ in members]
        need(len(set(names)) == len(names), "duplicate member")
        return dict(members)

    def walk(value, depth):
        nonlocal count
        count += 1
        need(depth < 32 and count <= 1_000_000, "too deep or too many values")
        need(value is not None, "null")
        if isinstance(value, str):
            value.encode()  # a lone surrogate is no UTF-8
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(inner, depth + 1)
        for name in value if isinstance(value, dict) else ():
            name.encode()

    try:
        value = json.loads(
            data.decode(), object_pairs_hook=pairs, parse_int=integer, parse_float=refuse, parse_constant=refuse
        )
        walk(value, 0)
    except (ValueError, RecursionError) as error:
        raise Bad(f"not JSON: {error}") from error
    return value


def canonical(value):
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return b"{" + b",".join(canonical(n) + b":" + canonical(v) for n, v in members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


def members(value, required, optional=()):
    need(isinstance(value, dict), "expected an object")
    need(set(required) <= set(value) <= set(required) | set(optional), f"members {sorted(value)}")
    return value


def text(value, limit):
    need(isinstance(value, str) and 1 <= len(value.encode()) <= limit, "expected text")
    return value


def name(value):
    # Control characters are Unicode's category Cc.
    need(not re.search("[\x00-\x1f\x7f-\x9f]", text(value, 128)), "control character")
    return value


def integer(value):
    need(type(value) is int and value >= 0, "expected an integer of 0 or more")
    return value


def array(value, limit):
    need(isinstance(value, list) and len(value) <= limit, "expected a list")
    return value


def unhex(value, size):
    need(isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value), f"expected {2 * size} hex digits")
    return bytes.fromhex(value)


def unbase64(value, limit):
    need(isinstance(value, str), "expected text")
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
    except ValueError as error:
        raise Bad("not base64") from error
    need(base64.b64encode(data).decode() == value, "not the one base64 form")
    need(len(data) <= limit, "too long")
    return data


# --- §2 hashes, §3 trees, §4 commitments ----------------------------------------------------------------------------------


def H(domain, *parts):
    return hashlib.sha256(b"hallmark." + domain.encode() + b".v1\0" + b"".join(parts)).digest()


def root(domain, leaves):
    def tree(nodes):
        if len(nodes) == 1:
            return nodes[0]
        middle = 1 << (len(nodes) - 1).bit_length() - 1
        return H("merkle-node", tree(nodes[:middle]), tree(nodes[middle:]))

    top = tree([H("merkle-leaf", leaf) for leaf in leaves]) if leaves else bytes(32)
    return H(domain, len(leaves).to_bytes(8, "big"), top)


def u32(number):
    return number.to_bytes(4, "little")


def elements(dtype, shape, data):
    code, size = DTYPES[dtype]
    count = 0 if 0 in shape else 1
    for dim in shape:
        count *= dim
    if dtype == "string":
        at = 0
        for _ in range(count):
            need(at + 4 <= len(data), "too few bytes")
            length = int.from_bytes(data[at : at + 4], "little")
            need(at + 4 + length <= len(data), "too few bytes")
            try:
                data[at + 4 : at + 4 + length].decode()
            except UnicodeDecodeError as error:
                raise Bad("text is not UTF-8") from error
            at += 4 + length
        need(at == len(data), "too many bytes")
        return
    need(count * size == len(data), "bytes do not fit the shape")
    if dtype == "bool":
        need(set(data) <= {0, 1}, "truth values are 0 or 1")
    if dtype in NANS:
        exponent, fraction, nan = NANS[dtype]
        for at in range(0, len(data), size):
            bits = int.from_bytes(data[at : at + size], "little")
            need(bits & exponent != exponent or bits & fraction == 0 or bits == nan, "another NaN")


def commitment(opening):
    members(opening, ["data", "dtype", "name", "salt", "shape"])
    label = text(opening["name"], 1024).encode()
    dtype = opening["dtype"]
    need(isinstance(dtype, str) and dtype in DTYPES, "unknown element type")
    shape = [integer(dim) for dim in array(opening["shape"], 32)]
    data = unbase64(opening["data"], MAX_DATA)
    salt = unhex(opening["salt"], 32)
    elements(dtype, shape, data)
    dims = b"".join(dim.to_bytes(8, "little") for dim in shape)
    encoding = u32(len(label)) + label + bytes([DTYPES[dtype][0]]) + u32(len(shape)) + dims + data
    return H("tensor", salt, encoding)


# --- §5 keys, §6 envelopes ------------------------------------------------------------------------------------------------


def public_key(value):
    members(value, ["alg", "key"])
    need(value["alg"] in ("ed25519", "p256"), "unknown algorithm")
    key = unhex(value["key"], 32 if value["alg"] == "ed25519" else 33)
    try:
        if value["alg"] == "ed25519":
            y = int.from_bytes(key, "little") & (2**255 - 1)
            need(y < ED25519_P and y not in ED25519_WEAK and on_curve(y), "weak or non-canonical key")
            Ed25519PublicKey.from_public_bytes(key)
        else:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    except ValueError as error:
        raise Bad("not a key") from error
    return value["alg"], key


def on_curve(y):
    d = -121665 * pow(121666, -1, ED25519_P)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, ED25519_P) % ED25519_P
    return x2 == 0 or pow(x2, (ED25519_P - 1) // 2, ED25519_P) == 1


def key_id(key):
    return H("key", key[0].encode(), b"\0", key[1])


def verify(key, alg, signer, payload_type, payload, signature):
    """§5.2 and §6.1: one key, one algorithm, one form of signature."""
    if signer != key_id(key) or alg != key[0] or len(signature) != 64:
        return False
    kind = payload_type.encode()
    message = b"DSSEv1 %d %s %d " % (len(kind), kind, len(payload)) + payload
    try:
        if alg == "ed25519":
            if int.from_bytes(signature[:32], "little") & (2**255 - 1) in ED25519_WEAK:
                return False
            Ed25519PublicKey.from_public_bytes(key[1]).verify(signature, message)
        else:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            if not (0 < r < P256_N and 0 < s <= P256_N // 2):
                return False
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key[1])
            point.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


class Envelope:
    def __init__(self, value, payload_type):
        members(value, ["payload", "payloadType", "signatures"])
        need(value["payloadType"] == payload_type, "another payload type")
        need(isinstance(value["signatures"], list) and len(value["signatures"]) == 1, "exactly one signature")
        signature = members(value["signatures"][0], ["alg", "keyid", "sig"])
        need(signature["alg"] in ("ed25519", "p256"), "unknown algorithm")
        self.type, self.alg = payload_type, signature["alg"]
        self.payload = unbase64(value["payload"], MAX_PAYLOAD)
        self.keyid, self.sig = unhex(signature["keyid"], 32), unbase64(signature["sig"], 64)

    def document(self, limit):
        value = parse(self.payload, limit)
        need(canonical(value) == self.payload, "not canonical")
        return value

    def verify(self, key):
        return verify(key, self.alg, self.keyid, self.type, self.payload, self.sig)


def certificate(envelope):
    """§7.1; None if it does not hold."""
    try:
        value = envelope.document(4096)
        members(value, ["_type", "identity", "key", "not_after", "not_before", "purpose"])
        need(value["_type"] == "https://hallmark.network/certificate/v1", "another type")
        need(value["purpose"] in PURPOSES, "unknown purpose")
        identity, key = public_key(value["identity"]), public_key(value["key"])
        period = integer(value["not_before"]), integer(value["not_after"])
        need(period[0] <= period[1], "empty validity")
        need(envelope.verify(identity), "signature")
    except Bad:
        return None
    return identity, key, value["purpose"], period


# --- §8 claims, §10 statements, §12 bundles -------------------------------------------------------------------------------


def claim_id(claim):
    members(
        claim, ["inputs", "model", "network", "node", "nonce", "outputs", "parameters", "parents", "request_id"]
    )
    need(isinstance(claim["model"], dict), "expected an object")
    if "id" in claim["model"]:
        members(claim["model"], ["id"])
        model = b"\x01" + unhex(claim["model"]["id"], 32)
    else:
        members(claim["model"], ["name", "provider"])
        model = b"\x02" + name(claim["model"]["provider"]).encode() + b"\0" + name(claim["model"]["name"]).encode()
    need(isinstance(claim["parameters"], dict), "expected an object")
    parameters = canonical(claim["parameters"])
    need(len(parameters) <= 64 << 10, "too many parameters")
    fields = [
        name(claim["network"]).encode(),
        unhex(claim["node"], 32),
        unhex(claim["request_id"], 16),
        unhex(claim["nonce"], 32),
        model,
        unhex(claim["inputs"], 32),
        unhex(claim["outputs"], 32),
        parameters,
        b"".join(unhex(parent, 32) for parent in array(claim["parents"], 64)),
    ]
    return root("claim", [bytes([index]) + field for index, field in enumerate(fields)])


def in_order(kinds):
    need(all(kind in KINDS for kind in kinds), "unknown kind of evidence")
    places = [KINDS.index(kind) for kind in kinds]
    need(places == sorted(set(places)), "each kind once, in order")


def statement(value):
    members(value, ["_type", "predicate", "predicateType", "subject"])
    need(value["_type"] == "https://in-toto.io/Statement/v1", "another type")
    need(value["predicateType"] == "https://hallmark.network/receipt/v1", "another predicate")
    need(isinstance(value["subject"], list) and len(value["subject"]) == 1, "exactly one subject")
    subject = members(value["subject"][0], ["digest", "name"])
    need(subject["name"] == "outputs", "another subject")
    unhex(members(subject["digest"], ["hallmarkOutputs"])["hallmarkOutputs"], 32)
    predicate = members(
        value["predicate"], ["claim", "claim_id", "evidence", "graph", "signer", "time"], ["price"]
    )
    claim_id(predicate["claim"])
    unhex(predicate["claim_id"], 32), unhex(predicate["signer"], 32), integer(predicate["time"])
    need(isinstance(predicate["graph"], bool), "expected a truth value")
    for item in array(predicate["evidence"], len(KINDS)):
        unhex(members(item, ["digest", "kind"])["digest"], 32)
    in_order([item["kind"] for item in predicate["evidence"]])
    need(all(item["kind"] not in PROVE_THEMSELVES for item in predicate["evidence"]), "a kind that receipts never list")
    if "price" in predicate:
        price = members(predicate["price"], ["amount", "asset"])
        need(re.fullmatch("0|[1-9][0-9]{0,77}", text(price["amount"], 78)), "decimal digits")
        name(price["asset"])
    return subject["digest"]["hallmarkOutputs"], predicate


def evidence_item(item):
    need(isinstance(item, dict) and item.get("kind") in KINDS, "unknown kind of evidence")
    if item["kind"] == "signature":
        members(item, ["alg", "claim_id", "keyid", "kind", "sig"])
        need(item["alg"] in ("ed25519", "p256"), "unknown algorithm")
        unhex(item["keyid"], 32), unbase64(item["sig"], 64)
    elif item["kind"] == "tee":
        members(item, ["alg", "claim_id", "environment", "keyid", "kind", "sig"])
        need(item["alg"] in ("ed25519", "p256"), "unknown algorithm")
        unhex(item["keyid"], 32), unbase64(item["sig"], 64)
        environment(item["environment"])
    elif item["kind"] == "zk":
        members(item, ["claim_id", "claims", "integers", "kind", "proof", "security", "version"])
        claims = [unhex(claim, 32) for claim in array(item["claims"], MAX_CLAIMS)]
        need(claims.count(unhex(item["claim_id"], 32)) == 1, "the own claim exactly once")
        integers = unbase64(item["integers"], 4 * MAX_INTEGERS)
        need(integers and len(integers) % 4 == 0, "4 bytes for each integer")
        filled(item["proof"], MAX_PROOF)
        need(item["security"] in ("standard", "high"), "unknown security")
        need(integer(item["version"]) < 2**32, "version out of range")
    else:
        members(item, ["claim_id", "kind", "numeric"])
        need(integer(item["numeric"]) < 2**32, "version out of range")
    unhex(item["claim_id"], 32)


def filled(value, limit):
    need(unbase64(value, limit), "at least one byte")


def environment(value):
    """§9.1: what hardware says is not judged here, only that it is in form."""
    members(value, ["certificates", "collateral", "evidence", "keys", "type"], ["event_log", "nonce", "policy"])
    text(value["type"], 32)
    last = -1
    for item in array(value["keys"], len(PURPOSES)):
        members(item, ["key", "purpose"])
        need(item["purpose"] in PURPOSES and PURPOSES.index(item["purpose"]) > last, "each purpose once, in order")
        last = PURPOSES.index(item["purpose"])
        filled(item["key"], 1024)
    for item in array(value["certificates"], 32) + array(value["collateral"], 32) + [value["evidence"]]:
        filled(item, MAX_ITEM)
    if "event_log" in value:
        filled(value["event_log"], MAX_ITEM)
    if "nonce" in value:
        filled(value["nonce"], 1024)
    if "policy" in value:
        unhex(value["policy"], 32)


def bundle(data):
    value = members(
        parse(data),
        ["certificates", "envelope", "evidence", "format"],
        ["graph", "manifest", "openings", "publications"],
    )
    need(value["format"] == "hallmark-receipt/1", "another format")
    value["envelope"] = Envelope(value["envelope"], STATEMENT)
    value["certificates"] = [Envelope(item, CERTIFICATE) for item in array(value["certificates"], 8)]
    if "openings" in value:
        openings = members(value["openings"], [], ["inputs", "outputs"])
        need(openings, "openings without inputs or outputs")
        for side in openings:
            names = [opening.get("name") for opening in array(openings[side], 256) if isinstance(opening, dict)]
            openings[side] = [commitment(opening) for opening in openings[side]]
            need(len(set(names)) == len(names), "each name once")
    for item in array(value["evidence"], len(KINDS)):
        evidence_item(item)
    in_order([item["kind"] for item in value["evidence"]])
    if "manifest" in value:
        need(isinstance(value["manifest"], dict), "expected an object")
    if "graph" in value:
        value["graph"] = unbase64(value["graph"], MAX_GRAPH)
    if "publications" in value:
        value["publications"] = [Envelope(item, STATEMENT) for item in array(value["publications"], 8)]
        need(value["publications"], "no empty list")
    return value


# --- §13 the checks --------------------------------------------------------------------------------------------------------


def check(data):
    """Outcomes by name of check."""
    try:
        held = bundle(data)
    except Bad:
        return {"bundle": False}
    checks = {"bundle": True}
    try:
        subject, predicate = statement(held["envelope"].document(MAX_PAYLOAD))
    except Bad:
        return checks | {"statement": False}
    claim, cid = predicate["claim"], predicate["claim_id"]
    manifest, model = held.get("manifest"), claim["model"].get("id")

    certified = certificate(held["certificates"][0]) if len(held["certificates"]) == 1 else None
    checks["certificate"] = certified is not None and (
        certified[2] == "receipt"
        and key_id(certified[0]).hex() == claim["node"]
        and certified[3][0] <= predicate["time"] <= certified[3][1]
    )
    checks["signature"] = held["envelope"].verify(certified[1]) if certified else None
    if subject != claim["outputs"]:
        checks["statement"] = False
    else:
        checks["statement"] = predicate["signer"] == key_id(certified[1]).hex() if certified else None
    checks["claim"] = claim_id(claim).hex() == cid

    if manifest is None:
        checks["manifest"] = False if model else None
    else:
        checks["manifest"] = model is not None and hashlib.sha256(canonical(manifest)).hexdigest() == model
    if ("graph" in held) != predicate["graph"]:
        checks["graph"] = False
    elif "graph" in held:
        checks["graph"] = manifest is not None and manifest.get("graph") == H("graph", held["graph"]).hex()
    else:
        checks["graph"] = None
    checks["publisher"] = publisher(held, model)

    for side in ("inputs", "outputs"):
        opened = held.get("openings", {}).get(side)
        checks[side] = None if opened is None else root(side, opened).hex() == claim[side]

    listed = {item["kind"]: item["digest"] for item in predicate["evidence"]}
    found = {item["kind"]: H("evidence", canonical(item)).hex() for item in held["evidence"]}
    fits = listed == {kind: digest for kind, digest in found.items() if kind not in PROVE_THEMSELVES}
    for item in held["evidence"]:
        fits &= item["claim_id"] == cid
        if item["kind"] == "replay":
            fits &= manifest is not None and type(manifest.get("numeric")) is int and manifest["numeric"] == item["numeric"]
    checks["evidence"] = fits if listed or found else None
    checks["word"] = None
    for item in held["evidence"]:
        if item["kind"] == "signature" and certified and item["claim_id"] == cid:
            signature = unbase64(item["sig"], 64)
            checks["word"] = verify(
                certified[1], item["alg"], bytes.fromhex(item["keyid"]), CLAIM_ID, bytes.fromhex(cid), signature
            )
        if item["kind"] == "zk":
            # Checking a proof is beyond this script; that it names this claim is part of `evidence`.
            checks["proof"] = None
        if item["kind"] == "tee":
            checks["attested-key"] = attested_key(item, certified, cid)
    return checks


def attested_key(item, certified, cid):
    """§13.16: the environment names the certified key, which signed it with the claim."""
    if not certified or item["claim_id"] != cid:
        return None
    held, key = item["environment"], certified[1]
    bound = base64.b64encode(key[0].encode() + b"\0" + key[1]).decode()
    if {"key": bound, "purpose": "receipt"} not in held["keys"] or len(unbase64(held.get("nonce", ""), 1024)) > 64:
        return False
    payload = bytes.fromhex(cid) + H("environment", canonical(held))
    return verify(key, item["alg"], bytes.fromhex(item["keyid"]), ATTESTED_CLAIM, payload, unbase64(item["sig"], 64))


def publisher(held, model):
    """§11: False if one does not hold; whose key it is, this verifier does not know."""
    last = b""
    try:
        for envelope in held.get("publications", []):
            value = members(envelope.document(4096), ["_type", "predicate", "predicateType", "subject"])
            need(value["_type"] == "https://in-toto.io/Statement/v1", "another type")
            need(value["predicateType"] == "https://hallmark.network/publication/v1", "another predicate")
            need(isinstance(value["subject"], list) and len(value["subject"]) == 1, "exactly one subject")
            subject = members(value["subject"][0], ["digest", "name"])
            need(subject["name"] == "manifest", "another subject")
            digest = unhex(members(subject["digest"], ["sha256"])["sha256"], 32)
            predicate = members(value["predicate"], ["key", "publisher"])
            name(predicate["publisher"])
            key = public_key(predicate["key"])
            need(envelope.verify(key) and digest.hex() == model and key_id(key) > last, "does not hold")
            last = key_id(key)
    except Bad:
        return False
    return None


def main(arguments):
    as_json = arguments[:1] == ["--json"]
    files = arguments[1:] if as_json else arguments
    if not files:
        print(__doc__, file=sys.stderr)
        return 2
    words = {True: "passed", False: "failed", None: "not checked"}
    results = {}
    for file in files:
        with open(file, "rb") as stream:
            results[file] = {title: words[outcome] for title, outcome in check(stream.read()).items()}
    if as_json:
        print(json.dumps(results, indent=1, sort_keys=True))
    else:
        for file, checks in results.items():
            failed = [title for title, outcome in checks.items() if outcome == "failed"]
            unchecked = ", proof not checked" if checks.get("proof") == "not checked" else ""
            print(f"{file}: " + (f"does not hold: {', '.join(failed)}" if failed else f"holds together{unchecked}"))
    return int(any("failed" in checks.values() for checks in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
