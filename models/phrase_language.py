"""A transformer encoder that tells the language of a short phrase from its letters alone.

The words are Faker's lists (MIT). Accents are stripped and case is folded, so that no letter gives a language away; the words of
the held-out phrases occur in no training phrase."""

import importlib
import unicodedata

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

from common import FLOAT, INT64, SEED, Builder, cross_entropy, run, ship, train

NAME = "phrase-language"
LANGUAGES = {"Czech": "cs_CZ", "Danish": "da_DK", "German": "de_DE", "English": "en_US", "Filipino": "fil_PH",
             "French": "fr_FR", "Italian": "it_IT", "Dutch": "nl_NL", "Polish": "pl_PL"}
LENGTH, WORDS, WIDTH, HEADS, HIDDEN, LAYERS = 32, 3, 64, 4, 128, 2
ALPHABET = " abcdefghijklmnopqrstuvwxyz"  # token = position in it; 0 is both space and padding


def letters(word):
    word = word.lower().replace("ß", "ss").replace("æ", "ae").replace("ø", "o").replace("ł", "l").replace("œ", "oe")
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


def words(rng):
    """Training and held-out words of each language; a word of two languages belongs to neither."""
    lists = []
    for locale in LANGUAGES.values():
        provider = importlib.import_module(f"faker.providers.lorem.{locale}").Provider
        lists.append({w for w in map(letters, provider.word_list) if w.isascii() and w.isalpha() and 2 <= len(w) <= 12})
    shared = {w for i, a in enumerate(lists) for b in lists[i + 1 :] for w in a & b}
    parts = []
    for each in lists:
        each = np.array(sorted(each - shared))
        rng.shuffle(each)
        parts.append((each[len(each) // 5 :], each[: len(each) // 5]))
    return parts


def phrases(parts, which, count, rng):
    x, y = np.zeros((count, LENGTH), np.int64), rng.integers(0, len(parts), count)
    for row, language in enumerate(y):
        text = " ".join(rng.choice(parts[language][which], WORDS))[:LENGTH]
        x[row, : len(text)] = [ALPHABET.index(c) for c in text]
    return x, y


def norm(x, p):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def forward(params, tokens, key=None):
    x = params["embed"][tokens] + params["position"]
    drop = lambda x, n: x if key is None else x * jax.random.bernoulli(jax.random.fold_in(key, n), 0.85, x.shape) / 0.85
    for n, layer in enumerate(params["layers"]):
        y = norm(x, layer["norm1"])
        q, k, v = (
            (y @ layer[f"w{i}"] + layer[f"b{i}"]).reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3) for i in "qkv"
        )
        weights = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(WIDTH // HEADS)), axis=-1)
        x = x + drop((weights @ v).transpose(0, 2, 1, 3).reshape(x.shape) @ layer["wo"] + layer["bo"], 2 * n)
        y = jax.nn.gelu(norm(x, layer["norm2"]) @ layer["w1"] + layer["b1"], approximate=False)
        x = x + drop(y @ layer["w2"] + layer["b2"], 2 * n + 1)
    return norm(x, params["norm"]).mean(1) @ params["head"] + params["head_bias"]


def initial(rng):
    normal = lambda a, b: (rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32)
    zeros = lambda n: np.zeros(n, np.float32)
    unit = lambda: {"scale": np.ones(WIDTH, np.float32), "bias": zeros(WIDTH)}
    layer = lambda: {**{f"w{i}": normal(WIDTH, WIDTH) for i in "qkvo"}, **{f"b{i}": zeros(WIDTH) for i in "qkvo"},
                     "w1": normal(WIDTH, HIDDEN), "b1": zeros(HIDDEN), "w2": normal(HIDDEN, WIDTH), "b2": zeros(WIDTH),
                     "norm1": unit(), "norm2": unit()}
    return {"embed": normal(len(ALPHABET), WIDTH), "position": 0.1 * normal(LENGTH, WIDTH),
            "layers": [layer() for _ in range(LAYERS)], "norm": unit(), "head": normal(WIDTH, len(LANGUAGES)),
            "head_bias": zeros(len(LANGUAGES))}


def export(params):
    b = Builder()
    shape = b.const(np.array([0, 0, HEADS, WIDTH // HEADS]), "split_heads")
    merged = b.const(np.array([0, 0, WIDTH]), "merge_heads")
    scale = b.const(np.float32(np.sqrt(WIDTH // HEADS)), "score_scale")
    root2, one, half = (b.const(np.float32(v), n) for v, n in ((2**0.5, "sqrt2"), (1.0, "one"), (0.5, "half")))

    def linear(x, w, bias, name):
        return b.op("Add", [b.op("MatMul", [x, b.const(w, f"{name}.weight")]), b.const(bias, f"{name}.bias")])

    def layer_norm(x, p, name):
        return b.op("LayerNormalization", [x, b.const(p["scale"], f"{name}.scale"), b.const(p["bias"], f"{name}.bias")],
                    axis=-1, epsilon=1e-5)

    x = b.op("Add", [b.op("Gather", [b.const(params["embed"], "embed"), "tokens"]), b.const(params["position"], "position")])
    for n, layer in enumerate(params["layers"]):
        y = layer_norm(x, layer["norm1"], f"layer{n}.norm1")
        heads = {}
        for i in "qkv":
            v = b.op("Reshape", [linear(y, layer[f"w{i}"], layer[f"b{i}"], f"layer{n}.{i}"), shape])
            heads[i] = b.op("Transpose", [v], perm=[0, 2, 3, 1] if i == "k" else [0, 2, 1, 3])
        weights = b.op("Softmax", [b.op("Div", [b.op("MatMul", [heads["q"], heads["k"]]), scale])], axis=-1)
        v = b.op("Transpose", [b.op("MatMul", [weights, heads["v"]])], perm=[0, 2, 1, 3])
        x = b.op("Add", [x, linear(b.op("Reshape", [v, merged]), layer["wo"], layer["bo"], f"layer{n}.o")])
        y = linear(layer_norm(x, layer["norm2"], f"layer{n}.norm2"), layer["w1"], layer["b1"], f"layer{n}.fc1")
        erf = b.op("Add", [b.op("Erf", [b.op("Div", [y, root2])]), one])
        y = b.op("Mul", [b.op("Mul", [y, erf]), half])
        x = b.op("Add", [x, linear(y, layer["w2"], layer["b2"], f"layer{n}.fc2")])
    x = b.op("ReduceMean", [layer_norm(x, params["norm"], "norm")], axes=[1], keepdims=0)
    x = linear(x, params["head"], params["head_bias"], "head")
    b.op("Softmax", [x], "probabilities", axis=1)
    return b.model(NAME, [("tokens", INT64, ["batch", LENGTH])], [("probabilities", FLOAT, ["batch", len(LANGUAGES)])])


def main():
    rng = np.random.default_rng(SEED)
    parts = words(rng)
    held, truth = phrases(parts, 1, 3000, rng)

    def batches():
        while True:
            x, y = phrases(parts, 0, 128, rng)
            yield jnp.asarray(x), jnp.asarray(y)

    loss = lambda params, batch, key: cross_entropy(forward(params, batch[0], key), batch[1])
    params = train(loss, initial(rng), batches(), steps=2500, rate=2e-3)
    model = export(params)
    accuracy = float((run(model, {"tokens": held})[0].argmax(1) == truth).mean())

    bag = lambda x: np.stack([np.bincount(row, minlength=len(ALPHABET)) for row in x]).astype(np.float32)
    x, y = phrases(parts, 0, 20000, rng)
    baseline = LogisticRegression(max_iter=3000).fit(bag(x), y).score(bag(held), truth)
    count = sum(np.size(v) for v in jax.tree.leaves(params))
    texts = ["".join(ALPHABET[t] for t in row).strip() for row in held[:16]]
    ship(NAME, model, {"tokens": held}, truth,
         {"title": "Language of a phrase", "task": "which of nine languages a phrase of three words is in", "view": "letters",
          "answer": "probabilities", "classes": list(LANGUAGES), "texts": texts,
          "score": f"{accuracy:.1%} of {len(truth)} held-out phrases (bag of letters: {baseline:.1%})"},
         f"""
# phrase-language

Tells the language of a phrase of three words from its letters, without accents or capitals.

| | |
|---|---|
| input | `tokens` int64 [batch, {LENGTH}]: 0 for a space and for padding, 1 to 26 for a to z |
| output | `probabilities` float32 [batch, {len(LANGUAGES)}]: {", ".join(LANGUAGES)} |
| architecture | transformer encoder, {LAYERS} layers, width {WIDTH}, {HEADS} heads, GELU; {count:,} parameters |
| data | the word lists of Faker 37.1 (MIT); a fifth of each language's words held out, words of two languages left out |
| held-out accuracy | **{accuracy:.1%}** of {len(truth)} phrases made of held-out words |
| baseline | logistic regression on the bag of letters, same data: {baseline:.1%} |
| retrain | `./x train phrase_language` |

Meant for demonstration and tests: nine languages, three words, nothing else.
""")


if __name__ == "__main__":
    main()
