"""Checks the installed package: check.py LAYOUTS MODEL GOLDEN. Run by crates/capi/tests/python.rs, in an empty environment."""
import array
import ctypes
import json
import sys
import threading

import aio
from aio import _abi as abi

layouts, model, golden = json.load(open(sys.argv[1])), sys.argv[2], json.loads(sys.argv[3])


def refused(status, words, call):
    try:
        call()
    except aio.AioError as error:
        assert error.status == status and words in str(error), (error.status, str(error))
    else:
        raise AssertionError(f"not refused: {words}")


# Every struct and function is the library's.
structs = {s.__name__: s for s in abi.STRUCTS}
assert sorted(structs) == sorted(layout["name"] for layout in layouts["structs"])
for layout in layouts["structs"]:
    ours = structs[layout["name"]]
    assert ctypes.sizeof(ours) == layout["size"], layout
    fields = [[name, getattr(ours, name).offset] for name, *_ in ours._fields_]
    assert fields == layout["fields"], (fields, layout)
assert [[name, getattr(abi.Api, name).offset] for name in abi.FUNCTIONS] == layouts["functions"]
assert abi.VERSION == layouts["version"]

engine = aio.Engine(model, threads=2, context=512, sequences=2)
prompt = engine.tokenize(golden["prompt"])
expected = golden["tokens"]


def generated(**options):
    with engine.batch() as batch:
        request = batch.submit(prompt, max_tokens=48, ignore_end=True, **options)
        while batch.step():
            pass
        assert request.usage.stop == "length" and request.usage.tokens == 48
        return request.tokens, request.text, request.usage


plain, text, usage = generated(speculation=False)
assert plain[: len(expected)] == expected, (plain, expected)
assert usage.drafted == 0
drafted, same_text, usage = generated(speculation=4)
assert drafted == plain and same_text == text and usage.drafted > 0, usage
hot = aio.Sampling(temperature=0.9, top_k=40, seed=5)
assert generated(speculation=4, sampling=hot)[0] == generated(speculation=False, sampling=hot)[0] != plain
assert "".join(engine.generate(golden["prompt"], max_tokens=48, ignore_end=True)) == text == engine.detokenize(plain)

# Steps: tokens from a list, an array and a read-only buffer; drafts verified.
context, sequence = engine.context(), engine.sequence()
tokens = [context.append(sequence, array.array("I", prompt))]
while len(tokens) < 40:
    at = len(tokens)
    drafts = plain[at : at + 3] + [0]
    accepted, following = context.verify(sequence, tokens[-1], memoryview(array.array("I", drafts)))
    assert accepted >= min(3, len(plain) - at), (accepted, at)
    tokens += drafts[:accepted] + [following]
    assert len(sequence) == len(prompt) + len(tokens) - 1
assert tokens[:48] == plain[: len(tokens[:48])]
fork = sequence.fork(len(prompt))
assert len(fork) == len(prompt) and context.append(fork, [plain[0]]) == plain[1]
fork.truncate(len(prompt))
logits = context.logits(fork, memoryview(array.array("I", [plain[0]])).toreadonly())
assert len(logits) == engine.info["vocabulary"] and max(range(len(logits)), key=logits.__getitem__) == plain[1]

# A sampling's penalties see the text.
greedy = aio.Sampling(repeat_penalty=1.3)
assert context.append(fork, [plain[1]], sampling=greedy) is not None

# Chats, costs, bad input.
assert "user" in engine.chat([{"role": "user", "content": "Hi"}])
assert engine.cost(positions=100)["bytes"] - engine.cost(positions=0)["bytes"] == 100 * engine.info["kv_bytes_per_position"]
refused(6, "/nowhere.gguf", lambda: aio.Engine("/nowhere.gguf"))
refused(1, "unknown device `tpu`", lambda: aio.Engine(model, device="tpu"))
refused(7, "", lambda: aio.Engine(b"GGUF nonsense"))
refused(1, "vocabulary", lambda: context.append(sequence, [1 << 30]))
sequence.close()
refused(2, "null", lambda: len(sequence))
context.close()
context.close()

# Another thread runs while a step does: steps let go of the GIL.
ran = threading.Event()
batch = engine.batch()
request = batch.submit(prompt, max_tokens=32)
other = threading.Thread(target=ran.set)
other.start()
while batch.step():
    pass
other.join()
assert ran.is_set() and request.usage.tokens > 0
print("ok")
