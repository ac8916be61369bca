"""aio: a compute-graph runtime for LLM decoding, over its C ABI.

    import aio
    engine = aio.Engine("model.gguf")
    for text in engine.generate("The capital of France is", max_tokens=32):
        print(text, end="")

Two levels. `Engine.batch` decodes requests together. `Engine.sequence` and `Engine.context` are for hosts with a scheduler of their
own: `Context.append` feeds tokens, `Context.verify` checks drafts in one call. Tokens come in as any buffer of 32-bit integers
(numpy, array) or as a sequence of ints; logits go out as a memoryview, which `numpy.asarray` takes without a copy. Calls
release the GIL.
"""
from __future__ import annotations

import array
import ctypes as c
import os
import time
from typing import Callable, Iterable, Iterator, Mapping, Optional, Sequence as Ints, Union

from . import _abi as abi

_api = abi.load()

__all__ = ["AioError", "Batch", "Context", "Engine", "Request", "Sampling", "Sequence", "Usage"]

Tokens = Union[Ints[int], "memoryview", "array.array"]
_STOPS = (None, "end", "stop", "length", "context", "cancelled")


class AioError(RuntimeError):
    """A call failed. `status` is that of aio.h."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def _call(function, *arguments) -> None:
    error = abi.Error()
    status = function(*arguments, c.byref(error))
    if status != abi.OK:
        raise AioError(status, error.message.decode())


def _filled(function, kind, *arguments):
    """What a function that fills a buffer says; asks again where the first buffer is too small."""
    capacity, size = 256, c.c_uint64()
    while True:
        buffer = (kind * capacity)()
        error = abi.Error()
        status = function(*arguments, buffer, capacity, c.byref(size), c.byref(error))
        if status == abi.OK:
            return buffer, size.value
        if status != abi.BUFFER_TOO_SMALL:
            raise AioError(status, error.message.decode())
        capacity = size.value + 1


def _tokens(tokens: Tokens):
    """A pointer to tokens, their number, and what keeps them alive."""
    try:
        view = memoryview(tokens)  # type: ignore[arg-type]
    except TypeError:
        view = memoryview(array.array("I", tokens))
    if view.itemsize != 4 or view.format.strip("@=<") not in ("I", "i", "L", "l") or not view.c_contiguous:
        view = memoryview(array.array("I", view.tolist()))
    if view.readonly:
        view = memoryview(bytearray(view.cast("B")))
    flat = view.cast("B")
    return (c.c_uint32 * (len(flat) // 4)).from_buffer(flat), len(flat) // 4


class _Handle:
    """Owns a handle of the library."""

    _free: Callable

    def __init__(self, handle):
        self._handle = handle

    def close(self) -> None:
        """Frees what it stands for; it cannot be used afterwards."""
        if self._handle.id:
            handle, self._handle = self._handle, type(self._handle)()
            _call(self._free, handle)

    def __del__(self):
        try:
            self.close()
        except (AioError, AttributeError):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Sampling:
    """How tokens are sampled: filters in the order of the parameters, then the temperature; 0 for the most likely token."""

    def __init__(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0,
                 repeat_penalty: float = 1.0, presence_penalty: float = 0.0, frequency_penalty: float = 0.0,
                 repeat_last_n: int = 64, choice: int = 0, seed: int = 0):
        self._params = abi.Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
                                    repeat_penalty=repeat_penalty, presence_penalty=presence_penalty,
                                    frequency_penalty=frequency_penalty, repeat_last_n=repeat_last_n, choice=choice,
                                    seed=seed)


def _sampling(sampling: Optional[Sampling]):
    return c.pointer(sampling._params) if sampling else None


class Sequence(_Handle):
    """The tokens of one text in the KV cache."""

    _free = staticmethod(_api.sequence_free)

    def __len__(self) -> int:
        length = c.c_uint64()
        _call(_api.sequence_get_length, self._handle, c.byref(length))
        return length.value

    def truncate(self, length: int) -> None:
        """Cuts it to `length` positions."""
        _call(_api.sequence_truncate, self._handle, length, None)

    def fork(self, length: Optional[int] = None) -> "Sequence":
        """A second sequence with the first positions, or with all. Both share memory until one grows."""
        handle = abi.Sequence()
        _call(_api.sequence_fork, self._handle, len(self) if length is None else length, c.byref(handle))
        return Sequence(handle)


class Context(_Handle):
    """Runs steps. One for each thread that does."""

    _free = staticmethod(_api.context_free)

    def __init__(self, handle):
        super().__init__(handle)
        self._outputs = abi.Outputs()
        self._accepted, self._next = c.c_uint32(), c.c_uint32()

    def append(self, sequence: Sequence, tokens: Tokens, sampling: Optional[Sampling] = None) -> int:
        """Appends tokens and returns the next one."""
        at, count = _tokens(tokens)
        _call(_api.append, self._handle, sequence._handle, at, count, 1, _sampling(sampling), c.byref(self._outputs))
        return self._outputs.tokens[0]

    def logits(self, sequence: Sequence, tokens: Tokens) -> memoryview:
        """Appends tokens and returns the logits after the last one: a copy, of 32-bit floats."""
        at, count = _tokens(tokens)
        _call(_api.append, self._handle, sequence._handle, at, count, 2, None, c.byref(self._outputs))
        return memoryview(c.string_at(self._outputs.values, 4 * self._outputs.width)).cast("f")

    def verify(self, sequence: Sequence, token: int, drafts: Tokens = (), sampling: Optional[Sampling] = None,
               recent: Tokens = ()) -> "tuple[int, int]":
        """Runs a text's last token and drafts after it in one submission.

        Returns how many drafts plain decoding would have produced, and the token after them. The sequence then has `token` and the
        accepted drafts. `recent` are the tokens before `token`, for penalties.
        """
        drafts_at, n_drafts = _tokens(drafts)
        recent_at, n_recent = _tokens(recent)
        params = abi.VerifyParams(n_drafts=n_drafts, token=token, drafts=c.cast(drafts_at, abi.U32P),
                                  sampling=_sampling(sampling), recent=c.cast(recent_at, abi.U32P), n_recent=n_recent)
        _call(_api.verify, self._handle, sequence._handle, c.byref(params), c.byref(self._accepted), c.byref(self._next))
        return self._accepted.value, self._next.value


class Usage:
    """How far a request is. `stop` is None until it has ended, then end, stop, length, context or cancelled."""

    def __init__(self, usage):
        self.stop = _STOPS[usage.stop]
        self.prompt_tokens, self.tokens = usage.prompt_tokens, usage.tokens
        self.steps, self.drafted, self.accepted = usage.steps, usage.drafted, usage.accepted
        self.prefill_seconds, self.decode_seconds = usage.prefill_seconds, usage.decode_seconds

    def __repr__(self) -> str:
        return f"Usage({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class Request(_Handle):
    """A request of a batch."""

    _free = staticmethod(_api.request_free)

    @property
    def text(self) -> str:
        """All text so far."""
        buffer, size = _filled(_api.request_get_text, c.c_char, self._handle)
        return buffer[:size].decode()

    @property
    def tokens(self) -> "list[int]":
        """All tokens so far."""
        buffer, size = _filled(_api.request_get_tokens, c.c_uint32, self._handle)
        return buffer[:size]

    @property
    def usage(self) -> Usage:
        """How far it is. Raises what ended it, if that was an error."""
        usage = abi.Usage()
        _call(_api.request_get_usage, self._handle, c.byref(usage))
        return Usage(usage)

    def cancel(self) -> None:
        """Ends it after the step that runs."""
        _call(_api.request_cancel, self._handle)


class Batch(_Handle):
    """Requests that are decoded together."""

    _free = staticmethod(_api.batch_free)

    def submit(self, prompt: Tokens, max_tokens: int = 0, sampling: Optional[Sampling] = None,
               speculation: Union[bool, int] = True, stop: Iterable[str] = (), ignore_end: bool = False) -> Request:
        """Adds a request. `speculation`: whether drafts are verified where that pays, or how many in each step."""
        at, count = _tokens(prompt)
        stops = [text.encode() for text in stop]
        fixed = not isinstance(speculation, bool)
        params = abi.RequestParams(flags=int(ignore_end), prompt=c.cast(at, abi.U32P), n_prompt=count, max_tokens=max_tokens,
                                   speculation=2 if fixed else int(speculation), drafts=int(speculation) if fixed else 0,
                                   n_stops=len(stops), sampling=_sampling(sampling),
                                   stops=(c.c_char_p * len(stops))(*stops) if stops else None)
        handle = abi.Request()
        _call(_api.request_submit, self._handle, c.byref(params), c.byref(handle))
        return Request(handle)

    def step(self) -> int:
        """Runs one step of all requests. Returns how many have not ended."""
        unfinished = c.c_uint64()
        _call(_api.batch_step, self._handle, c.byref(unfinished))
        return unfinished.value


class Engine(_Handle):
    """A model on a device.

    `model` is the path of a GGUF file or a compiled artefact, or the bytes of a GGUF file. `options` are those of the device.
    """

    _free = staticmethod(_api.engine_free)

    def __init__(self, model: Union[str, "os.PathLike[str]", bytes], device: str = "cpu", threads: int = 0, context: int = 0,
                 sequences: int = 1, prefill_rows: int = 0, options: Optional[Mapping[str, str]] = None):
        pairs = [abi.Option(name=k.encode(), value=v.encode()) for k, v in (options or {}).items()]
        of_device = abi.DeviceParams(threads=threads, name=device.encode(), n_options=len(pairs),
                                     options=(abi.Option * len(pairs))(*pairs) if pairs else None)
        opened = abi.Device()
        _call(_api.device_open, c.byref(of_device), c.byref(opened))
        params = abi.EngineParams(context=context, sequences=sequences, prefill_rows=prefill_rows)
        if isinstance(model, bytes):
            params.data, params.data_size = c.cast(c.c_char_p(model), c.c_void_p), len(model)
        else:
            params.path = os.fsencode(model)
        handle = abi.Engine()
        try:
            _call(_api.engine_open, opened, c.byref(params), c.byref(handle))
        finally:
            _call(_api.device_free, opened)
        super().__init__(handle)

    @property
    def info(self) -> "dict[str, int]":
        """What it is: the fields of aio_engine_info."""
        info = abi.EngineInfo()
        _call(_api.engine_get_info, self._handle, c.byref(info))
        return {name: getattr(info, name) for name, _ in info._fields_ if name not in ("struct_size", "reserved")}

    def cost(self, rows: int = 1, sequences: int = 1, positions: int = 1) -> "dict[str, float]":
        """Bytes, flops and predicted seconds of a step; positions of all sequences together."""
        size, cost = abi.StepSize(sequences=sequences, rows=rows, positions=positions), abi.Cost()
        _call(_api.engine_get_cost, self._handle, c.byref(size), c.byref(cost))
        return {"bytes": cost.bytes, "flops": cost.flops, "seconds": cost.seconds}

    def tokenize(self, text: str, special: bool = True, frame: bool = True) -> "list[int]":
        """The tokens of a text. `special`: texts of special tokens stand for these; `frame`: as a prompt begins."""
        data = text.encode()
        buffer, size = _filled(_api.tokenize, c.c_uint32, self._handle, data, len(data), special | frame << 1)
        return buffer[:size]

    def detokenize(self, tokens: Tokens, special: bool = False) -> str:
        """The text of tokens."""
        at, count = _tokens(tokens)
        buffer, size = _filled(_api.detokenize, c.c_char, self._handle, at, count, int(special))
        return buffer[:size].decode()

    def chat(self, messages: Iterable[Mapping[str, str]]) -> str:
        """Messages with `role` and `content` in the form that the model was trained on."""
        all_ = [abi.Message(role=m["role"].encode(), content=m["content"].encode()) for m in messages]
        given = (abi.Message * len(all_))(*all_)
        buffer, size = _filled(_api.apply_chat_template, c.c_char, self._handle, given, len(all_), int(time.time()))
        return buffer[:size].decode()

    def sequence(self) -> Sequence:
        """An empty sequence."""
        handle = abi.Sequence()
        _call(_api.sequence_create, self._handle, c.byref(handle))
        return Sequence(handle)

    def context(self) -> Context:
        """A context for steps."""
        handle = abi.Context()
        _call(_api.context_create, self._handle, c.byref(handle))
        return Context(handle)

    def batch(self) -> Batch:
        """An empty batch."""
        handle = abi.Batch()
        _call(_api.batch_create, self._handle, c.byref(handle))
        return Batch(handle)

    def generate(self, prompt: Union[str, Tokens], **options) -> Iterator[str]:
        """Continues a prompt; the text in pieces, as it comes. `options` are those of Batch.submit."""
        with self.batch() as batch:
            request = batch.submit(self.tokenize(prompt) if isinstance(prompt, str) else prompt, **options)
            shown, unfinished = 0, 1
            while unfinished:
                unfinished = batch.step()
                text = request.text
                if len(text) > shown:
                    yield text[shown:]
                    shown = len(text)
            request.usage
