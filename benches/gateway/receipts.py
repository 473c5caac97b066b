"""What both peers do with an answer: the receipt of spec/receipt.md, with the hashes over the same bytes and the two signatures
that the gateway makes, kept in memory with its openings as the gateway keeps it. `scripts/bench-gateway.py` has the second
verifier check one of each peer's before it measures.
"""

import base64
import collections
import hashlib
import json
import os
import struct
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEPT = 4096
STATEMENT, CERTIFICATE, CLAIM_ID = (
    b"application/vnd.in-toto+json", b"application/vnd.hallmark.certificate+json", b"application/vnd.hallmark.claim-id",
)
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
sha256 = hashlib.sha256


def domain(name):
    return b"hallmark." + name + b".v1\0"


TENSOR, LEAF, NODE, INPUTS, OUTPUTS, CLAIM, EVIDENCE, KEY = map(
    domain, (b"tensor", b"merkle-leaf", b"merkle-node", b"inputs", b"outputs", b"claim", b"evidence", b"key")
)


def root(prefix, leaves):
    level = [sha256(LEAF + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        # An odd one out moves up: the shape of RFC 6962.
        pairs = [sha256(NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return sha256(prefix + struct.pack(">Q", len(leaves)) + level[0]).digest()


def commitment(name, text, salt):
    data, name = text.encode(), name.encode()
    encoding = struct.pack("<I", len(name)) + name + b"\x08" + struct.pack("<IQI", 1, 1, len(data)) + data
    return sha256(TENSOR + salt + encoding).digest()


def to_sign(kind, payload):
    return b"DSSEv1 %d %s %d " % (len(kind), kind, len(payload)) + payload


def base64_of(data):
    return base64.b64encode(data).decode()


class Key:
    def __init__(self):
        self.pair = Ed25519PrivateKey.generate()
        public = self.pair.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.value = {"alg": "ed25519", "key": public.hex()}
        self.id = sha256(KEY + b"ed25519\0" + public).digest()

    def envelope(self, kind, payload):
        signature = {"alg": "ed25519", "keyid": self.id.hex(), "sig": base64_of(self.pair.sign(to_sign(kind, payload)))}
        return {"payload": base64_of(payload), "payloadType": kind.decode(), "signatures": [signature]}


class Notary:
    def __init__(self):
        identity, self.key = Key(), Key()
        self.node = identity.id
        certificate = {
            "_type": "https://hallmark.network/certificate/v1", "identity": identity.value, "key": self.key.value,
            "not_after": 2**52, "not_before": 0, "purpose": "receipt",
        }
        self.certificate = identity.envelope(CERTIFICATE, canonical(certificate).encode())
        self.kept = collections.OrderedDict()

    def settle(self, body, message, model):
        """Issues and keeps the receipt of a request (parsed) and an answer's message; gives the claim's id, the request's id
        and the capability."""
        drawn = os.urandom(144)
        request_id, nonce, capability, salts = drawn[:16], drawn[16:48], drawn[48:80], (drawn[80:112], drawn[112:])
        request, response = canonical(body), canonical(message)
        inputs = root(INPUTS, [commitment("request", request, salts[0])])
        outputs = root(OUTPUTS, [commitment("response", response, salts[1])])
        provider, name = model
        claim_id = root(CLAIM, [
            b"\0bench", b"\1" + self.node, b"\2" + request_id, b"\3" + nonce,
            b"\4\2" + provider.encode() + b"\0" + name.encode(), b"\5" + inputs, b"\6" + outputs, b"\7{}", b"\x08",
        ])
        hexed, keyid = claim_id.hex(), self.key.id.hex()
        word = self.key.pair.sign(to_sign(CLAIM_ID, claim_id))
        evidence = {"alg": "ed25519", "claim_id": hexed, "keyid": keyid, "kind": "signature", "sig": base64_of(word)}
        claim = {
            "inputs": inputs.hex(), "model": {"name": name, "provider": provider}, "network": "bench", "node": self.node.hex(),
            "nonce": nonce.hex(), "outputs": outputs.hex(), "parameters": {}, "parents": [], "request_id": request_id.hex(),
        }
        digest = sha256(EVIDENCE + canonical(evidence).encode()).hexdigest()
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": {
                "claim": claim, "claim_id": hexed, "evidence": [{"digest": digest, "kind": "signature"}], "graph": False,
                "signer": keyid, "time": time.time_ns() // 1_000_000,
            },
            "predicateType": "https://hallmark.network/receipt/v1",
            "subject": [{"digest": {"hallmarkOutputs": claim["outputs"]}, "name": "outputs"}],
        }
        envelope = self.key.envelope(STATEMENT, canonical(statement).encode())
        who = sha256(b"hallmark capability" + capability).digest()
        self.kept[hexed] = (envelope, evidence, request, response, salts, who)
        if len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return hexed, request_id.hex(), base64.urlsafe_b64encode(capability).decode().rstrip("=")

    def bundle(self, claim_id):
        """A kept receipt with its openings, as a file."""
        envelope, evidence, request, response, salts, _ = self.kept[claim_id]
        opening = lambda name, text, salt: {
            "data": base64_of(struct.pack("<I", len(text.encode())) + text.encode()), "dtype": "string", "name": name,
            "salt": salt.hex(), "shape": [1],
        }
        openings = {"inputs": [opening("request", request, salts[0])], "outputs": [opening("response", response, salts[1])]}
        return {
            "certificates": [self.certificate], "envelope": envelope, "evidence": [evidence],
            "format": "hallmark-receipt/1", "openings": openings,
        }


def answered(notary, body, answer):
    """The upstream's answer with its receipt: the body that goes out, and its headers."""
    message = answer["choices"][0]["message"]
    claim_id, request_id, capability = notary.settle(body, message, ("local", body["model"]))
    answer["id"] = "chatcmpl-" + request_id
    answer["hallmark"] = {"receipt": claim_id}
    return answer, {"x-hallmark-receipt": claim_id, "x-hallmark-capability": capability, "x-request-id": request_id}
