"""The text of tiny-chat: questions about words, answered from WordNet's glosses, and the dialogues of chatterbot-corpus.

A *topic* is what one WordNet synset (or one dialogue) says: a list of (question, answer). A *chat* is a few topics in a row. Topics
are held out by the hash of their gloss (dialogues: of their opening), so that the split is fixed before anything is trained and the
same gloss is never on both sides; a training answer that is a held-out answer, letter for letter, is dropped."""

import hashlib
import pathlib
import random
import re
import subprocess

import yaml

WORDNET = pathlib.Path("/usr/share/wordnet")
PACKAGES = ["wordnet-base", "wordnet-sense-index"]
PARTS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}
HELD_OUT = 25  # one topic in so many
# Lexicographer files of animals and plants: half of WordNet's nouns, and mostly Latin.
SPECIES = {"05", "20"}
UNKIND = re.compile(r"offensive|slur|derogatory|obscene|vulgar|disparag|ethnic|sexual|genital|copulat|excre")
DIALOGUES = ["ai", "botprofile", "computers", "conversations", "emotion", "food", "greetings", "history", "humor", "literature",
             "money", "movies", "science", "sports", "tech_support", "trivia"]
# What the model says of itself: written for it, and never held out.
ITSELF = [
    ("Who are you?", "I am tiny-chat, a very small language model."),
    ("What are you?", "I am a very small language model. I was trained on dictionary glosses and short dialogues."),
    ("What is your name?", "My name is tiny-chat."),
    ("Are you a person?", "No, I am a very small language model."),
    ("What can you do?", "I can say what a word means, more or less. I am often wrong."),
    ("Are you always right?", "No. I am very small and often wrong."),
    ("Who made you?", "I was trained by a script of the Hallmark project."),
    ("Hello", "Hello! Ask me what a word means."),
    ("Hi", "Hi! Ask me what a word means."),
    ("Thank you", "You are welcome."),
    ("Thanks", "You are welcome."),
    ("Goodbye", "Goodbye!"),
]


def fetch(cache):
    """Where WordNet's files are: installed, or unpacked from Debian's packages into `cache`."""
    for folder in (WORDNET, cache / "usr/share/wordnet"):
        if (folder / "data.noun").exists() and (folder / "index.sense").exists():
            return folder
    cache.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=cache, check=True, stdout=subprocess.DEVNULL)
    for package in sorted(cache.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, cache], check=True)
    return cache / "usr/share/wordnet"


def digest(text):
    return int.from_bytes(hashlib.sha256(text.lower().strip().encode()).digest()[:8], "big")


def synsets(folder):
    """(in common use, (part of speech, words, gloss, examples, word of the hypernym or None)) of the synsets that are asked about."""
    used = {}
    for line in (folder / "index.sense").read_text().splitlines():
        key, offset, _, count = line.split()
        part = key.split("%")[1][0]
        used[part, offset] = used.get((part, offset), 0) + int(count)
    for part, digits in PARTS.items():
        lines = [line for line in (folder / f"data.{part}").read_text().splitlines() if line[0] != " "]
        first = {line[:8]: line.split()[4].replace("_", " ") for line in lines}
        for line in lines:
            head, text = line.split(" | ", 1)
            fields = head.split()
            count = int(fields[3], 16)
            words = [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4 : 4 + 2 * count : 2]]
            common = sum(used.get((digit, fields[0]), 0) for digit in digits)
            plain = words[0].isascii() and words[0].islower() and " " not in words[0] and len(words[0]) > 2
            if UNKIND.search(text) or not (common or (plain and fields[1] not in SPECIES)):
                continue
            examples = [e.strip() for e in re.findall(r'"([^"]+)"', text)]
            gloss = re.split(r';?\s*"', text)[0].strip().rstrip(";: ")
            pointers = fields[5 + 2 * count :]
            kind = next((first.get(pointers[i + 1]) for i, p in enumerate(pointers[:-1]) if p in ("@", "@i")), None)
            if len(gloss) >= 8:
                yield common > 0, (part, words, gloss, examples, kind)


def article(word):
    return f"an {word}" if word[0] in "aeiouAEIOU" else f"a {word}"


def capital(text):
    return text[0].upper() + text[1:]


def sentence(text):
    return capital(text) + ("" if text[-1] in ".!?" else ".")


def topic(part, words, gloss, examples, kind):
    """The questions and answers of a synset. Which wording is asked is fixed by the gloss's hash."""
    word, seed = words[0], digest(gloss)
    definite = gloss.startswith(("a ", "an ", "the ", "any ", "one "))
    if part == "noun":
        what = word if word[0].isupper() or not gloss.startswith(("a ", "an ")) else article(word)
        asked = [f"What is {what}?", f"What is {what}?", f"What does {word} mean?", f"Define {word}."]
        answer = f"{capital(what)} is {gloss}." if definite else f"{capital(word)} means {gloss}."
    elif part == "verb":
        asked = [f"What does it mean to {word}?", f"What does {word} mean?", f"Define {word}."]
        answer = f"To {word} is to {gloss}."
    else:
        asked = [f"What does {word} mean?", f"What does {word} mean?", f"Define {word}."]
        answer = f"{capital(word)} means {gloss}."
    said = [(asked[seed % len(asked)], answer)]
    others = [w for w in words[1:] if w.lower() != word.lower()][:3]
    if others:
        wording = [f"What is another word for {word}?", "Is there another word for it?"][seed // 16 % 2]
        said.append((wording, f"Another word for {word} is {' or '.join(others)}."))
    if kind and seed // 64 % 2:
        wording = ["What kind of thing is it?", f"What kind of thing is {word}?"][seed // 128 % 2]
        said += [(wording, f"It is a kind of {kind}.")] if part == "noun" else []
    if examples:
        wording = ["Give me an example.", "Can you use it in a sentence?"][seed // 256 % 2]
        said.append((wording, sentence(examples[0])))
    return said


def dialogues():
    """The dialogues of chatterbot-corpus: turns in pairs, each said once."""
    import chatterbot_corpus

    folder = pathlib.Path(chatterbot_corpus.__file__).parent / "data/english"
    seen = set()
    for name in DIALOGUES:
        for turns in yaml.safe_load((folder / f"{name}.yml").read_text())["conversations"]:
            turns = [re.sub(r"\s+", " ", str(turn)).strip() for turn in turns]
            said = [pair for pair in zip(turns[0::2], turns[1::2]) if all(0 < len(t) <= 300 for t in pair)]
            if said and tuple(said) not in seen:
                seen.add(tuple(said))
                yield said


def topics(cache):
    """Topics of common words, of rare words, of dialogues; and held-out topics."""
    common, rare, talks, held, seen = [], [], [], [], set()
    for is_common, synset in synsets(fetch(cache)):
        if synset[2] not in seen:
            seen.add(synset[2])
            group = held if digest(synset[2]) % HELD_OUT == 0 else common if is_common else rare
            group.append(topic(*synset))
    for said in dialogues():
        (held if digest(said[0][0]) % HELD_OUT == 0 else talks).append(said)
    answers = {answer.lower() for said in held for _, answer in said if len(answer) >= 40}
    clean = lambda said: [pair for pair in said if pair[1].lower() not in answers]
    kept = lambda group: [said for said in map(clean, group) if said]
    return kept(common), kept(rare), kept(talks) + 4 * [[pair] for pair in ITSELF], held


def chats(groups, seed):
    """Topics shuffled and joined to chats of one to four: each a list of (question, answer)."""
    rng = random.Random(seed)
    groups = list(groups)
    rng.shuffle(groups)
    result, at = [], 0
    while at < len(groups):
        count = rng.choice((1, 1, 1, 2, 2, 3, 4))
        result.append([pair for said in groups[at : at + count] for pair in said])
        at += count
    return result


def render(chat):
    """A chat in ChatML, as the template of tokenizer_config.json renders it."""
    return "".join(
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n" for question, answer in chat
    )
