"""Tests of products with packed weights: every type, 1 to 40 rows, three orders of threads."""

import numpy as np

from selftest.base import Base
from selftest.emulation import aligned, header
from selftest.packing import BF16, F16, FORMATS, Q8, acts_buffer, normed, packed, quantized, rng, seen_by

ROWS = [*range(1, 10), 17, 24, 25, 40]


# Types without kernels for many rows.
NARROW = ("q4_k", "q6_k")


def wide_bytes(fmt):
    """Shared memory of a kernel for many rows: stages, or the totals of 8 tiles and what gate_up gathers."""
    stage = 8 * fmt.step + 6 * (fmt.cols // 64) * (640 if fmt.acts == Q8 else 2080)
    return max((3 if 3 * stage <= 100000 else 2) * stage, 4 * (8 * 16 * 56 + 48 * 32))


class Products(Base):
    """Prepared rows, linear, gate_up, head, embed."""

    def test_prepare(self):
        x = rng.standard_normal((9, 96)).astype(np.float32)
        x[2, 32:64] = 0
        (acts,) = self.orders(lambda: (self.prepare(Q8, x),))
        q, d = quantized(x)
        for row in range(9):
            for b in range(3):
                step = acts[(row // 8 * 2 + b // 2) * 640 :][:640]
                i, half = row % 8, b % 2
                words = step[:512].reshape(32, 4, 4)
                codes = np.concatenate([words[4 * i + c % 16 // 4, 2 * half + c // 16, c % 4 : c % 4 + 1] for c in range(32)])
                assert (codes.view(np.int8) == q[row, b]).all()
                scales = step[512:].view(np.float32).reshape(2, 2, 8)
                assert scales[0, half, i] == d[row, b]
                assert scales[1, half, i] == d[row, b] * np.float32(q[row, b].astype(np.int32).sum())

    def linear(self, name, x, w, raw, norm=None, bias=None, residual=None, grid=5, wide=False):
        fmt, rows, (n, k) = FORMATS[name], len(x), w.shape
        acts = self.prepare(fmt.acts, x, norm)
        out = aligned((rows + 8) * n, np.float32).reshape(rows + 8, n)
        out, padding = out[:rows], out[rows:]
        # A bucket may have more passes than the step has rows.
        shape = (min(-(-n // 16), grid), -(-rows // (48 if wide else 24)) + 1)
        kernel, shared = (f"wide_linear_{name}", wide_bytes(fmt)) if wide else (f"linear_{name}", fmt.ring[0] + 12288)
        self.e.run(kernel, "LinearArgs", shape, shared, step=header(rows), w=raw, acts=acts, bias=bias, residual=residual, out=out, n=n, k=k, symbol=1)
        assert (padding.view(np.uint8) == 0xA5).all(), "padding rows are written"
        return out

    def test_linear(self):
        for name, fmt in FORMATS.items():
            for n, k in [(72, 256), (48, 1536 if fmt.cols < 256 else 2304)]:
                w, raw = packed(name, n, k)
                if k == 256 and fmt.cols == 64:
                    k = 224
                    w, raw = packed(name, n, k)
                x = rng.standard_normal((40, k)).astype(np.float32)
                norm, bias = rng.standard_normal((2, max(n, k))).astype(np.float32)
                residual = rng.standard_normal((40, n)).astype(np.float32)
                norm, bias = norm[:k].copy(), bias[:n].copy()
                want = seen_by(fmt, normed(x, norm, 1e-5)) @ w.T.astype(np.float64) + bias + residual
                (all_rows,) = self.orders(lambda: (self.linear(name, x, w, raw, norm, bias, residual),))
                self.close(all_rows, want, 2e-5 if fmt.acts == Q8 else 1e-10, f"linear_{name} {n} {k}")
                for rows in ROWS:
                    got = self.linear(name, x[:rows].copy(), w, raw, norm, bias, residual[:rows].copy(), grid=1 + rows % 3)
                    assert got.tobytes() == all_rows[:rows].tobytes(), f"{name}: row independence, {rows} rows"
                for rows in (25, 32, 33, 40) if name not in NARROW else ():
                    got = self.linear(name, x[:rows].copy(), w, raw, norm, bias, residual[:rows].copy(), grid=1 + rows % 3, wide=True)
                    assert got.tobytes() == all_rows[:rows].tobytes(), f"wide_linear_{name}: the bits of linear, {rows} rows"
                last = self.linear(name, x[39:].copy(), w, raw, norm, bias, residual[39:].copy())
                assert last.tobytes() == all_rows[39:].tobytes(), f"{name}: row independence, the last row"

    def test_wide(self):
        """Many rows have the bits of few, in all orders of threads, over several passes and runs of tiles."""
        for name, fmt in FORMATS.items():
            if name in NARROW:
                continue
            k, rows = 2 * fmt.cols if fmt.cols > 64 else 320, 70
            x = rng.standard_normal((rows, k)).astype(np.float32) / 8
            w, raw = packed(name, 144, k)
            want = self.linear(name, x, w, raw)
            (got,) = self.orders(lambda: (self.linear(name, x, w, raw, grid=2, wide=True),))
            assert got.tobytes() == want.tobytes(), f"wide_linear_{name}"
            n = 144
            gate, up = packed(name, n, k)[1], packed(name, n, k)[1]
            for kind in (Q8, BF16):

                def make(wide, grid=2):
                    acts, out = self.prepare(fmt.acts, x), aligned(rows * n, np.float32).reshape(rows, n)
                    acts_out = acts_buffer(kind, rows, n)
                    kernel, shared, passes = ("wide_gate_up", wide_bytes(fmt), 2) if wide else ("gate_up", fmt.ring[1] + 24576, 3)
                    self.e.run(f"{kernel}_{name}", "GateUpArgs", (grid, passes), shared, step=header(rows), gate=gate, up=up, acts=acts, out=out, acts_out=acts_out, n=n, k=k, activation=0, acts_kind=1 if kind == Q8 else 2)
                    return out, acts_out

                want = make(False)
                for got, want in zip(self.orders(lambda: make(True)), want):
                    assert got.tobytes() == want.tobytes(), f"wide_gate_up_{name}"

    def test_infinities(self):
        """An infinite activation makes infinite products, not ones that are no numbers."""
        for name in (BF16, F16):
            w, raw = packed(name, 16, 64)
            x = rng.standard_normal((3, 64)).astype(np.float32)
            plain = self.linear(name, x, w, raw)
            x[1, 5], x[2, 40] = np.inf, -np.inf
            out = self.linear(name, x, w, raw)
            assert out[0].tobytes() == plain[0].tobytes(), f"linear_{name}: other rows"
            assert (out[1] == np.sign(w[:, 5]) * np.inf).all(), f"linear_{name}: infinity"
            assert (out[2] == -np.sign(w[:, 40]) * np.inf).all(), f"linear_{name}: minus infinity"

    def test_gate_up(self):
        for name, fmt in FORMATS.items():
            n, k = 80, 256
            (wg, gate), (wu, up) = packed(name, n, k), packed(name, n, k)
            x = rng.standard_normal((26, k)).astype(np.float32) / 8
            g, u = seen_by(fmt, x) @ wg.T.astype(np.float64), seen_by(fmt, x) @ wu.T.astype(np.float64)
            for activation, want in [(0, g / (1 + np.exp(-g)) * u), (1, 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * u)]:
                for kind in (Q8, BF16):

                    def make(rows=26, grid=2):
                        part = x[:rows].copy()
                        acts, out = self.prepare(fmt.acts, part), aligned(rows * n, np.float32).reshape(rows, n)
                        acts_out = acts_buffer(kind, rows, n)
                        shape = (grid, -(-rows // 24))
                        self.e.run(f"gate_up_{name}", "GateUpArgs", shape, fmt.ring[1] + 24576, step=header(rows), gate=gate, up=up, acts=acts, out=out, acts_out=acts_out, n=n, k=k, activation=activation, acts_kind=1 if kind == Q8 else 2)
                        return out, acts_out

                    out, acts_out = self.orders(make)
                    self.close(out, want, 1e-4 if fmt.acts == Q8 else 1e-10, f"gate_up_{name}")
                    assert (acts_out == self.prepare(kind, out)).all(), f"gate_up_{name}: its activations are those of prepare"
                    for few in (1, 6, 9):
                        assert make(few, 1)[0].tobytes() == out[:few].tobytes(), f"gate_up_{name}: row independence, {few} rows"

    def test_head(self):
        for name, fmt in FORMATS.items():
            n, k = 300, 256
            w, raw = packed(name, n, k)
            x = rng.standard_normal((30, k)).astype(np.float32)
            norm = rng.standard_normal(k).astype(np.float32)
            for outs in (1, 3, 7, 25):
                index = rng.permutation(30)[:outs].astype(np.uint32)

                def make(grid=4):
                    acts = self.prepare(fmt.acts, x, norm, index, symbol=3, rows=30, outs=outs)
                    logits, tokens = aligned(outs * n, np.float32).reshape(outs, n), aligned(outs, np.uint32)
                    best, tickets = np.zeros(outs, np.uint64), np.zeros(2, np.uint32)
                    shape = (grid, -(-outs // 24))
                    self.e.run(f"head_{name}", "HeadArgs", shape, fmt.ring[0] + 12288, step=header(rows=30, outs=outs), w=raw, acts=acts, logits=logits, tokens=tokens, best=best, tickets=tickets, n=n, k=k)
                    assert not best.any() and not tickets.any()
                    return logits, tokens

                logits, tokens = self.orders(make)
                want = seen_by(fmt, normed(x[index], norm, 1e-5)) @ w.T.astype(np.float64)
                self.close(logits, want, 2e-5 if fmt.acts == Q8 else 1e-10, f"head_{name}")
                assert (tokens == logits.argmax(1)).all(), f"head_{name}"
                assert make(grid=1)[0].tobytes() == logits.tobytes()

    def few_bytes(self, fmt, rows, k):
        return -(-k // 64) * (64 * rows + 128 if fmt.acts == Q8 else 256 * rows + 32)

    def test_norm_products(self):
        """Norm and product in one launch give the bits of two launches."""
        for name, fmt in FORMATS.items():
            for rows in (1, 2, 3, 4):
                self.norm_gate_up(name, fmt, rows)
                self.norm_head(name, fmt, rows)

    def norm_gate_up(self, name, fmt, rows):
        n, k = 48, 512
        gate, up = packed(name, n, k)[1], packed(name, n, k)[1]
        x, norm = rng.standard_normal((rows, k)).astype(np.float32), rng.standard_normal(k).astype(np.float32)
        out, want, step = aligned(rows * n, np.float32), aligned(rows * n, np.float32), header(rows)
        acts = self.prepare(fmt.acts, x, norm)
        values = dict(step=step, gate=gate, up=up, n=n, k=k)
        self.e.run(f"gate_up_{name}", "GateUpArgs", 2, fmt.ring[1] + 24576, acts=acts, out=want, **values)
        prepare = self.e.args("PrepareArgs", dict(step=step, x=x, norm=norm, k=k, eps=1e-5, symbol=1))

        def make():
            self.e.launch(f"norm_gate_up_{name}", prepare + self.e.args("GateUpArgs", dict(values, out=out)), 3, fmt.ring[1] + 24576 + self.few_bytes(fmt, rows, k))
            return (out.copy(),)

        assert self.orders(make)[0].tobytes() == want.tobytes(), f"norm_gate_up_{name}, {rows} rows"

    def norm_head(self, name, fmt, outs):
        n, k = 100, 256
        raw = packed(name, n, k)[1]
        x, norm, index = rng.standard_normal((9, k)).astype(np.float32), rng.standard_normal(k).astype(np.float32), rng.permutation(9)[:outs].astype(np.uint32)
        out, want, step = aligned(outs * n, np.float32), aligned(outs * n, np.float32), header(9, outs=outs)
        acts = self.prepare(fmt.acts, x, norm, index, symbol=3, rows=9, outs=outs)
        self.e.run(f"head_{name}", "HeadArgs", 2, fmt.ring[0] + 12288, step=step, w=raw, acts=acts, logits=want, n=n, k=k)
        prepare = self.e.args("PrepareArgs", dict(step=step, x=x, norm=norm, row_index=index, k=k, eps=1e-5, symbol=3))
        self.e.launch(f"norm_head_{name}", prepare + self.e.args("HeadArgs", dict(step=step, w=raw, logits=out, n=n, k=k)), 3, fmt.ring[0] + 12288 + self.few_bytes(fmt, outs, k))
        assert out.tobytes() == want.tobytes(), f"norm_head_{name}, {outs} rows"

    def test_embed(self):
        for name in FORMATS:
            w, raw = packed(name, 40, 256)
            ids = np.array([39, 0, 17, 100, 3], np.uint32)
            out = aligned(5 * 256, np.float32).reshape(5, 256)
            self.e.run(f"embed_{name}", "EmbedArgs", 6, step=header(5), w=raw, ids=ids, out=out, n=40, k=256, per=1, symbol=1)
            want = np.where((ids < 40)[:, None], w[np.minimum(ids, 39)], 0)
            assert (out == want).all(), f"embed_{name}"
