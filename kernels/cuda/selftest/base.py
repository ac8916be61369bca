"""What all tests of kernels share."""

import numpy as np

from selftest.emulation import header
from selftest.packing import acts_buffer


class Base:
    """A library under test."""

    def __init__(self, emulation):
        self.e = emulation

    def orders(self, make):
        """The result in all three orders, which must be the same."""
        results = []
        for order in range(3):
            self.e.order = order
            results.append(make())
        self.e.order = 0
        for r in results[1:]:
            for a, b in zip(results[0], r):
                assert a.tobytes() == b.tobytes(), "the order of threads shows"
        return results[0]

    def close(self, got, want, bound, what):
        error = float(((got - want) ** 2).sum() / (np.asarray(want, np.float64) ** 2).sum())
        assert error <= bound, f"{what}: error {error:.2e}, bound {bound:.0e}"

    def prepare(self, kind, x, norm=None, index=None, symbol=1, **head):
        rows, k = (len(index) if index is not None else len(x)), x.shape[1]
        acts = acts_buffer(kind, rows, k)
        step = header(**(head or {"rows": rows, "outs": rows}))
        self.e.run(f"prepare_{kind}", "PrepareArgs", rows + 3, step=step, x=x, norm=norm, row_index=index, acts=acts, k=k, eps=1e-5, symbol=symbol)
        return acts
