#!/usr/bin/env python3
"""Writes vectors/text: what Hugging Face's `tokenizers` and `transformers` answer, for the tests of hallmark-text.

    scripts/text-vectors.py          reads models/tiny-chat and vectors/text/templates

    sentencepiece.json    a small tokenizer of the Llama 2 kind (byte fallback), trained here
    tokens.json           [{"tokenizer", "encode": [{"text", "ids", "framed"}], "decode": [{"ids", "text", "skipped"}]}]
    chats.json            [{"template", "special", "messages", "tools", "extra", "dates", "add_generation_prompt", "text" or "error"}]

`framed` is with add_special_tokens, `skipped` with skip_special_tokens."""

import json
import pathlib
import random
import tempfile

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "vectors/text"

TEXTS = [
    "", " ", "  ", "\n", "\r\n\t", "a", " a", "a ", "Hello, world!", "hello  world   again", "What is a dog?",
    "I'm sure they'll say it's we've I'd DON'T", "3.14159 and 1,000,000 or 2^32-1", "naïve café Zürich Ångström",
    "cafe\u0301 versus caf\u00e9", "Привет, мир", "你好，世界", "こんにちは", "안녕하세요", "مرحبا بالعالم", "שלום", "हिन्दी", "ไทย",
    "🙂", "👩‍👩‍👧‍👦 family", "🇨🇭🇯🇵", "e\u0301\u0301\u0301", "\u200b\u200d\ufeff", "\u00a0nbsp\u2003em", "\u2028line\u2029paragraph",
    "\x00\x01\x7f", "\U0010ffff", "\ufdd0\ufdd1", "\ufffd", "x" * 300, "ab" * 150, " " * 40, "\n" * 20, "a\u0000b",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|>", "<|im_start|><|im_start|>", "<|im_end", "|im_end|>", "<<|im_end|>>", "a<|im_end|>b",
    " <|im_end|> ", "<|endoftext|>", "<s>", "</s>", "<unk>", "<s>a</s>", "<0x41>", "▁", "▁▁a", "a▁b", "Ġ", "ĠaĊ",
    "def f(x):\n    return x  # comment\n", '{"a": [1, 2.5, null], "b": "c\\n"}', "https://example.org/a?b=c&d=%20", "A" * 3 + "\u0130\u0131ß",
    "ﬁ ligature Ⅷ ½ ²", "ȺȾ", "\ud7ff\ue000", "tab\tseparated\tvalues", "trailing space \n", "To be, or not to be: that is the question.",
]

SPECIAL = {
    "chatml": {"eos": "<|im_end|>", "control": ["<|im_start|>", "<|im_end|>"]},
    "llama3": {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>",
               "control": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]},
    "qwen": {"eos": "<|im_end|>", "pad": "<|endoftext|>", "control": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]},
    "mistral": {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "control": ["<s>", "</s>", "<unk>", "[INST]", "[/INST]"]},
    "zephyr": {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "</s>", "control": ["<s>", "</s>", "<unk>"]},
    "python": {"eos": "</s>", "control": ["</s>"]},
}
USER, SYSTEM = {"role": "user", "content": " What is a dog? "}, {"role": "system", "content": "Be brief.\n"}
ANSWER = {"role": "assistant", "content": "An animal."}
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "Weather of a <city> & more, it's \"live\"",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "días": {"type": "integer", "default": 3}}, "required": ["city"]}}}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "días": 2, "exact": True, "at": 0.5}}}]}
RESULT = {"role": "tool", "content": "{\"sky\": \"clear\"}", "name": "weather"}
THOUGHT = {"role": "assistant", "content": "<think>\nA dog is asked for.\n</think>\n\nAn animal."}
NESTED = {"a": 1, "b": [1.0, 1e16, 1e-7, -0.0, None, True], "é": "<&'\">\u2028\x01\x7f", "c": {"z": {}, "y": [], "x": [[1]]}, "d": 12345678901234567890}


def sentencepiece():
    """A BPE tokenizer with byte fallback, as Llama 2 converted."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = [AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")]
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)], max_token_length=12)
    text = (ROOT / "LICENSE-APACHE").read_text()
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    file = json.loads(tokenizer.to_str())
    # Byte tokens are of the vocabulary, not added.
    file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
    file["post_processor"] = json.loads(processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]).__getstate__())
    return json.dumps(file, ensure_ascii=False)


def tokens(name, tokenizer):
    rng = random.Random(20261121)
    rows = [[], *(tokenizer.encode(text).ids for text in TEXTS)]
    # Any sequence of ids decodes to something.
    rows += [[rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randrange(1, 40))] for _ in range(80)]
    rows += [[rng.randrange(3, 259) for _ in range(rng.randrange(1, 12))] for _ in range(40)]
    return {
        "tokenizer": name,
        "encode": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids, "framed": tokenizer.encode(text).ids}
                   for text in TEXTS],
        "decode": [{"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False), "skipped": tokenizer.decode(ids)} for ids in rows],
    }


def chats():
    plain = [USER, ANSWER, {"role": "user", "content": "Why?\n\n"}]
    with_tools = [SYSTEM, {"role": "user", "content": "Weather?"}, CALL, RESULT]
    for template, special in SPECIAL.items():
        for messages in ([USER], [SYSTEM, USER], plain, [SYSTEM, *plain], with_tools, [USER, USER], [USER, THOUGHT, USER, THOUGHT]):
            for tools in ([], [WEATHER, {**WEATHER, "extra": 1}]):
                if template == "python" and messages is not with_tools:
                    continue
                if template in ("chatml", "zephyr") and (tools or messages is with_tools):
                    continue
                yield template, special, messages, tools, {"extra_value": NESTED} if template == "python" else {}
    yield "qwen", SPECIAL["qwen"], [USER], [], {"enable_thinking": False}
    yield "llama3", SPECIAL["llama3"], [USER], [], {"date_string": "1 Jan 2026"}


def rendered(case):
    """What transformers renders, or that it refuses."""
    source = (FOLDER / f"templates/{case['template']}.jinja").read_text()
    special = {f"{name}_token": token for name, token in case["special"].items() if name != "control"}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tokenizer.json"
        file.write_text(Tokenizer(models.BPE()).to_str())
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), **special)
    date = case["dates"][0][1]
    compiled = chat_template_utils._compile_jinja_template(source)
    compiled.globals["strftime_now"] = lambda format: date
    try:
        text = tokenizer.apply_chat_template(
            case["messages"], tools=case["tools"] or None, chat_template=source, tokenize=False,
            add_generation_prompt=case["add_generation_prompt"], **case["extra"])
    except Exception as error:
        return {"error": str(error)}
    return {"text": text}


def main():
    (FOLDER / "sentencepiece.json").write_text(sentencepiece() + "\n")
    files = ["models/tiny-chat/tokenizer.json", "vectors/text/sentencepiece.json"]
    write = lambda name, rows: (FOLDER / name).write_text(
        "[\n" + ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows) + "\n]\n")
    write("tokens.json", [tokens(name, Tokenizer.from_file(str(ROOT / name))) for name in files])
    cases = []
    for index, (template, special, messages, tools, extra) in enumerate(chats()):
        case = {"template": template, "special": special, "messages": messages, "tools": tools, "extra": extra,
                "dates": [["%d %b %Y", "25 Nov 2026"]], "add_generation_prompt": index % 2 == 0}
        cases.append(case | rendered(case))
    write("chats.json", cases)


if __name__ == "__main__":
    main()
