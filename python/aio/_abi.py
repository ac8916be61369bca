"""The C ABI as ctypes sees it: structs, handles and the table of functions of `aio.h`, which describes them.

A test compares every struct and function here with the library's (crates/capi/tests/python.rs). Used by the package alone.
"""
import ctypes as c
from pathlib import Path

VERSION = (0 << 16) | 1
LIBRARIES = ("libaio_capi.so", "libaio_capi.dylib", "aio_capi.dll")

OK, BUFFER_TOO_SMALL = 0, 12
U32P, U64P, F32P = c.POINTER(c.c_uint32), c.POINTER(c.c_uint64), c.POINTER(c.c_float)


def _struct(name, *fields):
    """A struct of these fields; one that begins with struct_size has it set."""

    def init(self, **values):
        c.Structure.__init__(self, **values)
        if fields[0][0] == "struct_size":
            self.struct_size = c.sizeof(type(self))

    return type(name, (c.Structure,), {"_fields_": list(fields), "__init__": init})


def _u32(*names):
    return [(name, c.c_uint32) for name in names]


def _u64(*names):
    return [(name, c.c_uint64) for name in names]


Device, Engine, Sequence, Context, Batch, Request = (
    _struct(f"aio_{name}", ("id", c.c_uint64)) for name in ("device", "engine", "sequence", "context", "batch", "request")
)
TextFn = c.CFUNCTYPE(c.c_int32, c.c_void_p, Request, c.POINTER(c.c_char), c.c_uint64)

Error = _struct("aio_error", *_u32("struct_size"), ("status", c.c_int32), ("message", c.c_char * 504))
Option = _struct("aio_option", ("name", c.c_char_p), ("value", c.c_char_p))
DeviceParams = _struct("aio_device_params", *_u32("struct_size", "threads"), ("name", c.c_char_p),
                       ("options", c.POINTER(Option)), *_u64("n_options"))
EngineParams = _struct("aio_engine_params",
                       *_u32("struct_size", "context", "sequences", "prefill_rows", "flags", "reserved"),
                       ("path", c.c_char_p), ("data", c.c_void_p), *_u64("data_size"))
EngineInfo = _struct("aio_engine_info",
                     *_u32("struct_size", "context", "vocabulary", "hidden", "step_rows", "verify_rows", "max_drafts",
                           "plans", "recurrent", "reserved"),
                     *_u64("positions", "weight_bytes", "kv_bytes_per_position"))
PlanInfo = _struct("aio_plan_info",
                   *_u32("struct_size", "rows", "sequences", "outputs", "tail", "verifies", "tasks", "reserved"),
                   *_u64("weight_bytes"), ("name", c.c_char * 64))
StepSize = _struct("aio_step_size", *_u32("struct_size", "sequences", "rows", "reserved"), *_u64("positions"))
Cost = _struct("aio_cost", *_u32("struct_size", "reserved"), *_u64("bytes", "flops"), ("seconds", c.c_double))
Counters = _struct("aio_counters", *_u32("struct_size", "reserved"),
                   *_u64("submissions", "launches", "syncs", "bytes_read", "bytes_written", "modelled_ns"))
Sampling = _struct("aio_sampling", *_u32("struct_size"), ("temperature", c.c_float), ("top_k", c.c_uint32),
                   ("top_p", c.c_float), ("min_p", c.c_float), ("repeat_penalty", c.c_float),
                   ("presence_penalty", c.c_float), ("frequency_penalty", c.c_float),
                   *_u32("repeat_last_n", "choice"), *_u64("seed"))
Message = _struct("aio_message", ("role", c.c_char_p), ("content", c.c_char_p))
Row = _struct("aio_row", *_u32("token", "sequence", "position", "want"), ("sampling", c.POINTER(Sampling)),
              ("recent", U32P), *_u64("n_recent"), ("bias", F32P))
StepParams = _struct("aio_step_params", *_u32("struct_size", "flags"), ("sequences", c.POINTER(Sequence)),
                     *_u64("n_sequences"), ("rows", c.POINTER(Row)), *_u64("n_rows"))
Outputs = _struct("aio_outputs", *_u32("struct_size", "reserved"), ("tokens", U32P), ("values", F32P),
                  ("accepted", U32P), ("next", U32P), *_u64("count", "width"))
VerifyParams = _struct("aio_verify_params", *_u32("struct_size", "n_drafts", "token", "reserved"), ("drafts", U32P),
                       ("sampling", c.POINTER(Sampling)), ("recent", U32P), *_u64("n_recent"))
RequestParams = _struct("aio_request_params", *_u32("struct_size", "flags"), ("prompt", U32P), *_u64("n_prompt"),
                        *_u32("max_tokens", "speculation", "drafts", "n_stops"), ("sampling", c.POINTER(Sampling)),
                        ("stops", c.POINTER(c.c_char_p)), ("stop_tokens", U32P), *_u64("n_stop_tokens"), ("bias", F32P),
                        ("on_text", TextFn), ("user", c.c_void_p))
Usage = _struct("aio_usage", *_u32("struct_size", "stop"),
                *_u64("prompt_tokens", "tokens", "steps", "drafted", "accepted"), ("prefill_seconds", c.c_double),
                ("decode_seconds", c.c_double))

STRUCTS = (Device, Engine, Sequence, Context, Batch, Request, Error, Option, DeviceParams, EngineParams, EngineInfo, PlanInfo,
           StepSize, Cost, Counters, Sampling, Message, Row, StepParams, Outputs, VerifyParams, RequestParams, Usage)

P = c.POINTER
FUNCTIONS = {
    "device_open": (P(DeviceParams), P(Device)),
    "device_free": (Device,),
    "engine_open": (Device, P(EngineParams), P(Engine)),
    "engine_free": (Engine,),
    "engine_get_info": (Engine, P(EngineInfo)),
    "engine_get_plan": (Engine, c.c_uint32, P(PlanInfo)),
    "engine_get_cost": (Engine, P(StepSize), P(Cost)),
    "engine_get_counters": (Engine, P(Counters)),
    "tokenize": (Engine, c.c_char_p, c.c_uint64, c.c_uint32, U32P, c.c_uint64, U64P),
    "detokenize": (Engine, U32P, c.c_uint64, c.c_uint32, c.c_char_p, c.c_uint64, U64P),
    "token_is_end": (Engine, c.c_uint32, U32P),
    "apply_chat_template": (Engine, P(Message), c.c_uint64, c.c_uint64, c.c_char_p, c.c_uint64, U64P),
    "sequence_create": (Engine, P(Sequence)),
    "sequence_free": (Sequence,),
    "sequence_get_length": (Sequence, U64P),
    "sequence_truncate": (Sequence, c.c_uint64, U64P),
    "sequence_fork": (Sequence, c.c_uint64, P(Sequence)),
    "context_create": (Engine, P(Context)),
    "context_free": (Context,),
    "append": (Context, Sequence, U32P, c.c_uint64, c.c_uint32, P(Sampling), P(Outputs)),
    "verify": (Context, Sequence, P(VerifyParams), U32P, U32P),
    "step": (Context, P(StepParams), P(Outputs)),
    "batch_create": (Engine, P(Batch)),
    "batch_free": (Batch,),
    "batch_step": (Batch, U64P),
    "request_submit": (Batch, P(RequestParams), P(Request)),
    "request_cancel": (Request,),
    "request_get_text": (Request, c.c_char_p, c.c_uint64, U64P),
    "request_get_tokens": (Request, U32P, c.c_uint64, U64P),
    "request_get_usage": (Request, P(Usage)),
    "request_free": (Request,),
}


class Api(c.Structure):
    """The table. Each function also takes an aio_error and returns a status; ctypes releases the GIL meanwhile."""

    _fields_ = [*_u32("struct_size", "version")] + [
        (name, c.CFUNCTYPE(c.c_int32, *arguments, P(Error))) for name, arguments in FUNCTIONS.items()
    ]


def load():
    """The table of the library beside this file."""
    found = [path for name in LIBRARIES if (path := Path(__file__).parent / name).is_file()]
    if not found:
        raise ImportError(f"there is no {' or '.join(LIBRARIES)} beside {__file__}")
    library = c.CDLL(str(found[0]))
    library.aio_get_api.restype = c.POINTER(Api)
    library.aio_get_api.argtypes = [c.c_uint32]
    api = library.aio_get_api(VERSION)
    if not api:
        raise ImportError(f"{found[0]} is older than this package")
    return api.contents
