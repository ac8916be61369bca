"""The sampling chain of `ir::sampling` in numpy, whose f32 rounds every step."""

import numpy as np

F = np.float32
NO_TOKEN = 0xFFFFFFFF


def ln(x):
    bits = int(F(x).view(np.uint32))
    exponent, m = (bits >> 23) - 127, np.uint32(bits & 0x7FFFFF | 0x3F800000).view(F)
    if m > F(2**0.5):
        m, exponent = m * F(0.5), exponent + 1
    t = (m - F(1)) / (m + F(1))
    s = t * t
    series = F(1) + s * (F(1) / F(3) + s * (F(1) / F(5) + s * (F(1) / F(7) + s * (F(1) / F(9)))))
    return F(2) * t * series + F(exponent) * F(np.log(2.0))


def exp(x):
    x = np.maximum(np.where(np.isnan(x), F(-86), x).astype(F), F(-86))
    shifted = x * F(np.log2(np.e)) + F(12582912)
    n = shifted - F(12582912)
    r = x - n * F(0.6933594)
    r = r - n * F(-2.1219444e-4)
    p = F(1) / F(5040)
    for c in (F(1) / F(720), F(1) / F(120), F(1) / F(24), F(1) / F(6), F(0.5)):
        p = p * r + c
    e = p * r * r + r + F(1)
    return (e.view(np.uint32) + (shifted.view(np.uint32) << np.uint32(23))).view(F)


def philox(counter, key):
    c, k = [int(x) for x in counter], [int(x) for x in key]
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [k[0] + 0x9E3779B9 & 0xFFFFFFFF, k[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return c


def gumbel(noise, token):
    word = philox([token // 4, noise[3], noise[2], 0], noise[:2])[token % 4]
    u = (F(word >> 9) + F(0.5)) * F(1 / 8388608)
    return -ln(-ln(u))


def sampled(logits, params, noise, recent, bias):
    temperature, top_k, top_p, min_p, repeat, presence, frequency = params
    with np.errstate(all="ignore"):
        x = logits + (bias if bias is not None else F(0))
        if repeat != 1 or presence or frequency:
            for t in {int(t) for t in recent if 0 <= t < len(x)}:
                v = x[t] / repeat if x[t] > 0 else x[t] * repeat
                x[t] = v - (presence + frequency * F((recent == t).sum()))
        if (np.isnan(x) | (x == np.inf)).any():
            return NO_TOKEN
        x = x.astype(F)
        order = np.lexsort((np.arange(len(x)), -x))
        if temperature <= 0:
            return order[0]
        if 0 < top_k < len(x):
            order = order[: int(top_k)]
        top = x[order[0]]
        if top_p < 1:
            below = top - x[order]
            weights = (exp(-np.where(below > 0, below, F(0)).astype(F)) * F(2**30)).astype(np.uint64)
            reached = np.cumsum(weights).astype(np.float64) >= np.float64(top_p) * np.float64(weights.sum())
            order = order[: (np.argmax(reached) + 1 if reached.any() else len(order))]
        if min_p > 0:
            order = order[x[order] >= min(top + ln(min_p), top)]
        noisy = np.array([x[t] / temperature + gumbel(noise, int(t)) for t in order], F)
        noisy = np.where(np.isnan(noisy), F(-np.inf), noisy)
        return order[np.lexsort((order, -noisy))[0]]
