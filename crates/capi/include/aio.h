/* aio: a compute-graph runtime for LLM decoding. The C interface, for C11 and C++17.
 *
 * Two levels. A host with its own scheduler uses engines, sequences and steps: `aio_append` feeds a prompt, `aio_verify` checks a
 * run of drafts in one submission, `aio_step` runs rows of any sequences. A host without one submits requests to a batch and calls
 * `aio_batch_step` until they are done.
 *
 * RULES FOR ALL FUNCTIONS
 * Status   Each function returns a status; AIO_OK is 0. Where it fails, it has changed nothing unless it says so.
 * Errors   The last parameter receives the message of a failure; it may be null. Set its struct_size first (AIO_ERROR_INIT).
 * Structs  Each but the elements of arrays begins with struct_size, which the caller sets to sizeof. A program that was built with
 *          an older header passes shorter structs: what they lack counts as zero. Fields that this library does not know, and
 *          fields named `reserved`, must be zero.
 * Handles  Small structs passed by value; {0} is none. A handle that was freed, or is of another kind, gives
 *          AIO_INVALID_HANDLE. Objects keep what they were made of, so handles may be freed in any order.
 * Threads  Every function may be called from every thread, unless it says otherwise. An object that another call is using
 *          gives AIO_BUSY where the function says so, and never waits. Steps of one engine take turns.
 * Memory   What the caller passes is read during the call and not kept. What a function points the caller to says how long it
 *          stays.
 * Texts    UTF-8. With a size they need no zero at the end and may contain zeros.
 * Buffers  A function that fills a buffer writes the size needed in any case; AIO_BUFFER_TOO_SMALL if there is less room.
 *          A buffer may be null if its capacity is 0.
 *
 * The library starts no threads besides those of a device, installs no signal handlers, reads no environment variables and prints
 * nothing.
 */
#ifndef AIO_H
#define AIO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define AIO_NOEXCEPT noexcept
extern "C" {
#else
#define AIO_NOEXCEPT
#endif

/* The version of this header. A library serves the programs of its own major version whose minor version is not above its own. */
#define AIO_VERSION_MAJOR 0u
#define AIO_VERSION_MINOR 1u
#define AIO_VERSION ((AIO_VERSION_MAJOR << 16) | AIO_VERSION_MINOR)

/* ---- Statuses ---------------------------------------------------------------------------------------------------------- */

typedef int32_t aio_status;
enum {
  AIO_OK = 0,
  AIO_INVALID_ARGUMENT = 1, /* out of range, null, of an unknown size, or it does not fit the others */
  AIO_INVALID_HANDLE = 2,   /* null, freed, or of another kind */
  AIO_BUSY = 3,             /* another call is using the object, perhaps the one that a callback was called from */
  AIO_OUT_OF_MEMORY = 4,
  AIO_UNSUPPORTED = 5, /* the device, the model or this version of the library cannot do it */
  AIO_IO = 6,          /* a file cannot be read or written */
  AIO_FORMAT = 7,      /* a model, an artefact or a template is malformed */
  AIO_DEVICE = 8,      /* the device failed */
  AIO_FULL = 9,        /* the KV cache or the batch is full; it works again once a sequence gives something back */
  AIO_NOT_RESTORABLE = 10,   /* the recurrent state at that length was not kept */
  AIO_NO_TOKEN = 11,         /* a row's logits are NaN or infinite */
  AIO_BUFFER_TOO_SMALL = 12, /* the size needed was written */
  AIO_INTERNAL = 13          /* a fault of the library, which caught it; free the object that was called */
};

/* The message of a failure. */
typedef struct aio_error {
  uint32_t struct_size;
  aio_status status;
  char message[504]; /* ended by a zero; cut at a character if it is longer */
} aio_error;
#define AIO_ERROR_INIT {(uint32_t)sizeof(aio_error), AIO_OK, {0}}

/* ---- Handles ----------------------------------------------------------------------------------------------------------- */

typedef struct aio_device { uint64_t id; } aio_device;
typedef struct aio_engine { uint64_t id; } aio_engine;     /* a model on a device */
typedef struct aio_sequence { uint64_t id; } aio_sequence; /* the tokens of one text in the KV cache */
typedef struct aio_context { uint64_t id; } aio_context;   /* the outputs of one caller's last step */
typedef struct aio_batch { uint64_t id; } aio_batch;       /* requests that are decoded together */
typedef struct aio_request { uint64_t id; } aio_request;

/* ---- Parameters -------------------------------------------------------------------------------------------------------- */

/* An option of a device as text. `aio device list` and the README name them: `isa`, `threads`, `chip`, and so on. */
typedef struct aio_option {
  const char *name;
  const char *value;
} aio_option;

typedef struct aio_device_params {
  uint32_t struct_size;
  uint32_t threads; /* of a CPU, the caller's included; 0 for one per core */
  const char *name; /* cpu, cuda, ascend, interp; null for cpu */
  const aio_option *options;
  uint64_t n_options;
} aio_device_params;

enum {
  AIO_ENGINE_HIDDEN = 1, /* rows may ask for hidden states, which takes a plan for each size of step */
  AIO_ENGINE_MAP = 2     /* the weights of an artefact are used where the file is mapped, and not checked */
};

typedef struct aio_engine_params {
  uint32_t struct_size;
  uint32_t context;      /* positions; 0 for the model's own */
  uint32_t sequences;    /* that run at once, each with room for its context; 0 for 1 */
  uint32_t prefill_rows; /* most rows of a step; 0 for 512 */
  uint32_t flags;
  uint32_t reserved;
  const char *path; /* a GGUF file, or an artefact of `aio compile`; null for a model in memory */
  const uint8_t *data; /* a GGUF file in memory, which is copied; null for `path` */
  uint64_t data_size;
} aio_engine_params;

typedef struct aio_engine_info {
  uint32_t struct_size;
  uint32_t context;     /* positions */
  uint32_t vocabulary;  /* tokens */
  uint32_t hidden;      /* elements of a hidden state; 0 if rows cannot ask for it */
  uint32_t step_rows;   /* most rows of a step */
  uint32_t verify_rows; /* most rows of a step that verifies drafts */
  uint32_t max_drafts;  /* of a sequence in a step */
  uint32_t plans;
  uint32_t recurrent; /* 1 if sequences can be cut at some lengths only */
  uint32_t reserved;
  uint64_t positions;    /* that the KV cache holds for all sequences together */
  uint64_t weight_bytes; /* that a step of one row reads */
  uint64_t kv_bytes_per_position;
} aio_engine_info;

typedef enum aio_tail { AIO_TAIL_ARGMAX = 0, AIO_TAIL_SAMPLE = 1, AIO_TAIL_LOGITS = 2, AIO_TAIL_HIDDEN = 3 } aio_tail;

typedef struct aio_plan_info {
  uint32_t struct_size;
  uint32_t rows; /* at most, as are sequences and outputs */
  uint32_t sequences;
  uint32_t outputs;
  uint32_t tail;     /* an aio_tail: what it returns */
  uint32_t verifies; /* 1 if it verifies drafts */
  uint32_t tasks;
  uint32_t reserved;
  uint64_t weight_bytes; /* that a step of one row reads */
  char name[64];
} aio_plan_info;

typedef struct aio_step_size {
  uint32_t struct_size;
  uint32_t sequences;
  uint32_t rows; /* of all sequences */
  uint32_t reserved;
  uint64_t positions; /* of all sequences together, those of the step included */
} aio_step_size;

typedef struct aio_cost {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t bytes;  /* of weights, keys and values that are read */
  uint64_t flops;  /* two for a multiply-add */
  double seconds; /* predicted, at the device's present speed */
} aio_cost;

/* Totals since the device was opened. The difference between two readings is what happened in between. */
typedef struct aio_counters {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t submissions;
  uint64_t launches;
  uint64_t syncs;
  uint64_t bytes_read;
  uint64_t bytes_written;
  uint64_t modelled_ns; /* of all steps, on a device with modelled time */
} aio_counters;

/* How a token is sampled: filters in the order of the fields, then the temperature. The same seed gives the same text, with and
 * without drafts, however rows are batched. Begin with AIO_SAMPLING_INIT, which is greedy. */
typedef struct aio_sampling {
  uint32_t struct_size;
  float temperature;    /* 0 for the most likely token */
  uint32_t top_k;       /* 0 keeps all */
  float top_p;          /* 1 keeps all */
  float min_p;          /* 0 drops none */
  float repeat_penalty; /* 1 for none */
  float presence_penalty;
  float frequency_penalty;
  uint32_t repeat_last_n; /* recent tokens that penalties apply to */
  uint32_t choice;        /* which of several texts with the same seed */
  uint64_t seed;
} aio_sampling;
#define AIO_SAMPLING_INIT {(uint32_t)sizeof(aio_sampling), 0.0f, 0, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f, 64, 0, 0}

typedef struct aio_message {
  const char *role; /* system, user, assistant, or another that the model's template knows */
  const char *content;
} aio_message;

/* ---- Steps ------------------------------------------------------------------------------------------------------------- */

typedef enum aio_want {
  AIO_WANT_NOTHING = 0, /* the row fills the KV cache alone */
  AIO_WANT_TOKEN = 1,
  AIO_WANT_LOGITS = 2,
  AIO_WANT_HIDDEN = 3 /* the last hidden state after its norm; needs AIO_ENGINE_HIDDEN */
} aio_want;

typedef struct aio_row {
  uint32_t token;
  uint32_t sequence; /* index in the step's sequences */
  uint32_t position; /* from 0 */
  uint32_t want;     /* an aio_want */
  const aio_sampling *sampling; /* null for the most likely token */
  const uint32_t *recent;       /* the sequence's tokens up to this one, or the last of them, for penalties; newest last */
  uint64_t n_recent;
  const float *bias; /* added to the logits, one number for each token of the vocabulary; may be null */
} aio_row;

enum {
  AIO_STEP_VERIFY = 1, /* of each sequence, the rows that ask for a token are its last token and the drafts after it */
  AIO_STEP_KEEP = 2    /* lengths stay as they are, so that the rows run again later */
};

typedef struct aio_step_params {
  uint32_t struct_size;
  uint32_t flags;
  const aio_sequence *sequences; /* each once */
  uint64_t n_sequences;
  const aio_row *rows; /* those of a sequence follow each other, in order of position */
  uint64_t n_rows;
} aio_step_params;

/* The outputs of a step. They stay until the context's next step, or until it is freed. */
typedef struct aio_outputs {
  uint32_t struct_size;
  uint32_t reserved;
  const uint32_t *tokens;   /* of the rows that asked for one, in order; UINT32_MAX for a row without a token */
  const float *values;      /* if any row asked for logits or its hidden state: those of all rows with an output, in order */
  const uint32_t *accepted; /* with AIO_STEP_VERIFY: accepted drafts of each sequence */
  const uint32_t *next;     /* with AIO_STEP_VERIFY: the token after them; UINT32_MAX for none */
  uint64_t count;           /* rows with an output; with AIO_STEP_VERIFY, sequences */
  uint64_t width;           /* numbers of a row of `values` */
} aio_outputs;

typedef struct aio_verify_params {
  uint32_t struct_size;
  uint32_t n_drafts;
  uint32_t token; /* the text's last token, which the sequence does not have yet */
  uint32_t reserved;
  const uint32_t *drafts; /* after it */
  const aio_sampling *sampling; /* null for the most likely tokens */
  const uint32_t *recent; /* the tokens before `token`, or the last of them, for penalties; newest last */
  uint64_t n_recent;
} aio_verify_params;

/* ---- Requests ---------------------------------------------------------------------------------------------------------- */

typedef enum aio_speculation {
  AIO_SPECULATION_OFF = 0,
  AIO_SPECULATION_AUTO = 1, /* as many drafts as pay in each step, none where they do not */
  AIO_SPECULATION_FIXED = 2 /* `drafts` in each step, as far as there are any */
} aio_speculation;

enum { AIO_REQUEST_IGNORE_END = 1 }; /* goes on after a token that ends the model's output */

/* Receives new text of a request, at least once a step, then with size 0. Called during aio_batch_step on its thread. Returns 0 to go
 * on; any other number ends the request. It may call functions of other objects; its own batch, and steps of the batch's
 * engine, give AIO_BUSY. An exception that leaves it ends the program. */
typedef int32_t (*aio_text_fn)(void *user, aio_request request, const char *text, uint64_t size) AIO_NOEXCEPT;

typedef struct aio_request_params {
  uint32_t struct_size;
  uint32_t flags;
  const uint32_t *prompt; /* tokens */
  uint64_t n_prompt;
  uint32_t max_tokens;  /* 0 for no limit besides the context */
  uint32_t speculation; /* an aio_speculation; changes the speed, never the text */
  uint32_t drafts;
  uint32_t n_stops;
  const aio_sampling *sampling; /* null for the most likely tokens */
  const char *const *stops;     /* texts that end the output and are no part of it, each ended by a zero */
  const uint32_t *stop_tokens;
  uint64_t n_stop_tokens;
  const float *bias;   /* added to the logits, one number for each token of the vocabulary; may be null */
  aio_text_fn on_text; /* may be null */
  void *user;          /* passed to it */
} aio_request_params;

typedef enum aio_stop {
  AIO_STOP_NOT_YET = 0,
  AIO_STOP_END = 1,     /* a token that ends the model's output */
  AIO_STOP_TEXT = 2,    /* one of `stops` */
  AIO_STOP_LENGTH = 3,  /* max_tokens */
  AIO_STOP_CONTEXT = 4, /* the context is full */
  AIO_STOP_CANCELLED = 5
} aio_stop;

typedef struct aio_usage {
  uint32_t struct_size;
  uint32_t stop; /* an aio_stop */
  uint64_t prompt_tokens;
  uint64_t tokens;   /* generated */
  uint64_t steps;    /* after the first token; this and what follows once the request has ended */
  uint64_t drafted;  /* drafts verified */
  uint64_t accepted; /* of these */
  double prefill_seconds; /* from the request's first step to its first token */
  double decode_seconds;  /* from the first token to the last */
} aio_usage;

/* ---- The table --------------------------------------------------------------------------------------------------------- */

/* All functions. The table grows at its end alone. The functions below call it; a host that loads the library at run time
 * takes it from aio_get_api. */
typedef struct aio_api {
  uint32_t struct_size;
  uint32_t version;
  aio_status (*device_open)(const aio_device_params *, aio_device *, aio_error *);
  aio_status (*device_free)(aio_device, aio_error *);
  aio_status (*engine_open)(aio_device, const aio_engine_params *, aio_engine *, aio_error *);
  aio_status (*engine_free)(aio_engine, aio_error *);
  aio_status (*engine_get_info)(aio_engine, aio_engine_info *, aio_error *);
  aio_status (*engine_get_plan)(aio_engine, uint32_t, aio_plan_info *, aio_error *);
  aio_status (*engine_get_cost)(aio_engine, const aio_step_size *, aio_cost *, aio_error *);
  aio_status (*engine_get_counters)(aio_engine, aio_counters *, aio_error *);
  aio_status (*tokenize)(aio_engine, const char *, uint64_t, uint32_t, uint32_t *, uint64_t, uint64_t *, aio_error *);
  aio_status (*detokenize)(aio_engine, const uint32_t *, uint64_t, uint32_t, char *, uint64_t, uint64_t *, aio_error *);
  aio_status (*token_is_end)(aio_engine, uint32_t, uint32_t *, aio_error *);
  aio_status (*apply_chat_template)(aio_engine, const aio_message *, uint64_t, uint64_t, char *, uint64_t, uint64_t *,
                                    aio_error *);
  aio_status (*sequence_create)(aio_engine, aio_sequence *, aio_error *);
  aio_status (*sequence_free)(aio_sequence, aio_error *);
  aio_status (*sequence_get_length)(aio_sequence, uint64_t *, aio_error *);
  aio_status (*sequence_truncate)(aio_sequence, uint64_t, uint64_t *, aio_error *);
  aio_status (*sequence_fork)(aio_sequence, uint64_t, aio_sequence *, aio_error *);
  aio_status (*context_create)(aio_engine, aio_context *, aio_error *);
  aio_status (*context_free)(aio_context, aio_error *);
  aio_status (*append)(aio_context, aio_sequence, const uint32_t *, uint64_t, uint32_t, const aio_sampling *, aio_outputs *,
                       aio_error *);
  aio_status (*verify)(aio_context, aio_sequence, const aio_verify_params *, uint32_t *, uint32_t *, aio_error *);
  aio_status (*step)(aio_context, const aio_step_params *, aio_outputs *, aio_error *);
  aio_status (*batch_create)(aio_engine, aio_batch *, aio_error *);
  aio_status (*batch_free)(aio_batch, aio_error *);
  aio_status (*batch_step)(aio_batch, uint64_t *, aio_error *);
  aio_status (*request_submit)(aio_batch, const aio_request_params *, aio_request *, aio_error *);
  aio_status (*request_cancel)(aio_request, aio_error *);
  aio_status (*request_get_text)(aio_request, char *, uint64_t, uint64_t *, aio_error *);
  aio_status (*request_get_tokens)(aio_request, uint32_t *, uint64_t, uint64_t *, aio_error *);
  aio_status (*request_get_usage)(aio_request, aio_usage *, aio_error *);
  aio_status (*request_free)(aio_request, aio_error *);
} aio_api;

/* The only symbol of the library. Null if it does not have all of this version. */
const aio_api *aio_get_api(uint32_t version) AIO_NOEXCEPT;

/* Calls a function of the table, if there is one. */
#define AIO_CALL_(function, ...)                                       \
  const aio_api *api_ = aio_get_api(AIO_VERSION);                      \
  return api_ ? api_->function(__VA_ARGS__) : (aio_status)AIO_UNSUPPORTED

/* ---- Devices ----------------------------------------------------------------------------------------------------------- */

/* Opens a device. `params` may be null: the CPU with one thread per core. AIO_INVALID_ARGUMENT for an unknown name or option,
 * AIO_UNSUPPORTED for a device that this machine lacks. */
static inline aio_status aio_device_open(const aio_device_params *params, aio_device *device, aio_error *error) {
  AIO_CALL_(device_open, params, device, error);
}

/* Frees a device's handle. The device ends with its last engine. */
static inline aio_status aio_device_free(aio_device device, aio_error *error) { AIO_CALL_(device_free, device, error); }

/* ---- Engines ----------------------------------------------------------------------------------------------------------- */

/* Loads a model, compiling it if it is no artefact. Takes seconds. AIO_OUT_OF_MEMORY before anything large is allocated;
 * AIO_IO, AIO_FORMAT and AIO_UNSUPPORTED say what is wrong with the file. */
static inline aio_status aio_engine_open(aio_device device, const aio_engine_params *params, aio_engine *engine,
                                         aio_error *error) {
  AIO_CALL_(engine_open, device, params, engine, error);
}

/* Frees an engine's handle. The model ends with its last sequence, context and batch. */
static inline aio_status aio_engine_free(aio_engine engine, aio_error *error) { AIO_CALL_(engine_free, engine, error); }

/* Says what an engine is. */
static inline aio_status aio_engine_get_info(aio_engine engine, aio_engine_info *info, aio_error *error) {
  AIO_CALL_(engine_get_info, engine, info, error);
}

/* Says what the plan of this index is, from 0 to aio_engine_info.plans - 1. */
static inline aio_status aio_engine_get_plan(aio_engine engine, uint32_t index, aio_plan_info *info, aio_error *error) {
  AIO_CALL_(engine_get_plan, engine, index, info, error);
}

/* Predicts what a step of this size costs, from what its plan reads and from the times of past steps. */
static inline aio_status aio_engine_get_cost(aio_engine engine, const aio_step_size *size, aio_cost *cost, aio_error *error) {
  AIO_CALL_(engine_get_cost, engine, size, cost, error);
}

/* Reads the counters of the engine's device. */
static inline aio_status aio_engine_get_counters(aio_engine engine, aio_counters *counters, aio_error *error) {
  AIO_CALL_(engine_get_counters, engine, counters, error);
}

/* ---- Texts: a host with its own tokenizer needs none of these --------------------------------------------------------------- */

enum {
  AIO_TEXT_SPECIAL = 1, /* the texts of special tokens stand for these tokens */
  AIO_TEXT_FRAME = 2    /* aio_tokenize: the model's first and last tokens are added, as for a prompt */
};

/* Turns a text into tokens. */
static inline aio_status aio_tokenize(aio_engine engine, const char *text, uint64_t size, uint32_t flags, uint32_t *tokens,
                                      uint64_t capacity, uint64_t *count, aio_error *error) {
  AIO_CALL_(tokenize, engine, text, size, flags, tokens, capacity, count, error);
}

/* Turns tokens into a text, with a zero after it that `size` does not count. Bytes that are no UTF-8 become U+FFFD. */
static inline aio_status aio_detokenize(aio_engine engine, const uint32_t *tokens, uint64_t count, uint32_t flags, char *text,
                                        uint64_t capacity, uint64_t *size, aio_error *error) {
  AIO_CALL_(detokenize, engine, tokens, count, flags, text, capacity, size, error);
}

/* Whether a token ends the model's output: 1 or 0. */
static inline aio_status aio_token_is_end(aio_engine engine, uint32_t token, uint32_t *is_end, aio_error *error) {
  AIO_CALL_(token_is_end, engine, token, is_end, error);
}

/* Puts messages into the form that the model was trained on, up to where its answer begins. `unix_seconds` is the present
 * time, which some templates print. AIO_UNSUPPORTED for a model without a template. Tokenize the text with AIO_TEXT_SPECIAL. */
static inline aio_status aio_apply_chat_template(aio_engine engine, const aio_message *messages, uint64_t count,
                                                 uint64_t unix_seconds, char *text, uint64_t capacity, uint64_t *size,
                                                 aio_error *error) {
  AIO_CALL_(apply_chat_template, engine, messages, count, unix_seconds, text, capacity, size, error);
}

/* ---- Sequences --------------------------------------------------------------------------------------------------------- */

/* Makes an empty sequence. It takes memory of the KV cache as it grows. */
static inline aio_status aio_sequence_create(aio_engine engine, aio_sequence *sequence, aio_error *error) {
  AIO_CALL_(sequence_create, engine, sequence, error);
}

/* Frees a sequence and its pages of the KV cache. AIO_BUSY during a step. */
static inline aio_status aio_sequence_free(aio_sequence sequence, aio_error *error) {
  AIO_CALL_(sequence_free, sequence, error);
}

/* The number of positions that a sequence has. AIO_BUSY during a step. */
static inline aio_status aio_sequence_get_length(aio_sequence sequence, uint64_t *length, aio_error *error) {
  AIO_CALL_(sequence_get_length, sequence, length, error);
}

/* Cuts a sequence. With recurrent state only some lengths can be restored: AIO_NOT_RESTORABLE then, and `nearest` gets the
 * longest shorter one that can. `nearest` may be null. AIO_BUSY during a step. */
static inline aio_status aio_sequence_truncate(aio_sequence sequence, uint64_t length, uint64_t *nearest, aio_error *error) {
  AIO_CALL_(sequence_truncate, sequence, length, nearest, error);
}

/* Makes a second sequence with the first `length` positions, or with all if there are fewer. Both share pages of the KV cache until
 * one writes. AIO_NOT_RESTORABLE and AIO_BUSY as above. */
static inline aio_status aio_sequence_fork(aio_sequence sequence, uint64_t length, aio_sequence *fork, aio_error *error) {
  AIO_CALL_(sequence_fork, sequence, length, fork, error);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------------- */

/* Makes a context. One for each thread that runs steps. */
static inline aio_status aio_context_create(aio_engine engine, aio_context *context, aio_error *error) {
  AIO_CALL_(context_create, engine, context, error);
}

/* Frees a context with its outputs. AIO_BUSY during a step. */
static inline aio_status aio_context_free(aio_context context, aio_error *error) {
  AIO_CALL_(context_free, context, error);
}

/* Appends tokens to a sequence, in as many steps as they need. The last token asks for what `want` says: its next token, its
 * logits, or nothing. `sampling` may be null for the most likely token; its penalties apply to `tokens`. `outputs` may be null. If
 * it fails in between, the sequence has the tokens of the steps before. AIO_BUSY if the context or the sequence is in use. */
static inline aio_status aio_append(aio_context context, aio_sequence sequence, const uint32_t *tokens, uint64_t count,
                                    uint32_t want, const aio_sampling *sampling, aio_outputs *outputs, aio_error *error) {
  AIO_CALL_(append, context, sequence, tokens, count, want, sampling, outputs, error);
}

/* Runs a sequence's last token and drafts after it in one submission. `accepted` gets how many drafts plain decoding would have
 * produced, `next` the token after them. The sequence then has the last token and the accepted drafts; `next` is the last
 * token of the next call. Without drafts it is a plain decode step. AIO_BUSY as above. */
static inline aio_status aio_verify(aio_context context, aio_sequence sequence, const aio_verify_params *params,
                                    uint32_t *accepted, uint32_t *next, aio_error *error) {
  AIO_CALL_(verify, context, sequence, params, accepted, next, error);
}

/* Runs rows of any sequences in one submission. Each sequence then has the positions up to its last row, or to its last accepted
 * draft. A step that fails leaves all sequences as they were. AIO_BUSY as above. */
static inline aio_status aio_step(aio_context context, const aio_step_params *params, aio_outputs *outputs, aio_error *error) {
  AIO_CALL_(step, context, params, outputs, error);
}

/* ---- Requests ---------------------------------------------------------------------------------------------------------- */

/* Makes a batch. */
static inline aio_status aio_batch_create(aio_engine engine, aio_batch *batch, aio_error *error) {
  AIO_CALL_(batch_create, engine, batch, error);
}

/* Frees a batch; requests that have not ended are cancelled. AIO_BUSY during its step. */
static inline aio_status aio_batch_free(aio_batch batch, aio_error *error) { AIO_CALL_(batch_free, batch, error); }

/* Runs one step of all requests: a piece of a prompt, or a token and its drafts, for each. `unfinished` gets how many requests have
 * not ended, and may be null. AIO_BUSY if another thread runs a step of this batch. A step that fails leaves the requests as
 * they were. */
static inline aio_status aio_batch_step(aio_batch batch, uint64_t *unfinished, aio_error *error) {
  AIO_CALL_(batch_step, batch, unfinished, error);
}

/* Submits a request; never waits for a step. It joins the batch at the next step, or when there is room. */
static inline aio_status aio_request_submit(aio_batch batch, const aio_request_params *params, aio_request *request,
                                            aio_error *error) {
  AIO_CALL_(request_submit, batch, params, request, error);
}

/* Ends a request after the step that runs. */
static inline aio_status aio_request_cancel(aio_request request, aio_error *error) { AIO_CALL_(request_cancel, request, error); }

/* Reads all text that a request has so far, with a zero after it that `size` does not count. */
static inline aio_status aio_request_get_text(aio_request request, char *text, uint64_t capacity, uint64_t *size,
                                              aio_error *error) {
  AIO_CALL_(request_get_text, request, text, capacity, size, error);
}

/* Reads all tokens that a request has so far. */
static inline aio_status aio_request_get_tokens(aio_request request, uint32_t *tokens, uint64_t capacity, uint64_t *count,
                                                aio_error *error) {
  AIO_CALL_(request_get_tokens, request, tokens, capacity, count, error);
}

/* Says how far a request is and what it took. If an error ended it, that error. */
static inline aio_status aio_request_get_usage(aio_request request, aio_usage *usage, aio_error *error) {
  AIO_CALL_(request_get_usage, request, usage, error);
}

/* Frees a request, which is cancelled if it has not ended. Its function is not called again, so that `user` may be freed. AIO_BUSY
 * while the function runs. */
static inline aio_status aio_request_free(aio_request request, aio_error *error) { AIO_CALL_(request_free, request, error); }

#ifdef __cplusplus
}
#endif

#endif
