"""What a language model must beat: a byte n-gram model, and xz."""

import lzma
import math
from collections import Counter



def kneser_ney(learnt, unseen, order):
    """Bits that an interpolated modified Kneser-Ney n-gram model of bytes, counted on `learnt`, spends on `unseen`."""
    counts = [Counter(learnt[i : i + order] for i in range(len(learnt) - order + 1))]
    # Below the highest order an n-gram counts once for each byte that precedes it.
    for _ in range(order - 1):
        counts.append(Counter(gram[1:] for gram in counts[-1]))
    tables = []
    for grams in counts:
        of = Counter(grams.values())
        y = of[1] / (of[1] + 2 * of[2]) if of[1] and of[2] else 0.5
        discount = [0.0] + [n - (n + 1) * y * of[n + 1] / of[n] if of[n] and of[n + 1] else n * 0.5 for n in (1, 2, 3)]
        total, kept = Counter(), Counter()
        for gram, count in grams.items():
            total[gram[:-1]] += count
            kept[gram[:-1]] += discount[min(count, 3)]
        tables.append((grams, total, kept, discount))
    bits, known = 0.0, {}
    for end in range(1, len(unseen)):
        gram = unseen[max(0, end - order + 1) : end + 1]
        if gram not in known:
            chance = 1 / 256
            for size in range(1, len(gram) + 1):
                grams, total, kept, discount = tables[order - size]
                part = gram[-size:]
                if total[part[:-1]]:
                    count = grams[part]
                    chance = (count - discount[min(count, 3)] + kept[part[:-1]] * chance) / total[part[:-1]]
            known[gram] = -math.log2(chance)
        bits += known[gram]
    return bits


def xz(learnt, unseen):
    """Bits of `unseen` by `xz -9e`: alone, and after `learnt`."""
    # The dictionary of -9 is 64 MiB, so it holds both.
    size = lambda data: 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    return size(unseen), size(learnt + unseen) - size(learnt)
