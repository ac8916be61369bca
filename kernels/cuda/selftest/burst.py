"""Bursts with a model that knows its text: drafts, acceptance, ends and the barrier, without a product in sight.

Its step takes two tasks: the token after each position out of a table, then `verify`. What the kernel drafts and accepts is
held against a plain search through the text.
"""

import ctypes
import struct

import numpy as np

from selftest.emulation import aligned, header
from selftest.ops import Ops

rng = np.random.default_rng(5)
SOLO, BARRIER = 1, 2
WIDE = 256
BUDGET, TOKEN, STOPPED = 1, 2, 3
M = 0xFFFFFFFF


def place(run, entries):
    """Where the index keeps a run of tokens."""
    h = 2166136261
    for t in run:
        h = (h ^ int(t)) * 16777619 & M
    h = (h ^ h >> 15) * 2246822519 & M
    return (h ^ h >> 13) & entries - 1


def last_run(text, length, entries):
    """The end of the last earlier run like the one that ends the first `length` tokens, longer ones first."""
    for run in (4, 2):
        if length <= run:
            continue
        own = text[length - run : length]
        for end in range(length - 1, run - 1, -1):
            if place(text[end - run : end], entries) == place(own, entries):
                if text[end - run : end] == own:
                    return end
                break
    return 0


def steps_of(truth, length, a):
    """Tokens, (drafts, accepted) of each step and the end, by the rules of the README."""
    text, tries, out, steps = truth[:length], a["first"], [], []
    while True:
        most = min(tries, a["budget"] - len(out) - 1, a["reserved"] - len(text))
        end = last_run(text, len(text), a["entries"]) if most > 0 else 0
        drafts = []
        for i in range(most if end else 0):
            drafts.append((text + drafts)[end + i])
        accepted = 0
        while accepted < len(drafts) and drafts[accepted] == truth[len(text) + accepted]:
            accepted += 1
        steps.append((len(drafts), accepted))
        if drafts and accepted == 0:
            tries = max(tries // 2, 1)
        elif drafts and accepted == tries:
            tries = min(2 * tries + 1, a["most"])
        for token in truth[len(text) : len(text) + accepted + 1]:
            out.append(token)
            text = text + [token]
            if token in a["stops"]:
                return out, steps, TOKEN
            if len(out) == a["budget"]:
                return out, steps, BUDGET


class Burst(Ops):
    def kernel_number(self, name):
        self.e.lib.aio_emulate_kernel.restype = ctypes.c_char_p
        index, size = 0, ctypes.c_uint32()
        while found := self.e.lib.aio_emulate_kernel(index, ctypes.byref(size)):
            if found.decode() == name:
                return index
            index += 1
        raise AssertionError(f"no kernel {name}")

    def program(self, follow, rows):
        """A program whose model gives `follow[p]` after position p."""
        names = ["tokens", "positions", "sampled"]
        b = {n: aligned(rows, np.uint32) for n in names}
        b |= {"spans": aligned(2, np.uint32), "lens": aligned(1, np.uint32)}
        b |= {"accepted": aligned(1, np.uint32), "next": aligned(1, np.uint32), "step": header()}
        one = lambda data, dims: self.tensor(data, dims)
        # What follows stands in 256 places, so that each row is another block's work.
        b["found"] = aligned(WIDE * rows, np.uint32)
        b["wide"] = np.repeat(follow, WIDE)
        gather = self.e.args(
            "GatherArgs",
            {"step": b["step"], "out": one(b["found"], [(1, 1), WIDE]), "x": one(b["wide"], [len(follow), WIDE]), "index": one(b["positions"], [(1, 1)])},
        )
        b["order"] = WIDE * np.arange(rows, dtype=np.uint32)
        again = self.e.args(
            "GatherArgs",
            {"step": b["step"], "out": one(b["sampled"], [(1, 1)]), "x": one(b["found"], [WIDE * rows]), "index": one(b["order"], [(1, 1)])},
        )
        verify = self.e.args(
            "VerifyArgs",
            {"step": b["step"], "sampled": b["sampled"], "drafts": b["tokens"], "spans": b["spans"], "accepted": b["accepted"], "next": b["next"]},
        )
        tasks = b""
        # The second is block 0's alone between two barriers: others come to the later one with nothing done.
        calls = (("op_gather", BARRIER, gather), ("op_gather", SOLO | BARRIER, again), ("verify", SOLO, verify))
        for kernel, flags, args in calls:
            tasks += struct.pack("<II", self.kernel_number(kernel), flags) + args.ljust(46 * 8, b"\0")
        b["tasks"] = np.frombuffer(bytearray(tasks), np.uint8)
        fields = {n: b[n] for n in ("tasks", "step", "tokens", "positions", "spans", "lens", "accepted", "next")}
        return b, self.e.args("BurstProgram", {**fields, "count": len(calls), "rows": rows})

    def burst(self, truth, length, grid, broken=False, **a):
        """Runs one: tokens, steps, end."""
        text = np.array(truth, np.uint32)
        follow = np.append(text[1:], np.uint32(0))
        (few, few_args), (many, many_args) = self.program(follow, 4), self.program(follow, 16)
        if broken:
            many["tasks"][:4] = few["tasks"][:4] = 255
        history = aligned(len(truth) + 32, np.uint32)
        history[:length] = text[:length]
        stops, mail = np.array([*a["stops"], 0], np.uint32), np.zeros(8, np.uint32)
        out, taken = aligned(a["budget"], np.uint32), aligned(a["budget"], np.uint32)
        index, words = aligned(2 * a["entries"], np.uint32), np.zeros(2, np.uint32)
        mail[4] = a.get("stop", 0)
        numbers = {n: a[n] for n in ("entries", "reserved", "budget", "most", "first")}
        raw = self.e.args(
            "BurstArgs",
            {
                **{"few": few_args, "many": many_args, "history": history, "index": index, "stops": stops},
                **{"barrier": words, "program": words[1:], "mail": mail, "out": out, "taken": taken},
                **{"length": length, "stop_count": len(a["stops"]), "pages": 1, **numbers},
            },
        )
        self.e.launch("burst", raw, grid, together=True)
        count, end, steps = (int(x) for x in mail[:3])
        return out[:count].tolist(), [(int(t) & 0xFFFF, int(t) >> 16) for t in taken[:steps]], end

    def text(self, length):
        """A text with repetitions: pieces of its own past among new tokens."""
        text = rng.integers(0, 6, 5).tolist()
        while len(text) < length:
            start = int(rng.integers(0, len(text)))
            text += text[start : start + int(rng.integers(1, 20))] + rng.integers(0, 40, int(rng.integers(0, 3))).tolist()
        return text[:length]

    def test_bursts(self):
        drafted = 0
        for case in range(24):
            truth, length = self.text(160), int(rng.integers(1, 90))
            a = {"budget": int(rng.integers(1, 60)), "entries": (64, 4096)[case % 2], "most": (0, 1, 15)[case % 3]}
            a |= {"reserved": length + a["budget"] - 1 + int(rng.integers(0, 9)), "first": min(3, a["most"])}
            a["stops"] = [] if case % 4 else [int(truth[length + a["budget"] // 2]), 99]
            want = steps_of(truth, length, a)
            for order in range(3):
                self.e.order = order
                for grid in (1, 2, 3):
                    got = self.burst(truth, length, grid, **a)
                    assert got == want, f"case {case}, order {order}, {grid} blocks: {got}, expected {want}"
            self.e.order = 0
            drafted += sum(d for d, _ in want[1])
        assert drafted > 100, drafted

    def test_burst_stops_when_it_is_told(self):
        a = {"budget": 50, "entries": 64, "most": 3, "first": 3, "reserved": 100, "stops": [], "stop": 1}
        out, steps, end = self.burst(self.text(160), 20, 2, **a)
        assert (len(steps), end) == (1, STOPPED) and len(out) == steps[0][1] + 1

    def test_a_failing_burst_ends(self):
        a = {"budget": 5, "entries": 64, "most": 3, "first": 3, "reserved": 100, "stops": []}
        for grid in (1, 3):
            try:
                self.burst(self.text(160), 20, grid, broken=True, **a)
            except AssertionError as error:
                assert "no kernel of this number" in str(error) or "another one that failed" in str(error), error
            else:
                raise AssertionError("a task without a kernel ran")
