"""The packed forms of weights and activations, written a second time from the README of the kernels.

A random matrix comes as values and as packed bytes, so tests need no file format.
"""

import numpy as np

from selftest.emulation import aligned

BF16, F16, Q8 = "bf16", "f16", "q8"
rng = np.random.default_rng(7)


def f16(x):
    return np.asarray(x, np.float32).astype(np.float16)


def bf16_bits(x):
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bf16_value(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


# Packing: README, "Weights", written a second time.

LANES = np.arange(32)
G, QUAD = LANES // 4, LANES % 4


def fragment16(codes):
    """[16, 16] u16 -> 512 bytes."""
    out = np.zeros((32, 4, 2), np.uint16)
    for j in range(4):
        for i in range(2):
            out[:, j, i] = codes[G + 8 * (j % 2), 2 * QUAD + 8 * (j // 2) + i]
    return out.tobytes()


def fragment8(codes):
    """[16, 32] u8 -> [512] u8."""
    out = np.zeros((32, 4, 4), np.uint8)
    for j in range(4):
        for i in range(4):
            out[:, j, i] = codes[G + 8 * (j % 2), 4 * QUAD + 16 * (j // 2) + i]
    return out.reshape(-1)


def nibbles(codes):
    """[16, 64] codes 0..15 -> [512] u8."""
    return fragment8(codes[:, :32]) | fragment8(codes[:, 32:]) << 4


def halves(*columns):
    """Columns of 16 f16, rows g and g + 8 side by side, for each g."""
    out = np.zeros((8, len(columns), 2), np.float16)
    for i, c in enumerate(columns):
        out[:, i, 0], out[:, i, 1] = c[:8], c[8:]
    return out.tobytes()


class Plain:
    cols, step, ring = 64, 2048, (49152, 65536)

    def __init__(self, kind):
        self.acts = kind

    def random(self, n, k):
        x = rng.standard_normal((n, k)).astype(np.float32)
        return bf16_value(bf16_bits(x)) if self.acts == BF16 else f16(x).astype(np.float32)

    def pack_step(self, x):
        bits = bf16_bits(x) if self.acts == BF16 else f16(x).view(np.uint16)
        return b"".join(fragment16(bits[:, c : c + 16]) for c in range(0, 64, 16))

    def tiles(self, n, k):
        w = self.random(n, k)
        padded = np.zeros((-(-n // 16) * 16, -(-k // 64) * 64), np.float32)
        padded[:n, :k] = w
        return w, [self.pack_step(padded[r : r + 16, c : c + 64]) for r in range(0, len(padded), 16) for c in range(0, padded.shape[1], 64)]


class Blocks:
    """Formats of codes and scales; `parts` makes a step of 16 rows, and its values."""

    acts = Q8

    def __init__(self, cols, step, ring, parts):
        self.cols, self.step, self.ring, self.parts = cols, step, ring, parts

    def tiles(self, n, k):
        rows, cols = -(-n // 16), -(-k // self.cols)
        w, steps = np.zeros((rows * 16, cols * self.cols), np.float32), []
        for r in range(rows):
            for c in range(cols):
                raw, w[16 * r : 16 * r + 16, self.cols * c : self.cols * (c + 1)] = self.parts()
                assert len(raw) == self.step, (len(raw), self.step)
                steps.append(raw)
        return np.ascontiguousarray(w[:n, :k]), steps


def scale():
    return f16(rng.uniform(0.5, 2, 16) / 16)


def wide(x, blocks):
    return np.repeat(np.stack(x, 1).astype(np.float32), 64 // 2, 1) if blocks == 32 else x


def q8_0():
    codes, d = rng.integers(-127, 128, (16, 64)).astype(np.int8), [scale(), scale()]
    raw = b"".join(fragment8(codes.view(np.uint8)[:, 32 * b : 32 * b + 32]).tobytes() for b in (0, 1))
    return raw + b"".join(halves(s) for s in d), codes * wide(d, 32)


def q4_0():
    codes, d = rng.integers(0, 16, (16, 64)).astype(np.uint8), [scale(), scale()]
    return nibbles(codes).tobytes() + b"".join(halves(s) for s in d), (codes.astype(np.float32) - 8) * wide(d, 32)


def q4_1():
    codes, d, m = rng.integers(0, 16, (16, 64)).astype(np.uint8), [scale(), scale()], [scale(), scale()]
    raw = nibbles(codes).tobytes() + b"".join(halves(s, t) for s, t in zip(d, m))
    return raw, codes.astype(np.float32) * wide(d, 32) + wide(m, 32)


def pairs(x):
    """[16, 8] bytes of rows, g and g + 8 in turn."""
    return [x[g + 8 * h] for g in range(8) for h in (0, 1)]


def q4_k():
    codes = rng.integers(0, 16, (16, 256)).astype(np.uint8)
    s, m = rng.integers(0, 64, (2, 16, 8)).astype(np.uint8)
    d, dmin = scale() / np.float16(16), scale() / np.float16(16)
    raw = b"".join(nibbles(codes[:, c : c + 64]).tobytes() for c in range(0, 256, 64))
    raw += b"".join(a.tobytes() + b.tobytes() for a, b in zip(pairs(s), pairs(m))) + halves(d, dmin)
    d, dmin = d.astype(np.float32)[:, None], dmin.astype(np.float32)[:, None]
    return raw, np.repeat(d * s, 32, 1) * codes.astype(np.float32) - np.repeat(dmin * m, 32, 1)


def q6_k():
    codes, s, d = rng.integers(0, 64, (16, 128)).astype(np.uint8), rng.integers(-64, 64, (16, 8)).astype(np.int8), scale() / np.float16(16)
    raw = b"".join(nibbles(codes[:, c : c + 64] & 15).tobytes() for c in (0, 64))
    high = sum(fragment8(codes[:, 32 * b : 32 * b + 32] >> 4).astype(np.uint32) << 2 * b for b in range(4))
    raw += high.astype(np.uint8).tobytes() + b"".join(x.tobytes() for x in pairs(s)) + halves(d)
    return raw, np.repeat(d.astype(np.float32)[:, None] * s, 16, 1) * (codes.astype(np.float32) - 32)


FORMATS = {
    "bf16": Plain(BF16),
    "f16": Plain(F16),
    "q8_0": Blocks(64, 1088, (43520, 52224), q8_0),
    "q4_0": Blocks(64, 576, (36864, 46080), q4_0),
    "q4_1": Blocks(64, 640, (40960, 40960), q4_1),
    "q4_k": Blocks(256, 2368, (37888, 75776), q4_k),
    "q6_k": Blocks(128, 1696, (40704, 54272), q6_k),
}


def packed(name, n, k):
    """Values and packed bytes of a random matrix."""
    values, steps = FORMATS[name].tiles(n, k)
    raw = aligned(sum(map(len, steps)))
    raw[:] = np.frombuffer(b"".join(steps), np.uint8)
    return values, raw


def quantized(x):
    """`ir::quant::quantize_q8` of rows: codes, scales."""
    x = x.reshape(len(x), -1, 32)
    d = np.abs(x).max(-1) / np.float32(127)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(d[..., None] < np.float32(1.17549435e-38), 0, np.rint(x * (np.float32(1) / d)[..., None]))
    return codes.astype(np.int8), np.where(d < np.float32(1.17549435e-38), np.float32(0), d)


def seen_by(fmt, x):
    """What the products see of activations."""
    if fmt.acts != Q8:
        return x.astype(np.float64)
    pad = -x.shape[1] % 32
    q, d = quantized(np.pad(x, ((0, 0), (0, pad))))
    return (q.astype(np.float64) * d[..., None]).reshape(len(x), -1)[:, : x.shape[1]]


def acts_buffer(kind, rows, k):
    """Full of numbers that are none, which no product of rows that are there may see."""
    return aligned(-(-rows // 8) * -(-k // 64) * (640 if kind == Q8 else 2080), fill=0xFF)


def normed(x, w, eps):
    x = x.astype(np.float64)
    return (x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w).astype(np.float32)
