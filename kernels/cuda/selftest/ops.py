"""Tests of what chooses tokens and of the single ops."""

import numpy as np

from selftest.base import Base
from selftest.emulation import aligned, header
from selftest.packing import rng
from selftest.sampling import F, NO_TOKEN, exp, sampled


class Ops(Base):
    """Sampling, verification, single ops."""

    def test_sample(self):
        n, outs, recent = 2500, 24, 12
        logits = (rng.standard_normal((outs, n)) * 3).astype(np.float32)
        logits[3, :] = 1.0
        logits[4, 5], logits[4, 7], logits[4, 9], logits[6, 2], logits[7, 1] = np.inf, -np.inf, np.nan, -np.inf, np.nan
        logits[9, 3], logits[10, :] = np.inf, -np.inf
        logits[5] = np.round(logits[5])
        params = np.tile(np.array([0.8, 0, 1, 0, 1, 0, 0], np.float32), (outs, 1))
        params[:, 1] = [0, 5, 40, 5000, 0, 7, 1, 0] * 3
        params[:, 2] = [1, 0.9, 0.5, 1, 0.95, 0.3, 1, 0] * 3
        params[:, 3] = [0, 0.05, 0, 0.1, 0, 0.2, 0.5, 0] * 3
        params[8:, 4:] = [1.3, 0.2, 0.1]
        params[::5, 0] = 0
        params[17, 0] = 2.5
        self.sharpen_nucleus(logits, params)
        history = rng.integers(-1, 40, (outs, recent)).astype(np.int32)
        bias = (rng.standard_normal((outs, n))).astype(np.float32)
        bias[:, ::7] = -np.inf
        for turn in range(8):
            noise, flags = rng.integers(0, 2**32, (outs, 4), np.uint32), turn % 2

            def make():
                tokens, keys = aligned(outs, np.uint32), aligned(outs * n, np.uint64)
                self.e.run("sample", "SampleArgs", outs + 2, step=header(outs, outs=outs, recent=recent, flags=flags), logits=logits, params=params, noise=noise, recent=history, bias=bias, keys=keys, tokens=tokens, n=n)
                return (tokens,)

            (tokens,) = self.orders(make)
            want = [sampled(logits[i], params[i], noise[i], history[i], bias[i] if flags else None) for i in range(outs)]
            assert (tokens == want).all(), f"sample: {tokens} {want}"

    def sharpen_nucleus(self, logits, params):
        """Shares of top-p that are reached by so little that a last place of a weight decides."""
        for i in range(18, 24):
            params[i] = [1e6, 0, 0, 0, 1, 0, 0]
            x = np.sort(logits[i])[::-1]
            weights = (exp(-(x[0] - x)) * F(2**30)).astype(np.uint64)
            params[i, 2] = F(np.cumsum(weights)[3 + i % 3] / weights.sum())

    def test_verify(self):
        sampled_tokens = np.array([5, 6, 7, 8, 1, 2, 9, 9], np.uint32)
        drafts = np.array([0, 5, 6, 9, 0, 1, 0, 9], np.uint32)
        spans = np.array([[0, 3], [4, 1], [6, 1], [7, 0]], np.uint32)
        accepted, following = aligned(4, np.uint32), aligned(4, np.uint32)
        self.e.run("verify", "VerifyArgs", 1, step=header(8, 4, 8), sampled=sampled_tokens, drafts=drafts, spans=spans, accepted=accepted, next=following)
        assert accepted.tolist() == [2, 1, 1, 0] and following.tolist() == [7, 2, 9, 9], (accepted, following)
        sampled_tokens[1], drafts[2] = NO_TOKEN, NO_TOKEN
        self.e.run("verify", "VerifyArgs", 1, step=header(8, 4, 8), sampled=sampled_tokens, drafts=drafts, spans=spans, accepted=accepted, next=following)
        assert accepted.tolist() == [1, 1, 1, 0] and following.tolist() == [NO_TOKEN, 2, 9, 9], (accepted, following)

    def tensor(self, data, dims):
        kinds = {"f4": 0, "f2": 1, "u2": 2, "i4": 3, "u4": 4, "i1": 5, "u1": 6, "b1": 7}
        raw = data.ctypes.data.to_bytes(8, "little")
        raw += kinds[data.dtype.str[1:]].to_bytes(4, "little") + len(dims).to_bytes(4, "little")
        for d in dims:
            value, symbol = d if isinstance(d, tuple) else (d, 0)
            raw += value.to_bytes(4, "little") + symbol.to_bytes(4, "little")
        return raw.ljust(80, b"\0")

    def map(self, code, out, a=None, b=None, c=None, **rest):
        args = {"out": self.tensor(*out)}
        args.update({k: self.tensor(*v) for k, v in (("a", a), ("b", b), ("c", c)) if v})
        self.e.run("op_map", "MapArgs", 3, step=header(5, 2), code=code, **args, **rest)
        return out[0]

    def test_ops(self):
        x = rng.standard_normal((5, 3, 40)).astype(np.float32)
        dims = [(1, 1), 3, 40]
        new = lambda kind=np.float32: (aligned(600, kind), dims)
        y = rng.standard_normal((3, 1)).astype(np.float32)
        got = self.map(13, new(), (x, dims), (y, [3, 1])).reshape(x.shape)
        assert (got == x + y).all()
        got = self.map(15, new(), (x, dims), (y, [3, 1])).reshape(x.shape)
        assert (got == x * y).all()
        got = self.map(11, new(), (x, dims)).reshape(x.shape)
        assert np.abs(got - np.sin(x)).max() < 1e-6
        i = rng.integers(-100, 100, (5, 3, 40)).astype(np.int32)
        got = self.map(26, new(np.uint8), (i, dims)).reshape(x.shape)
        assert (got == np.clip(i, 0, 255)).all()
        got = self.map(21, (aligned(600, np.bool_), dims), (i, dims), (i[:1, :1].copy(), [1, 40])).reshape(x.shape)
        assert (got == (i < i[:1, :1])).all()
        a, b = np.array([7, 8], np.uint32), np.array([1, 0xFFFFFFFF], np.uint32)
        out = aligned(2, np.uint32)
        self.map(13, (out, [(1, 2)]), (a, [(1, 2)]), (b, [(1, 2)]))
        assert out.tolist() == [8, 7]
        index, table = np.array([4, 0, 9], np.uint32), x.reshape(5, 120).copy()
        out = aligned(360, np.float32)
        self.e.run("op_gather", "GatherArgs", 2, step=header(5), out=self.tensor(out, [3, 120]), x=self.tensor(table, [(1, 1), 120]), index=self.tensor(index, [3]))
        assert (out.reshape(3, 120) == np.stack([table[4], table[0], 0 * table[0]])).all()
        self.rows_ops(x)

    def test_moves(self):
        x = rng.standard_normal((5, 3, 40)).astype(np.float32)
        dims, no = [(1, 1), 3, 40], b"\0" * 64
        copy = lambda out, out_dims, x, x_dims, perm, start=no, to=no, box=0: self.e.run(
            "op_copy", "CopyArgs", 2, step=header(5), out=self.tensor(out, out_dims), x=self.tensor(x, x_dims), to=to, box_of_x=box,
            perm=np.array(perm + [0] * 5, np.uint32).tobytes(), **{"from": start})
        out = aligned(600, np.float32)
        copy(out, [40, (1, 1), 3], x, dims, [2, 0, 1])
        assert (out.reshape(40, 5, 3) == x.transpose(2, 0, 1)).all()
        at = lambda *d: np.array([v for p in d for v in p] + [0] * (16 - 2 * len(d)), np.uint32).tobytes()
        out = aligned(5 * 3 * 7, np.float32)
        copy(out, [(1, 1), 3, 7], x, dims, [0, 1, 2], start=at((0, 0), (0, 0), (11, 0)))
        assert (out.reshape(5, 3, 7) == x[:, :, 11:18]).all()
        out = aligned(1200, np.float32)
        copy(out, [(2, 1), 3, 40], x, dims, [0, 1, 2], box=1)
        copy(out, [(2, 1), 3, 40], -x, dims, [0, 1, 2], to=at((1, 1), (0, 0), (0, 0)), box=1)
        assert (out.reshape(10, 3, 40) == np.concatenate([x, -x])).all()
        index, updates = np.array([3, 1, 3], np.int32), rng.standard_normal((3, 120)).astype(np.float32)
        out, want = aligned(600, np.float32), x.reshape(5, 120).copy()
        want[1], want[3] = updates[1], updates[2]
        self.e.run("op_scatter", "ScatterArgs", 2, step=header(5), out=self.tensor(out, [(1, 1), 120]), x=self.tensor(x, [(1, 1), 120]), index=self.tensor(index, [3]), updates=self.tensor(updates, [3, 120]))
        assert (out.reshape(5, 120) == want).all()

    def test_folds(self):
        x = rng.standard_normal((5, 3, 40)).astype(np.float32)
        dims = [(1, 1), 3, 40]
        for axis in range(3):
            for code, f in enumerate((np.sum, np.max, np.min, np.mean)):
                want = f(x.astype(np.float64), axis)
                out, shape = aligned(want.size, np.float32), [d if i != axis else 1 for i, d in enumerate(dims)]
                self.e.run("op_fold", "FoldArgs", 1, step=header(5), out=self.tensor(out, shape), x=self.tensor(x, dims), code=code, axis=axis)
                assert (out.reshape(want.shape) == want.astype(np.float32)).all()
        i = rng.integers(0, 100, (5, 40)).astype(np.uint8)
        out = aligned(200, np.uint8)
        self.e.run("op_fold", "FoldArgs", 1, step=header(5), out=self.tensor(out, [(1, 1), 40]), x=self.tensor(i, [(1, 1), 40]), code=4, axis=1)
        assert (out.reshape(5, 40) == np.cumsum(i, 1, dtype=np.uint8)).all()
        y = x[:, 0].copy()
        y[1, 3], y[2, 2], y[2, 5] = np.nan, 9, 9
        values, indices = aligned(20, np.float32), aligned(20, np.uint32)
        self.e.run("op_top_k", "TopKArgs", 2, step=header(5), values=self.tensor(values, [(1, 1), 4]), indices=self.tensor(indices, [(1, 1), 4]), x=self.tensor(y, [(1, 1), 40]), k=4)
        want = np.argsort(-np.where(np.isnan(y), np.inf, y), 1, kind="stable")[:, :4]
        assert (indices.reshape(5, 4) == want).all() and np.array_equal(values.reshape(5, 4), np.take_along_axis(y, want, 1), equal_nan=True)

    def rows_ops(self, x):
        dims, flat = [(1, 1), 3, 40], x.astype(np.float64)
        w = rng.standard_normal(40).astype(np.float32)
        centred = flat - flat.mean(-1, keepdims=True)
        e = np.exp(flat - flat.max(-1, keepdims=True))
        wants = [flat / np.sqrt((flat**2).mean(-1, keepdims=True) + 1e-5) * w, centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w, e / e.sum(-1, keepdims=True)]
        for code, want in enumerate(wants):

            def make():
                out = aligned(600, np.float32)
                self.e.run("op_rows", "RowsArgs", 4, step=header(5), out=self.tensor(out, dims), x=self.tensor(x, dims), weight=w if code < 2 else None, bias=None, code=code, eps=1e-5)
                return (out,)

            self.close(self.orders(make)[0].reshape(x.shape), want, 1e-12, f"op_rows {code}")
        best = aligned(15, np.uint32)
        self.e.run("op_rows", "RowsArgs", 4, step=header(5), out=self.tensor(best, [(1, 1), 3]), x=self.tensor(x, dims), weight=None, bias=None, code=3, eps=0.0)
        assert (best.reshape(5, 3) == x.argmax(-1)).all()
        bad, want = x.copy(), x.argmax(-1)
        for row, number in enumerate((np.nan, np.inf, -np.inf)):
            bad[row, 1, 7], want[row, 1] = number, NO_TOKEN if row < 2 else want[row, 1]
        bad[3, 0], want[3, 0] = -np.inf, 0
        want[2, 1] = bad[2, 1].argmax()
        self.e.run("op_rows", "RowsArgs", 4, step=header(5), out=self.tensor(best, [(1, 1), 3]), x=self.tensor(bad, dims), weight=None, bias=None, code=3, eps=0.0)
        assert (best.reshape(5, 3) == want).all()
