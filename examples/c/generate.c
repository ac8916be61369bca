/* Continues a prompt, at both levels of the interface: as a request, then step by step with drafts of its own, and compares.
 *
 * usage: generate MODEL.gguf PROMPT TOKENS
 */
#include <aio.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096, DRAFTS = 4 };

static aio_error error = AIO_ERROR_INIT;

/* Ends the program if a call failed. */
static void check(aio_status status, const char *what) {
  if (status != AIO_OK) {
    fprintf(stderr, "%s: status %d: %s\n", what, (int)status, error.message);
    exit(1);
  }
}

static int32_t print_text(void *user, aio_request request, const char *text, uint64_t size) AIO_NOEXCEPT {
  (void)request;
  fwrite(text, 1, (size_t)size, (FILE *)user);
  return 0;
}

/* The answer of a request. Returns the number of its tokens. */
static uint64_t by_request(aio_engine engine, const uint32_t *prompt, uint64_t n_prompt, uint32_t most, uint32_t *tokens) {
  aio_batch batch;
  aio_request request;
  aio_request_params params;
  aio_usage usage;
  uint64_t unfinished = 1, count = 0;
  memset(&params, 0, sizeof params);
  memset(&usage, 0, sizeof usage);
  params.struct_size = (uint32_t)sizeof params;
  params.prompt = prompt;
  params.n_prompt = n_prompt;
  params.max_tokens = most;
  params.speculation = AIO_SPECULATION_AUTO;
  params.on_text = print_text;
  params.user = stdout;
  check(aio_batch_create(engine, &batch, &error), "batch");
  check(aio_request_submit(batch, &params, &request, &error), "request");
  while (unfinished > 0) {
    check(aio_batch_step(batch, &unfinished, &error), "step");
  }
  printf("\n");
  usage.struct_size = (uint32_t)sizeof usage;
  check(aio_request_get_usage(request, &usage, &error), "usage");
  check(aio_request_get_tokens(request, tokens, MOST, &count, &error), "tokens");
  fprintf(stderr, "%llu tokens, %llu drafts, %llu accepted, %.1f tok/s\n", (unsigned long long)usage.tokens,
          (unsigned long long)usage.drafted, (unsigned long long)usage.accepted,
          (double)(usage.tokens - 1) / usage.decode_seconds);
  check(aio_request_free(request, &error), "free request");
  check(aio_batch_free(batch, &error), "free batch");
  return count;
}

/* Drafts: what followed the last place where the text had its last token. Returns their number. */
static uint32_t draft(const uint32_t *text, uint64_t size, uint32_t *drafts) {
  uint64_t at;
  uint32_t n = 0;
  for (at = size - 1; at-- > 0;) {
    if (text[at] == text[size - 1]) {
      while (n < DRAFTS && at + 1 + n < size) {
        drafts[n] = text[at + 1 + n];
        n++;
      }
      break;
    }
  }
  return n;
}

/* The same answer from steps. Returns the number of its tokens. */
static uint64_t by_steps(aio_engine engine, const uint32_t *prompt, uint64_t n_prompt, uint32_t most, uint32_t *tokens) {
  static uint32_t text[2 * MOST];
  uint32_t drafts[DRAFTS], accepted = 0, next = 0, is_end = 0, i;
  uint64_t size = n_prompt, count = 0;
  aio_sequence sequence;
  aio_context context;
  aio_outputs outputs;
  memcpy(text, prompt, (size_t)n_prompt * sizeof *prompt);
  memset(&outputs, 0, sizeof outputs);
  outputs.struct_size = (uint32_t)sizeof outputs;
  check(aio_sequence_create(engine, &sequence, &error), "sequence");
  check(aio_context_create(engine, &context, &error), "context");
  check(aio_append(context, sequence, prompt, n_prompt, AIO_WANT_TOKEN, NULL, &outputs, &error), "prompt");
  next = outputs.tokens[0];
  for (;;) {
    aio_verify_params params;
    tokens[count++] = text[size++] = next;
    check(aio_token_is_end(engine, next, &is_end, &error), "end");
    if (is_end || count == most) {
      break;
    }
    memset(&params, 0, sizeof params);
    params.struct_size = (uint32_t)sizeof params;
    params.token = next;
    params.n_drafts = draft(text, size, drafts);
    params.drafts = drafts;
    check(aio_verify(context, sequence, &params, &accepted, &next, &error), "verify");
    for (i = 0; i < accepted && count < most; i++) {
      tokens[count++] = text[size++] = drafts[i];
      check(aio_token_is_end(engine, drafts[i], &is_end, &error), "end");
      if (is_end) {
        break;
      }
    }
    if (is_end || count == most) {
      break;
    }
  }
  check(aio_context_free(context, &error), "free context");
  check(aio_sequence_free(sequence, &error), "free sequence");
  return count;
}

int main(int argc, char **argv) {
  static uint32_t prompt[MOST], requested[MOST], stepped[MOST];
  uint64_t n_prompt = 0, n_requested, n_stepped, i;
  uint32_t most;
  aio_device device;
  aio_engine engine;
  aio_engine_params params;
  if (argc != 4 || atoi(argv[3]) < 1 || atoi(argv[3]) > MOST) {
    fprintf(stderr, "usage: generate MODEL.gguf PROMPT TOKENS\n");
    return 2;
  }
  most = (uint32_t)atoi(argv[3]);
  memset(&params, 0, sizeof params);
  params.struct_size = (uint32_t)sizeof params;
  params.path = argv[1];
  check(aio_device_open(NULL, &device, &error), "device");
  check(aio_engine_open(device, &params, &engine, &error), "model");
  check(aio_tokenize(engine, argv[2], strlen(argv[2]), AIO_TEXT_FRAME | AIO_TEXT_SPECIAL, prompt, MOST, &n_prompt, &error),
        "prompt");
  n_requested = by_request(engine, prompt, n_prompt, most, requested);
  n_stepped = by_steps(engine, prompt, n_prompt, most, stepped);
  if (n_requested != n_stepped || memcmp(requested, stepped, (size_t)n_stepped * sizeof *stepped) != 0) {
    fprintf(stderr, "requests and steps gave different tokens\n");
    return 1;
  }
  for (i = 0; i < n_stepped; i++) {
    fprintf(stderr, "%s%u", i ? " " : "tokens: ", (unsigned)stepped[i]);
  }
  fprintf(stderr, "\n");
  check(aio_engine_free(engine, &error), "free engine");
  check(aio_device_free(device, &error), "free device");
  return 0;
}
