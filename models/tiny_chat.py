"""tiny-chat: a chat model of a million parameters in the Llama shape, trained on one CPU core in less than an hour.

    tiny_chat.py [--minutes M] [--folder CACHE] [--export]

Trains for M minutes of wall time (default 45): the learning rate follows a cosine of the time that has passed. A checkpoint in
CACHE is written every two minutes and gone on with; `--export` writes and scores the model of the last checkpoint, as does the end of
training. What is scored is the exported file: bf16 weights, widened to f32."""

import argparse
import json
import math
import pathlib
import random
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import byte_baselines
from chat_text import HELD_OUT, chats, render, topics

HERE = pathlib.Path(__file__).parent
SHIPPED = HERE / "tiny-chat"
NAME, SEED = "tiny-chat", 20261121
VOCAB, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, HIDDEN = 2048, 128, 4, 4, 2, 32, 352
THETA, EPSILON, CONTEXT = 10000.0, 1e-5, 512
ALLOWED = 2048  # tokens that the file allows: positions are rotations, so longer chats work, unlearnt
LENGTH, ROWS, RATE, WARMUP, DECAY = 192, 8, 4e-3, 100, 0.1
TALKS = 10  # how often an epoch has each dialogue
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


# Text to rows of tokens

def train_tokenizer(texts):
    """Byte-level BPE, split as GPT-2 splits. Chats never merge across a control token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((text.replace(START, "\n").replace(END, "\n") for text in texts), trainer)
    return tokenizer


def pack(rows, length):
    """Whole chats to rows of `length` + 1 tokens, and beside each token the number of its chat in the row (0: padding)."""
    packed, row, segments, number = [], [], [], 0
    for tokens in rows:
        if row and len(row) + len(tokens) > length + 1:
            packed.append((row, segments))
            row, segments, number = [], [], 0
        number += 1
        kept = tokens[: length + 1]
        row, segments = row + kept, segments + [number] * len(kept)
    packed.append((row, segments))
    tokens = np.zeros((2, len(packed), length + 1), np.int32)
    for at, both in enumerate(packed):
        for which, values in enumerate(both):
            tokens[which, at, : len(values)] = values
    return tokens


def batches(tokenizer, common, rare, talks):
    """Endless batches [2, ROWS, LENGTH + 1] of tokens and segments; every epoch joins topics to chats anew."""
    for epoch in range(10**6):
        # Words in common use and, often, the few dialogues; an eighth of the rare words in turn.
        texts = [render(chat) for chat in chats(common + rare[epoch % 8 :: 8] + TALKS * talks, SEED + epoch)]
        packed = pack([e.ids for e in tokenizer.encode_batch_fast(texts)], LENGTH)
        order = np.random.default_rng(SEED + epoch).permutation(packed.shape[1])
        for start in range(0, len(order) - ROWS + 1, ROWS):
            yield epoch, packed[:, order[start : start + ROWS]]


# The model: parameters under the names of their tensors

def initial(rng):
    normal = lambda rows, columns, scale=1.0: (rng.standard_normal((rows, columns)) * scale / math.sqrt(columns)).astype(np.float32)
    params = {"model.embed_tokens.weight": (rng.standard_normal((VOCAB, WIDTH)) * 0.04).astype(np.float32),
              "model.norm.weight": np.ones(WIDTH, np.float32)}
    for n in range(LAYERS):
        at, deep = f"model.layers.{n}.", 1 / math.sqrt(2 * LAYERS)
        params |= {at + "input_layernorm.weight": np.ones(WIDTH, np.float32),
                   at + "self_attn.q_proj.weight": normal(HEADS * HEAD, WIDTH),
                   at + "self_attn.k_proj.weight": normal(KV_HEADS * HEAD, WIDTH),
                   at + "self_attn.v_proj.weight": normal(KV_HEADS * HEAD, WIDTH),
                   at + "self_attn.o_proj.weight": normal(WIDTH, HEADS * HEAD, deep),
                   at + "post_attention_layernorm.weight": np.ones(WIDTH, np.float32),
                   at + "mlp.gate_proj.weight": normal(HIDDEN, WIDTH),
                   at + "mlp.up_proj.weight": normal(HIDDEN, WIDTH),
                   at + "mlp.down_proj.weight": normal(WIDTH, HIDDEN, deep)}
    return params


def rms_norm(x, weight):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def rotate(x, cos, sin):
    """Half-rotation, as in Hugging Face: dimension i turns with i + HEAD / 2."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def forward(params, tokens, segments, dtype=jnp.float32):
    """Logits [rows, length, VOCAB]. A token sees the earlier tokens of its own segment."""
    rows, length = tokens.shape

    def linear(x, name):
        # Two axes only: XLA has no fast path on the CPU for the gradient of more.
        y = x.reshape(rows * length, -1).astype(dtype) @ params[name].astype(dtype).T
        return y.astype(jnp.float32).reshape(rows, length, -1)

    angle = np.arange(length)[:, None] * THETA ** (-np.arange(0, HEAD, 2) / HEAD)
    cos, sin = (f(angle).astype(np.float32)[:, None] for f in (np.cos, np.sin))
    seen = (segments[:, :, None] == segments[:, None]) & np.tri(length, dtype=bool)
    x = params["model.embed_tokens.weight"][tokens]
    for n in range(LAYERS):
        at = f"model.layers.{n}."
        y = rms_norm(x, params[at + "input_layernorm.weight"])
        q = rotate(linear(y, at + "self_attn.q_proj.weight").reshape(rows, length, HEADS, HEAD), cos, sin)
        k = rotate(linear(y, at + "self_attn.k_proj.weight").reshape(rows, length, KV_HEADS, HEAD), cos, sin)
        v = linear(y, at + "self_attn.v_proj.weight").reshape(rows, length, KV_HEADS, HEAD)
        q = q.reshape(rows, length, KV_HEADS, HEADS // KV_HEADS, HEAD)
        scores = jnp.einsum("btkgh,bskh->bkgts", q.astype(dtype), k.astype(dtype)).astype(jnp.float32) / math.sqrt(HEAD)
        weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, -1e30), axis=-1)
        y = jnp.einsum("bkgts,bskh->btkgh", weights.astype(dtype), v.astype(dtype)).astype(jnp.float32)
        x = x + linear(y.reshape(rows, length, HEADS * HEAD), at + "self_attn.o_proj.weight")
        y = rms_norm(x, params[at + "post_attention_layernorm.weight"])
        y = jax.nn.silu(linear(y, at + "mlp.gate_proj.weight")) * linear(y, at + "mlp.up_proj.weight")
        x = x + linear(y, at + "mlp.down_proj.weight")
    return linear(rms_norm(x, params["model.norm.weight"]), "model.embed_tokens.weight")


def losses(params, batch, dtype=jnp.float32):
    """Nats of every predicted token, and whether it counts: the next token of the same chat."""
    tokens, segments = batch
    logits = forward(params, tokens[:, :-1], segments[:, :-1], dtype)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
    counts = (segments[:, 1:] > 0) & (segments[:, 1:] == segments[:, :-1])
    return nats, counts


# Training

def checkpoint(path, tree, spent):
    arrays = {f"a{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(tree))}
    new = path.with_suffix(".new.npz")
    np.savez(new, spent=spent, **arrays)
    new.replace(path)


def restore(path, tree):
    file = np.load(path)
    leaves = [jnp.asarray(file[f"a{n}"]) for n in range(len(jax.tree.leaves(tree)))]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves), float(file["spent"])


def train(tokenizer, groups, path, minutes, dtype):
    """Minimises the loss with AdamW for `minutes` of wall time, from the checkpoint at `path` where there is one."""
    decayed = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.98), optax.add_decayed_weights(DECAY, decayed)
    )

    def mean_loss(params, batch):
        nats, counts = losses(params, batch, dtype)
        return jnp.where(counts, nats, 0).sum() / counts.sum()

    @jax.jit
    def step(params, state, batch, rate):
        loss, grads = jax.value_and_grad(mean_loss)(params, batch)
        updates, state = optimiser.update(grads, state, params)
        return jax.tree.map(lambda p, u: p - rate * u, params, updates), state, loss

    params = jax.tree.map(jnp.asarray, initial(np.random.default_rng(SEED)))
    state, spent = optimiser.init(params), 0.0
    if path.exists():
        (params, state), spent = restore(path, (params, state))
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    begun, saved, shown = time.monotonic() - spent, spent, []
    for index, (epoch, batch) in enumerate(batches(tokenizer, *groups)):
        spent = time.monotonic() - begun
        progress = spent / (60 * minutes)
        if progress >= 1 or stopped:
            break
        rate = RATE * min(1, (index + 1) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        params, state, loss = step(params, state, tuple(batch), np.float32(rate))
        shown.append(float(loss))
        if len(shown) == 25:
            tokens = (index + 1) * ROWS * LENGTH
            print(f"{spent / 60:6.1f} min  step {index + 1}  epoch {epoch}  {tokens / 1e6:.2f}M tokens  "
                  f"loss {np.mean(shown):.3f}  rate {rate:.1e}", flush=True)
            shown = []
        if spent - saved > 120:
            saved = spent
            checkpoint(path, (params, state), spent)
    checkpoint(path, (params, state), spent)


# Shipping

def export(tokenizer, params):
    SHIPPED.mkdir(exist_ok=True)
    bf16 = {name: np.asarray(value.astype(jnp.bfloat16)) for name, value in params.items()}
    save_file(bf16, SHIPPED / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(SHIPPED / "tokenizer.json"))
    start, end, pad = (tokenizer.token_to_id(t) for t in (START, END, PAD))
    write = lambda name, value: (SHIPPED / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    write("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": VOCAB,
        "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "hidden_act": "silu", "rms_norm_eps": EPSILON, "rope_theta": THETA,
        "rope_scaling": None, "max_position_embeddings": ALLOWED, "tie_word_embeddings": True, "attention_bias": False,
        "mlp_bias": False, "bos_token_id": start, "eos_token_id": end, "pad_token_id": pad, "use_cache": True})
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": None,
        "additional_special_tokens": [START, END], "add_bos_token": False, "add_eos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": ALLOWED, "chat_template": TEMPLATE})
    write("generation_config.json", {"bos_token_id": start, "eos_token_id": end, "pad_token_id": pad, "do_sample": True,
                                     "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 96})


def exported():
    """The shipped weights, widened to f32."""
    return {name: jnp.asarray(value).astype(jnp.float32) for name, value in load_file(SHIPPED / "model.safetensors").items()}


def bits(tokenizer, params, texts):
    """Bits that the model spends on `texts`, each on its own. The first token, the same for all, is given."""
    score = jax.jit(losses)
    rows, total = [e.ids for e in tokenizer.encode_batch_fast(texts)], 0.0
    assert max(map(len, rows)) <= CONTEXT + 1, "a held-out chat is longer than the context"
    packed = pack(rows, CONTEXT)
    for start in range(0, packed.shape[1], 8):
        batch = packed[:, start : start + 8]
        batch = np.pad(batch, ((0, 0), (0, 8 - batch.shape[1]), (0, 0)))
        nats, counts = score(params, tuple(batch))
        total += float(jnp.where(counts, nats, 0).sum()) / math.log(2)
    return total


@jax.jit
def likeliest(params, row, at):
    """The likeliest token after place `at` of a row [1, length]."""
    return forward(params, row, jnp.ones_like(row))[0, at].argmax()


def answer(tokenizer, params, said, limit=64):
    """The greedy answer to a conversation of (role, text)."""
    prompt = "".join(f"{START}{role}\n{text}{END}\n" for role, text in said) + f"{START}assistant\n"
    tokens, end = tokenizer.encode(prompt).ids, tokenizer.token_to_id(END)
    begin = len(tokens)
    while len(tokens) < min(CONTEXT, begin + limit):
        row = np.zeros((1, CONTEXT), np.int32)
        row[0, : len(tokens)] = tokens
        token = int(likeliest(params, row, len(tokens) - 1))
        if token == end:
            break
        tokens.append(token)
    return tokenizer.decode(tokens[begin:])


QUESTIONS = ["Hello", "Who are you?", "What is a dog?", "What is a bridge?", "What does quickly mean?", "What does it mean to run?",
             "What is another word for happy?", "Define music.", "How are you?", "My computer is slow."]


def report(tokenizer, learnt, held, minutes):
    """Scores the shipped file and writes its card."""
    params = exported()
    unseen = [render(chat) for chat in chats(held, SEED)]
    # A control token is one byte to everyone, so that no baseline pays for its twelve letters.
    plain = lambda texts: "".join(texts).replace(START, "\x01").replace(END, "\x02").encode()
    size = len(plain(unseen))
    gram = lambda order: byte_baselines.kneser_ney(plain(learnt), plain(unseen), order) / size
    scores = {"tiny-chat": bits(tokenizer, params, unseen) / size, "byte 5-gram": gram(5), "byte 8-gram": gram(8)}
    alone, given = byte_baselines.xz(plain(learnt), plain(unseen))
    scores |= {"xz -9e": alone / size, "xz -9e after the training text": given / size}
    for name, value in scores.items():
        print(f"{value:.3f} bits per byte: {name}")
    chat = [(question, answer(tokenizer, params, [("user", question)])) for question in QUESTIONS]
    for question, said in chat:
        print(f"> {question}\n  {said}")
    count = sum(np.size(v) for v in params.values())
    rest = ", ".join(f"{value:.3f} {name}" for name, value in list(scores.items())[1:])
    meta = {"name": NAME, "title": "A tiny chat model", "task": "answers in the form of a dictionary, mostly wrongly",
            "score": f"{scores['tiny-chat']:.3f} bits per held-out byte ({rest})",
            "parameters": count, "training_bytes": len(plain(learnt)), "held_out_bytes": size}
    (SHIPPED / "meta.json").write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n")
    examples = "\n".join(f"| {question} | {said} |" for question, said in chat)
    table = "\n".join(f"| {name} | {value:.3f} |" for name, value in scores.items())
    (SHIPPED / "card.md").write_text(f"""
# tiny-chat

A language model small enough to ship, and weak: it has learnt the form of a dictionary's answers, and is mostly wrong in what they say.

| | |
|---|---|
| architecture | Llama: RMSNorm, rotary positions (theta {THETA:.0f}), grouped-query attention, SwiGLU, tied embeddings |
| shape | {LAYERS} layers, width {WIDTH}, {HEADS} query and {KV_HEADS} key-value heads of {HEAD}, hidden {HIDDEN}; {count:,} parameters, bf16 |
| tokens | byte-level BPE, {VOCAB} tokens; ChatML |
| context | trained on chats of up to {LENGTH} tokens; the file allows {ALLOWED} |
| training | AdamW, {minutes:.0f} minutes of wall time on a shared CPU core |
| retrain | `./x train tiny_chat` (bounded by time, so the weights differ each time) |

## Held-out text

{len(plain(learnt)):,} bytes of chats to train on, {size:,} held out: one topic in {HELD_OUT}, by the hash of its gloss or opening line, before
training. Bits per byte of the held-out chats, of the shipped weights; a control token counts as one byte for everyone.

| | bits per byte |
|---|---|
{table}

The n-grams are interpolated modified Kneser-Ney over all of the training text, of which the model sees what its time allows. Much of
both texts is the wording of the questions, the same everywhere and cheap for all. "After the training text" is
size(training + held out) - size(training).

## Data

| text | package | licence |
|---|---|---|
| glosses, synonyms, examples, hypernyms of WordNet 3.0 | Debian `wordnet-base`, `wordnet-sense-index` 3.0 | WordNet licence (free use, notice kept) |
| short English dialogues | PyPI `chatterbot-corpus` 1.3.3 | BSD-3-Clause |
| a dozen lines on itself | `models/chat_text.py` | this repository's |

Questions are made from templates. Left out: animals and plants not in common use, entries marked as offensive.
WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. It is provided "as is", without warranties.
chatterbot-corpus Copyright (c) 2017, Gunther Cox. All rights reserved.

## Examples (greedy)

| asked | answered |
|---|---|
{examples}
""".lstrip())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--folder", type=pathlib.Path, default=HERE.parent / "target/tiny_chat")
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="multiply in bf16: faster where the CPU has AMX")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    *groups, held = topics(args.folder / "packages")
    # Every topic of training once: what the tokenizer and the baselines are given.
    learnt = [render(chat) for chat in chats(sum(groups, []), SEED)]
    saved = args.folder / "tokenizer.json"
    if not saved.exists():
        train_tokenizer(learnt).save(str(saved))
    tokenizer = Tokenizer.from_file(str(saved))
    if not args.export:
        train(tokenizer, groups, args.folder / "checkpoint.npz", args.minutes, jnp.bfloat16 if args.bf16 else jnp.float32)
    file = np.load(args.folder / "checkpoint.npz")
    names = sorted(initial(np.random.default_rng(SEED)))  # the order of a tree's leaves
    export(tokenizer, {name: jnp.asarray(file[f"a{n}"]) for n, name in enumerate(names)})
    report(tokenizer, learnt, held, file["spent"] / 60)


if __name__ == "__main__":
    main()
