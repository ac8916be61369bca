"""Tests of what works on pages: projections of queries, keys and values, attention, page writes."""

import numpy as np

from selftest.base import Base
from selftest.emulation import aligned, header
from selftest.ops import Ops
from selftest.packing import FORMATS, Q8, acts_buffer, f16, packed, rng, seen_by
from selftest.products import NARROW, wide_bytes


class Attention(Ops):
    """Fused and as single ops."""

    def pages(self, seqs, pages):
        """A table that uses pages in no order, with garbage beyond."""
        table = rng.permutation(seqs * pages + 3)[: seqs * pages].astype(np.uint32)
        return np.ascontiguousarray(table.reshape(seqs, pages))

    def test_qkv(self):
        variants = [("q4_1", 6, 2, 32, True, True, 0, 32), ("bf16", 4, 2, 48, False, False, 1, 48), ("q4_k", 3, 3, 64, False, True, 1, 32)]
        variants += [(name, 2, 1, 32, True, False, 1, 32) for name in FORMATS]
        for name, heads, kv_heads, hd, biased, norms, halves_apart, dims in variants:
            self.qkv_case(name, heads, kv_heads, hd, biased, norms, halves_apart, dims)

    def qkv_case(self, name, heads, kv_heads, hd, biased, norms, halves_apart, dims):
        fmt, k, rows, pages = FORMATS[name], 256, 26, 4
        mats = [packed(name, h * hd, k) for h in (heads, kv_heads, kv_heads)]
        biases = [rng.standard_normal(len(m[0])).astype(np.float32) if biased else None for m in mats]
        qk = [rng.standard_normal(hd).astype(np.float32) if norms else None for _ in range(2)]
        x = rng.standard_normal((rows, k)).astype(np.float32)
        row_seq = np.array([0] * 10 + [1] * 16, np.uint32)
        positions = np.concatenate([np.arange(100, 110), np.arange(60, 76)]).astype(np.uint32)
        table = self.pages(2, pages)
        frequencies = (10000.0 ** (-np.arange(dims // 2) * 2 / dims)).astype(np.float32)
        page_elems = 2 * kv_heads * 64 * hd
        parts = [7] if name != "q4_k" else [3, 4]

        def make(count=rows, grid=3, fused=False, wide=False):
            step = header(count, 2, pages=pages)
            rope = aligned(count * dims, np.float32)
            self.e.run("rope_table", "RopeTableArgs", count, step=step, positions=positions, frequencies=frequencies, table=rope, half=dims // 2, magnitude=1.25)
            acts = self.prepare(fmt.acts, x[:count].copy())
            q = aligned(count * heads * hd, np.float32)
            kv = np.full((2 * pages + 3) * page_elems, 0x7E00, np.uint16)
            raw = aligned(count * (heads + 2 * kv_heads) * hd, np.float32)
            tickets = np.zeros(2 * (heads + 2 * kv_heads), np.uint32)
            for part in parts:
                values = dict(step=step, wq=mats[0][1], wk=mats[1][1], wv=mats[2][1], acts=acts,
                           bq=biases[0], bk=biases[1], bv=biases[2], q_norm=qk[0], k_norm=qk[1], rope=rope, q=q, kv=kv, table=table, row_seq=row_seq, positions=positions,
                           raw=raw, tickets=tickets, page_stride=page_elems, heads=heads, kv_heads=kv_heads, head_dim=hd, k=k, rope_dims=dims, rope_pairs=halves_apart, parts=part, qk_eps=1e-6)
                if fused:
                    prepare = self.e.args("PrepareArgs", dict(step=step, x=x, k=k, eps=1e-5, symbol=1))
                    self.e.launch(f"norm_qkv_{name}", prepare + self.e.args("QkvArgs", values), grid, fmt.ring[0] + 12288 + self.few_bytes(fmt, count, k))
                elif wide:
                    self.e.run(f"wide_qkv_{name}", "QkvArgs", (grid, 1), wide_bytes(fmt), **values)
                else:
                    self.e.run(f"qkv_{name}", "QkvArgs", (grid, -(-count // 24)), fmt.ring[0] + 12288, **values)
            assert not tickets.any()
            return q.reshape(count, heads, hd), kv

        q, kv = self.orders(make)
        seen = seen_by(fmt, x)
        want = [(seen @ m[0].T.astype(np.float64) + (0 if b is None else b)).reshape(rows, -1, hd) for m, b in zip(mats, biases)]
        for i in range(2):
            if norms:
                want[i] = want[i] / np.sqrt((want[i] ** 2).mean(-1, keepdims=True) + 1e-6) * qk[i]
            want[i] = self.rotated(want[i], positions, frequencies, dims, halves_apart)
        self.close(q, want[0], 2e-5 if fmt.acts == Q8 else 1e-9, f"qkv_{name} queries")
        pool = kv.view(np.float16).reshape(-1, 2, kv_heads, 64 * hd)
        got_k, got_v = np.zeros((2, rows, kv_heads, hd))
        for r in range(rows):
            page, offset = table[row_seq[r], positions[r] // 64], positions[r] % 64
            got_k[r] = pool[page, 0].reshape(kv_heads, 64, hd)[:, offset]
            got_v[r] = pool[page, 1].reshape(kv_heads, hd, 64)[:, :, offset]
        self.close(got_k, want[1], 2e-5 if fmt.acts == Q8 else 1e-6, f"qkv_{name} keys")
        self.close(got_v, want[2], 2e-5 if fmt.acts == Q8 else 1e-6, f"qkv_{name} values")
        assert (kv != 0x7E00).sum() == 2 * rows * kv_heads * hd, "nothing else is written"
        wide_q, wide_kv = (q, kv) if name in NARROW else self.orders(lambda: make(rows, 2, wide=True))
        assert (wide_q.tobytes(), wide_kv.tobytes()) == (q.tobytes(), kv.tobytes()), f"wide_qkv_{name}"
        for few in (1, 6, 8, 17):
            assert make(few, 7)[0].tobytes() == q[:few].tobytes(), f"qkv_{name}: row independence, {few} rows"
        few_q, few_kv = make(3, 7)
        assert few_q.tobytes() == q[:3].tobytes(), f"qkv_{name}: row independence"
        fused_q, fused_kv = make(3, 5, True)
        assert (fused_q.tobytes(), fused_kv.tobytes()) == (few_q.tobytes(), few_kv.tobytes()), f"norm_qkv_{name}"

    def rotated(self, x, positions, frequencies, dims, halves_apart):
        angle = (positions.astype(np.float32)[:, None] * frequencies).astype(np.float64)[:, None]
        cos, sin, half = np.cos(angle) * 1.25, np.sin(angle) * 1.25, dims // 2
        out = x.copy()
        j, k = (np.arange(half), np.arange(half) + half) if halves_apart else (2 * np.arange(half), 2 * np.arange(half) + 1)
        out[:, :, j] = x[:, :, j] * cos - x[:, :, k] * sin
        out[:, :, k] = x[:, :, j] * sin + x[:, :, k] * cos
        return out

    def test_attend(self):
        for heads, kv_heads, hd, window, cap, sinks in [(6, 2, 64, 0, 0.0, False), (4, 4, 16, 0, 0.0, True), (8, 1, 128, 300, 0.0, False), (3, 1, 48, 70, 8.0, False), (2, 1, 256, 0, 0.0, True), (40, 2, 32, 0, 0.0, False)]:
            self.attend_case(heads, kv_heads, hd, window, cap, sinks)
        # More splits than are loaded together when they are joined.
        self.attend_case(2, 1, 64, 0, 0.0, False, further=2200)

    def attend_case(self, heads, kv_heads, hd, window, cap, with_sinks, further=0):
        pages, group, most_splits = 12 + further // 64, heads // kv_heads, 3 + further // 256
        row_seq = np.array([0] * 3 + [1] * 17 + [2], np.uint32)
        positions = np.concatenate([np.arange(510, 513) + further, np.arange(250, 267), [5]]).astype(np.uint32)
        rows = len(positions)
        q = (rng.standard_normal((rows, heads, hd)) * 2).astype(np.float32)
        table = self.pages(3, pages)
        page_elems = 2 * kv_heads * 64 * hd + 64
        kv = np.full((3 * pages + 3, page_elems), 0x7E00, np.uint16)
        lens = [513 + further, 267, 6]
        keys, values = (rng.standard_normal((2, 3, 600 + further, kv_heads, hd))).astype(np.float16)
        for s in range(3):
            for p in range(lens[s]):
                page = kv[table[s, p // 64], : 2 * kv_heads * 64 * hd].view(np.float16).reshape(2, kv_heads, -1)
                page[0].reshape(kv_heads, 64, hd)[:, p % 64] = keys[s, p]
                page[1].reshape(kv_heads, hd, 64)[:, :, p % 64] = values[s, p]
        for s in range(3):
            table[s, -(-lens[s] // 64) :] = 0xFFFFFFFF
        sinks = rng.standard_normal(heads).astype(np.float32) if with_sinks else None
        parts = 8 // (hd // 16) if hd // 16 < 8 and 8 % (hd // 16) == 0 else 1
        shared = 4 * (24 * hd * (parts + 2) + 24 * 272 + 24 * 5)
        block_rows = max(1, 24 // group)

        def make(pick=slice(None), splits=most_splits, grid=5, acts=None):
            where, seqs, at = positions[pick].copy(), row_seq[pick].copy(), q[pick].copy()
            count = len(where)
            step = header(count, 3, pages=pages)
            plan = aligned(4 + 8 * count, np.uint32)
            self.e.run("attend_plan", "AttendPlanArgs", 1, step=step, positions=where, row_seq=seqs, plan=plan, window=window, block_rows=block_rows)
            out = aligned(count * heads * hd, np.float32).reshape(count, heads, hd)
            partials = aligned(count * heads * max(splits, 1) * (hd + 2), np.float32)
            tickets = np.zeros(count * heads, np.uint32)
            acts_out = acts_buffer(Q8, count, heads * hd) if hd % 32 == 0 else None
            self.e.run("attend", "AttendArgs", grid, shared, step=step, plan=plan, q=at, kv=kv, table=table, positions=where, sinks=sinks, out=out, acts_out=acts_out,
                       partials=partials, tickets=tickets, page_stride=page_elems, heads=heads, kv_heads=kv_heads, head_dim=hd, window=window, scale=hd**-0.5,
                       soft_cap=cap, max_splits=splits, acts_kind=1)
            assert not tickets.any()
            return (out, acts_out) if acts_out is not None else (out,)

        got = self.orders(make)
        out = got[0]
        want = np.zeros((rows, heads, hd))
        for r in range(rows):
            last = positions[r]
            first = max(0, int(last) + 1 - window) if window else 0
            for h in range(heads):
                k = keys[row_seq[r], first : last + 1, h // group].astype(np.float64)
                s = k @ q[r, h].astype(np.float64) * hd**-0.5
                s = cap * np.tanh(s / cap) if cap else s
                top = max(s.max(), sinks[h] if with_sinks else -np.inf)
                e = np.exp(s - top)
                total = e.sum() + (np.exp(sinks[h] - top) if with_sinks else 0)
                want[r, h] = e / total @ values[row_seq[r], first : last + 1, h // group].astype(np.float64)
        self.close(out, want, 1e-11, f"attend {heads} {kv_heads} {hd}")
        if len(got) > 1:
            acts = self.prepare(Q8, out.reshape(rows, -1))
            assert (acts == got[1]).all(), "attend: its activations are those of prepare"
        assert make(splits=0, grid=4)[0].tobytes() == out.tobytes(), "attend: splits and whole agree"
        assert make(grid=1)[0].tobytes() == out.tobytes(), "attend: the grid"
        for pick in (slice(1, 2), slice(2, 9), slice(19, 21), slice(20, 21)):
            assert make(pick)[0].tobytes() == out[pick].tobytes(), f"attend: row independence {pick}"

    def test_unfused(self):
        x, w = rng.standard_normal((5, 70)).astype(np.float32), rng.standard_normal((3, 9, 70)).astype(np.float16)
        experts = np.array([2, 0, 1, 1, 2], np.uint32)
        for which in (None, experts):
            out = aligned(45, np.float32)
            args = {"experts": self.tensor(experts, [(1, 1)])} if which is not None else {}
            self.e.run("op_matmul", "MatmulArgs", 2, step=header(5), out=self.tensor(out, [(1, 1), 9]), x=self.tensor(x, [(1, 1), 70]), w=self.tensor(w, [3, 9, 70]), **args)
            want = np.stack([x[i].astype(np.float64) @ w[0 if which is None else which[i]].astype(np.float64).T for i in range(5)])
            self.close(out.reshape(5, 9), want, 1e-12, "op_matmul")
        for halves_apart, dims in ((0, 32), (1, 20)):
            q, positions = rng.standard_normal((5, 3, 32)).astype(np.float32), np.array([0, 9, 300, 70, 64], np.uint32)
            frequencies = (10000.0 ** (-np.arange(dims // 2) * 2 / dims)).astype(np.float32)
            rope, out = aligned(5 * dims, np.float32), aligned(480, np.float32)
            self.e.run("rope_table", "RopeTableArgs", 5, step=header(5), positions=positions, frequencies=frequencies, table=rope, half=dims // 2, magnitude=1.25)
            self.e.run("op_rope", "RopeArgs", 6, step=header(5), x=q, rope=rope, out=out, heads=3, head_dim=32, rope_dims=dims, rope_pairs=halves_apart)
            self.close(out.reshape(q.shape), self.rotated(q.astype(np.float64), positions, frequencies, dims, halves_apart), 1e-10, "op_rope")
        k, v = rng.standard_normal((2, 5, 3, 32)).astype(np.float32)
        kv, table, row_seq = np.zeros((16, 2 * 3 * 64 * 32), np.uint16), np.array([[3, 4, 5, 6, 7], [8, 9, 1, 2, 0]], np.uint32), np.array([0, 0, 1, 1, 1], np.uint32)
        self.e.run("op_page_write", "PageWriteArgs", 5, step=header(5, 2, pages=5), k=k, v=v, kv=kv, table=table, row_seq=row_seq, positions=positions, page_stride=kv.shape[1], kv_heads=3, head_dim=32)
        for r in range(5):
            page = kv[table[row_seq[r], positions[r] // 64]].view(np.float16).reshape(2, 3, -1)
            assert (page[0].reshape(3, 64, 32)[:, positions[r] % 64] == f16(k[r])).all()
            assert (page[1].reshape(3, 32, 64)[:, :, positions[r] % 64] == f16(v[r])).all()
