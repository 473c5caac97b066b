#!/usr/bin/env python3
"""A second verifier of Hallmark's signed streams, written from spec/stream.md alone.

It reads a stream as it was received (server-sent events with their comment lines), and says how many events held and how it ended.
Keys, certificates, envelopes and commitments are those of receipts: see verify_receipt.py beside this file.

    verify_stream.py --node ID --request JSON [--now MS] FILE...          one line a stream; exit code 0 if all are sealed, 1 otherwise
    verify_stream.py --json --node ID --request JSON [--now MS] FILE...   {"FILE": {"held": COUNT, "end": WORD, "claim": ID}, ...}

ID is the node's identity (64 hex digits), JSON the request in its canonical form (RFC 8785). A stream ends `sealed`, `cut`, or with the word for what
was wrong at the event that follows those that held.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import time

from verify_receipt import CERTIFICATE, Bad, Envelope, H, array, canonical, certificate, commitment, key_id, members, need, parse
from verify_receipt import unbase64, unhex, verify

MAX_LINE = 1 << 20
MAX_U64 = 2**64 - 1
EVENT, SEAL = "application/vnd.hallmark.stream-event", "application/vnd.hallmark.stream-seal"


class End(Exception):
    """How a stream ends before its seal."""


def check(condition, word):
    if not condition:
        raise End(word)


def in_force(envelope, purpose, now):
    """§1: a certificate (identity, key) for this purpose, in force."""
    found = certificate(envelope)
    check(found is not None, "certificate")
    identity, key, got, (not_before, not_after) = found
    check(got == purpose, "purpose")
    check(not_before <= now <= not_after, "validity")
    return identity, key


def request_commitment(request, salt):
    """§2: the string tensor `request` of shape [1]."""
    text = request.encode()
    data = len(text).to_bytes(4, "little") + text
    opening = {"name": "request", "dtype": "string", "shape": [1], "salt": salt, "data": base64.b64encode(data).decode()}
    return commitment(opening)


class Stream:
    def __init__(self, node, request, now):
        self.node, self.request_text, self.now = node, request, now
        self.key = self.request = self.head = None
        self.index, self.claim = 0, None
        self.events = []
        self.clear()

    def clear(self):
        self.mark = self.name = self.data = None

    def pending(self):
        return (self.mark, self.name, self.data) != (None, None, None)

    def preamble(self, text):
        check(self.key is None and self.claim is None, "preamble")
        data = text.encode()
        value = parse(data, MAX_LINE)
        need(canonical(value) == data, "not canonical")
        members(value, ["certificates", "format", "request_salt", "salt"])
        need(value["format"] == "hallmark-stream/1", "another format")
        envelopes = [Envelope(item, CERTIFICATE) for item in array(value["certificates"], 2)]
        need(len(envelopes) == 2, "two certificates")
        unhex(value["request_salt"], 32)
        salt = unhex(value["salt"], 32)
        identity, receipt = in_force(envelopes[0], "receipt", self.now)
        check(key_id(identity) == self.node, "node")
        issuer, session = in_force(envelopes[1], "stream", self.now)
        check(issuer == receipt, "issuer")
        self.request = request_commitment(self.request_text, value["request_salt"])
        self.head = H("stream", salt, self.request)
        self.key = session

    def comment(self, text):
        word, _, rest = text.partition(" ")
        if word == "hallmark-stream":
            self.preamble(rest)
        elif word in ("hallmark-event", "hallmark-seal"):
            check(self.mark is None, "signatures")
            words = rest.split(" ")
            seal = word == "hallmark-seal"
            need(len(words) == (3 if seal else 2), "an index, a claim in a seal, and a signature")
            need(re.fullmatch("0|[1-9][0-9]{0,19}", words[0]) and int(words[0]) <= MAX_U64, "an index")
            claim = unhex(words[1], 32) if seal else None
            self.mark = int(words[0]), claim, unbase64(words[-1], 64)

    def dispatch(self):
        """§4: an event is given once its signature held."""
        mark, name, data = self.mark, self.name, self.data
        self.clear()
        check(self.claim is None, "after-seal")
        check(self.key is not None, "preamble")
        check(mark is not None, "signatures")
        index, claim, signature = mark
        check(index == self.index, "index")
        check(data is not None, "data-lines")
        name = "message" if name is None else name
        label = name.encode()
        self.head = H("stream-event", self.head, len(label).to_bytes(4, "little"), label, data.encode())
        payload = self.request + index.to_bytes(8, "big") + self.head + (claim or b"")
        kind = EVENT if claim is None else SEAL
        check(verify(self.key, "ed25519", key_id(self.key), kind, payload, signature), "signature")
        self.index += 1
        self.claim = claim
        self.events.append((name, data))

    def line(self, line):
        check("\r" not in line, "line")
        if not line:
            if self.pending():
                self.dispatch()
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "":
            self.comment(value)
        elif field == "event":
            self.name = value
        elif field == "data":
            check(self.data is None, "data-lines")
            self.data = value

    def read(self, data):
        """How the stream ends."""
        lines = data.split(b"\n")
        try:
            for number, line in enumerate(lines):
                last = number + 1 == len(lines)
                check(len(line) + (not last) <= MAX_LINE, "line")
                if last:
                    check(self.claim is None or not (line or self.pending()), "after-seal")
                    check(self.claim is not None, "cut")
                    return "sealed"
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    raise End("line") from error
                self.line(text)
        except End as end:
            return str(end)
        except Bad:
            return "format"


def whole(node, request, now, preamble, seal, body):
    """§6: an answer that came at once, by its headers and every byte of its body. Gives the claim, or raises Bad or End."""
    stream = Stream(node, request, now)
    stream.preamble(preamble)
    stream.comment("hallmark-seal " + seal)
    stream.name, stream.data = "whole", hashlib.sha256(body).hexdigest()
    stream.dispatch()
    return stream.claim


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--node", required=True)
    parser.add_argument("--request", required=True)
    parser.add_argument("--now", type=int, default=int(time.time() * 1000))
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(arguments)
    try:
        node = unhex(options.node, 32)
    except Bad as error:
        parser.error(f"--node: {error}")
    results = {}
    for file in options.files:
        stream = Stream(node, options.request, options.now)
        with open(file, "rb") as data:
            end = stream.read(data.read())
        results[file] = {"end": end, "held": len(stream.events)}
        if end == "sealed":
            results[file]["claim"] = stream.claim.hex()
    if options.json:
        print(json.dumps(results, indent=1, sort_keys=True))
    else:
        for file, result in results.items():
            print(f"{file}: {result['held']} events held, {result['end']}" + (f", claim {result['claim']}" if "claim" in result else ""))
    return int(any(result["end"] != "sealed" for result in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
