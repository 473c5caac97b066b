"""Writes vectors/llm/*: tiny random models of every family with the logits and the greedy tokens that `transformers` gives.

    python scripts/llm-vectors.py          (needs torch, transformers, safetensors, gguf)

Weights are bfloat16 values, computed with in float32, so that files are small and nothing but the order of sums differs from the numeric
specification. `mistral` is written a second time as GGUF, with its rows of q and k as llama.cpp's converter orders them.
"""

import json
import pathlib

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "llm"
COMMON = dict(
    hidden_size=32, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=64, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0, attn_implementation="eager",
)  # fmt: skip
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
MODELS = {
    "llama": (transformers.LlamaConfig, dict(rope_parameters=LLAMA3)),
    "llama-linear": (transformers.LlamaConfig, dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0), attention_bias=True, tie_word_embeddings=True)),
    "mistral": (transformers.MistralConfig, dict(sliding_window=None, head_dim=8)),
    "qwen2": (transformers.Qwen2Config, dict(tie_word_embeddings=True)),
    "qwen3": (transformers.Qwen3Config, dict(head_dim=16, tie_word_embeddings=True)),
}  # fmt: skip
PROMPT = [1, 17, 5, 60, 33, 2, 9, 41, 41, 7, 28, 3, 55, 12, 0, 63, 20, 31, 44, 8]


def build(kind, extra):
    torch.manual_seed(len(json.dumps(str(extra))))
    config = kind(**COMMON, **extra)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            p.copy_((centre + torch.randn_like(p) * 0.25).to(torch.bfloat16).float())
    return config, model


def write_gguf(path, config, tensors):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_token_list([f"token {i}" for i in range(config.vocab_size)])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in tensors.items():
        stem, kind = name.rsplit(".", 1)
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:  # llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute
                tensor = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
        data = tensor.contiguous().float().numpy()
        target = f"{names.get_name(stem)}.{kind}"
        if data.ndim == 1:
            writer.add_tensor(target, data)
        else:
            writer.add_tensor(target, gguf.quants.quantize(data, gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    for name, (kind, extra) in MODELS.items():
        folder = ROOT / name
        folder.mkdir(parents=True, exist_ok=True)
        config, model = build(kind, extra)
        tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
        if config.tie_word_embeddings:
            tensors.pop("lm_head.weight", None)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n")
        with torch.no_grad():
            logits = model(torch.tensor([PROMPT])).logits[0]
            tokens = list(PROMPT)
            for _ in range(24):
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        rows = {str(i): [float(f"{x:.6f}") for x in logits[i].tolist()] for i in (0, 7, len(PROMPT) - 1)}
        expected = dict(prompt=PROMPT, logits=rows, greedy=tokens[len(PROMPT) :])
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
        if name == "mistral":  # no scaling, no biases: what a GGUF file of `llama` says in full
            write_gguf(folder / "model.gguf", config, tensors)
    print(np.__version__, torch.__version__, transformers.__version__)


main()
