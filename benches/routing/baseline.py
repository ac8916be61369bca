#!/usr/bin/env python3
"""What words alone say of a prompt's category: naive Bayes over words and pairs of words, to compare `aio route test` with.

    python3 baseline.py TRAIN.jsonl TEST.jsonl
"""
import collections
import json
import math
import re
import sys


def grams(text):
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return words + [" ".join(pair) for pair in zip(words, words[1:])]


def read(path):
    return [json.loads(line) for line in open(path) if line.strip()]


def main(train, test):
    counts = collections.defaultdict(collections.Counter)
    for sample in read(train):
        counts[sample["category"]].update(grams(sample["text"]))
    known = len(set().union(*counts.values()))
    totals = {category: sum(own.values()) for category, own in counts.items()}

    def score(category, text):
        own, total = counts[category], totals[category]
        return sum(math.log((own[gram] + 1) / (total + known)) for gram in grams(text))

    right, all_ = collections.Counter(), collections.Counter()
    for sample in read(test):
        best = max(counts, key=lambda category: score(category, sample["text"]))
        all_[sample["category"]] += 1
        right[sample["category"]] += best == sample["category"]
    shares = [right[category] / all_[category] for category in all_]
    print(f"balanced accuracy {100 * sum(shares) / len(shares):.1f} %")
    for category in sorted(all_):
        print(f"  {category}: {right[category]} of {all_[category]}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
