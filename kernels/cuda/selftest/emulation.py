"""The emulation of the CUDA kernels from Python: builds the library, launches kernels, gives memory full of garbage.

Used by all tests of this folder.
"""

import ctypes
import os
import pathlib
import subprocess

import numpy as np

KERNELS = pathlib.Path(__file__).resolve().parent.parent


def build(folder):
    out = pathlib.Path(folder) / "emulation.so"
    flags = "-std=c++17 -O2 -march=native -ffp-contract=off -fPIC -shared -pthread -Wall -Wextra -DAIO_EMULATE -x c++".split()
    subprocess.run([os.environ.get("CXX", "c++"), *flags, KERNELS / "emulate.cpp", "-o", out], check=True)
    return out


class Launch(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("args", ctypes.c_char_p), ("args_bytes", ctypes.c_uint32)]
    _fields_ += [("grid", ctypes.c_uint32 * 3), ("threads", ctypes.c_uint32), ("shared_bytes", ctypes.c_uint32)]
    _fields_ += [("order", ctypes.c_uint32), ("host_threads", ctypes.c_uint32), ("seed", ctypes.c_uint64)]


class Field(ctypes.Structure):
    _fields_ = [("type", ctypes.c_char_p), ("field", ctypes.c_char_p), ("offset", ctypes.c_uint32), ("bytes", ctypes.c_uint32)]


class Emulation:
    """The shared library; arguments are written by the offsets that it exports."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        self.lib.aio_emulate_launch.restype = ctypes.c_char_p
        self.lib.aio_emulate_field.restype = ctypes.POINTER(Field)
        self.fields, index = {}, 0
        while f := self.lib.aio_emulate_field(index):
            f = f.contents
            self.fields[f.type.decode(), f.field.decode()] = (f.offset, f.bytes)
            index += 1
        self.order = 0

    def args(self, kind, values):
        out = bytearray(self.fields[kind, ""][1])
        for name, value in values.items():
            offset, size = self.fields[kind, name]
            if isinstance(value, np.ndarray):
                assert value.flags.c_contiguous, name
                value = value.ctypes.data
            if value is None:
                value = 0
            if isinstance(value, float):
                value = int(np.float32(value).view(np.uint32))
            raw = value if isinstance(value, bytes) else int(value).to_bytes(size, "little")
            out[offset : offset + size] = raw
        return bytes(out)

    def run(self, name, kind, grid, shared=0, order=None, **values):
        self.launch(name, self.args(kind, values), grid, shared, order)

    def launch(self, name, raw, grid, shared=0, order=None, together=False):
        """Blocks of a launch together wait for one another, so each has a thread of its own."""
        grid = (*grid, 1, 1)[:3] if isinstance(grid, tuple) else (grid, 1, 1)
        order = self.order if order is None else order
        launch = Launch(name.encode(), raw, len(raw), grid, 256, shared, order, 0 if together else 2, 11)
        error = self.lib.aio_emulate_launch(ctypes.byref(launch))
        assert not error, f"{name}: {error.decode()}"


def aligned(count, dtype=np.uint8, fill=0xA5):
    """Garbage at a multiple of 256 bytes."""
    size = int(count) * np.dtype(dtype).itemsize
    raw = np.full(size + 256, fill, np.uint8)
    start = -raw.ctypes.data % 256
    return raw[start : start + size].view(dtype)


def header(rows=0, seqs=1, outs=0, pages=1, recent=0, flags=0):
    return np.array([rows, seqs, outs, pages, recent, flags, pages, 0], np.uint32)
