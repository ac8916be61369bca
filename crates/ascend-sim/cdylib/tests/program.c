/* Drives the simulated Ascend through its C interface alone. Every function is declared here, so nothing of a vendor is
 * needed. With LINKED the program is linked with the libraries, else it loads one by dlopen (first argument).
 *
 * It captures two operators, attention in a task group and a product with a number, replays them with other sequence
 * lengths, provokes ten faults, and prints what came of it. The test compares the output. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTENTION                                                                                                      \
    const void *query, const void *keys, const void *values, const void *shift, const void *mask, const void *lens,    \
        const void *lens_kv, const void *deq1, const void *quant1, const void *deq2, const void *quant2,               \
        const void *offset2, const void *anti_scale, const void *anti_offset, const void *table, const void *q_pad,    \
        const void *kv_pad, const void *k_scale, const void *k_offset, const void *v_scale, const void *v_offset,      \
        const void *k_prefix, const void *v_prefix, const void *prefix, const void *q_rope, const void *k_rope,        \
        const void *k_rope_scale, int64_t heads, double scale, int64_t before, int64_t after, char *layout,            \
        int64_t kv_heads, int64_t sparse, int64_t precise, int64_t block, int64_t anti_mode, _Bool lse_flag,           \
        int64_t k_mode, int64_t v_mode, const void *out, const void *lse, uint64_t *bytes, void **executor

#define RUN void *workspace, uint64_t bytes, void *executor, void *stream

#define FUNCTIONS(F)                                                                                                   \
    F(int, aclInit, (const char *config))                                                                              \
    F(int, aclFinalize, (void))                                                                                        \
    F(const char *, aclGetRecentErrMsg, (void))                                                                        \
    F(const char *, aclrtGetSocName, (void))                                                                           \
    F(int, aclrtSetDevice, (int32_t device))                                                                           \
    F(int, aclrtMalloc, (void **address, size_t bytes, unsigned policy))                                               \
    F(int, aclrtFree, (void *address))                                                                                 \
    F(int, aclrtMallocHost, (void **address, size_t bytes))                                                            \
    F(int, aclrtFreeHost, (void *address))                                                                             \
    F(int, aclrtMemcpy, (void *to, size_t max, const void *from, size_t bytes, int kind))                              \
    F(int, aclrtMemcpyAsync, (void *to, size_t max, const void *from, size_t bytes, int kind, void *stream))           \
    F(int, aclrtCreateStream, (void **stream))                                                                         \
    F(int, aclrtDestroyStream, (void *stream))                                                                         \
    F(int, aclrtSynchronizeStream, (void *stream))                                                                     \
    F(int, aclrtCreateEventExWithFlag, (void **event, unsigned flag))                                                  \
    F(int, aclrtDestroyEvent, (void *event))                                                                           \
    F(int, aclrtRecordEvent, (void *event, void *stream))                                                              \
    F(int, aclrtStreamWaitEvent, (void *stream, void *event))                                                          \
    F(int, aclrtResetEvent, (void *event, void *stream))                                                               \
    F(int, aclmdlRICaptureBegin, (void *stream, int mode))                                                             \
    F(int, aclmdlRICaptureEnd, (void *stream, void **graph))                                                           \
    F(int, aclmdlRICaptureTaskGrpBegin, (void *stream))                                                                \
    F(int, aclmdlRICaptureTaskGrpEnd, (void *stream, void **group))                                                    \
    F(int, aclmdlRICaptureTaskUpdateBegin, (void *stream, void *group))                                                \
    F(int, aclmdlRICaptureTaskUpdateEnd, (void *stream))                                                               \
    F(int, aclmdlRIExecuteAsync, (void *graph, void *stream))                                                          \
    F(int, aclmdlRIDestroy, (void *graph))                                                                             \
    F(void *, aclCreateTensor,                                                                                         \
      (const int64_t *dims, uint64_t rank, int type, const int64_t *strides, int64_t offset, int format,               \
       const int64_t *storage, uint64_t storage_rank, void *data))                                                     \
    F(int, aclDestroyTensor, (const void *tensor))                                                                     \
    F(void *, aclCreateTensorList, (const void *const *tensors, uint64_t count))                                       \
    F(int, aclDestroyTensorList, (const void *list))                                                                   \
    F(void *, aclCreateIntArray, (const int64_t *values, uint64_t count))                                              \
    F(int, aclDestroyIntArray, (const void *array))                                                                    \
    F(void *, aclCreateScalar, (void *value, int type))                                                                \
    F(int, aclDestroyScalar, (const void *scalar))                                                                     \
    F(int, aclnnFusedInferAttentionScoreV3GetWorkspaceSize, (ATTENTION))                                               \
    F(int, aclnnFusedInferAttentionScoreV3, (RUN))                                                                     \
    F(int, aclnnMulsGetWorkspaceSize,                                                                                  \
      (const void *in, const void *by, const void *out, uint64_t *bytes, void **executor))                             \
    F(int, aclnnMuls, (RUN))                                                                                           \
    F(int, aclnnConvolutionGetWorkspaceSize, (void))                                                                   \
    F(size_t, aioSimReport, (char *buffer, size_t bytes))

#ifdef LINKED
#define DECLARE(result, name, arguments) extern result name arguments;
FUNCTIONS(DECLARE)
static void load(const char *path) { (void)path; }
#else
#define DECLARE(result, name, arguments) static result(*name) arguments;
FUNCTIONS(DECLARE)
static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "the library has no %s\n", name);
        exit(2);
    }
    return found;
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
#define FIND(result, name, arguments) *(void **)&name = symbol(library, #name);
    FUNCTIONS(FIND)
}
#endif

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, FLOAT = 0, FLOAT16 = 1, ND = 2, EXTERNAL = 0x20, SIZE = 16, LENGTH = 4 };

static void require(int status, const char *call)
{
    if (status != 0) {
        const char *text = aclGetRecentErrMsg();
        fprintf(stderr, "%s: %d %s\n", call, status, text != NULL ? text : "");
        exit(1);
    }
}

#define OK(call) require(call, #call)

/* A fault that was provoked: its name, status and message. */
static void fault(const char *name, int status)
{
    const char *text = aclGetRecentErrMsg();
    printf("%s: %d %s\n", name, status, text != NULL ? text : "(no message)");
}

/* fp16 of a small whole number. */
static uint16_t half(int n)
{
    int exponent = 0;
    if (n == 0) {
        return 0;
    }
    while (n >> (exponent + 1) != 0) {
        exponent++;
    }
    return (uint16_t)((exponent + 15) << 10 | ((n - (1 << exponent)) << (10 - exponent)));
}

/* A positive fp16 number that is neither tiny nor infinite. */
static double number(uint16_t bits)
{
    double x = 1.0 + (bits & 1023) / 1024.0;
    for (int e = (bits >> 10) - 15; e != 0; e += e > 0 ? -1 : 1) {
        x = e > 0 ? x * 2 : x / 2;
    }
    return bits == 0 ? 0 : x;
}

static void *stream, *updates, *workspace;
static void *query_memory, *key_memory, *value_memory, *mid_memory, *out_memory, *host;

static void *tensor(const int64_t *dims, uint64_t rank, void *memory)
{
    void *made = aclCreateTensor(dims, rank, FLOAT16, NULL, 0, ND, dims, rank, memory);
    require(made == NULL, "aclCreateTensor");
    return made;
}

/* Attention of one query over the first `length` positions. In TND the list of query lengths must end at the rows. */
static int attend(char *layout, int64_t rows, int64_t length, void *on)
{
    const int64_t one[] = {1, 1, 1, SIZE}, all[] = {1, 1, LENGTH, SIZE}, packed[] = {1, 1, SIZE};
    const int64_t packed_all[] = {LENGTH, 1, SIZE};
    int tnd = strcmp(layout, "TND") == 0;
    void *query = tnd ? tensor(packed, 3, query_memory) : tensor(one, 4, query_memory);
    void *out = tnd ? tensor(packed, 3, mid_memory) : tensor(one, 4, mid_memory);
    const void *key = tnd ? tensor(packed_all, 3, key_memory) : tensor(all, 4, key_memory);
    const void *value = tnd ? tensor(packed_all, 3, value_memory) : tensor(all, 4, value_memory);
    void *keys = aclCreateTensorList(&key, 1), *values = aclCreateTensorList(&value, 1);
    void *lens = tnd ? aclCreateIntArray(&rows, 1) : NULL, *lens_kv = aclCreateIntArray(&length, 1);
    uint64_t bytes = 0;
    void *executor = NULL;
    int status = aclnnFusedInferAttentionScoreV3GetWorkspaceSize(
        query, keys, values, NULL, NULL, lens, lens_kv, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 0.25, INT64_MAX, INT64_MAX, layout, 1, 0, 0, 0, 0, 0, 0,
        0, out, NULL, &bytes, &executor);
    if (status == 0) {
        if (workspace == NULL && bytes > 0) {
            OK(aclrtMalloc(&workspace, bytes, 0));
        }
        status = aclnnFusedInferAttentionScoreV3(workspace, bytes, executor, on);
    }
    aclDestroyTensor(query);
    aclDestroyTensor(out);
    aclDestroyTensorList(keys);
    aclDestroyTensorList(values);
    if (lens != NULL) {
        aclDestroyIntArray(lens);
    }
    aclDestroyIntArray(lens_kv);
    return status;
}

/* Plans a product of the attention's result with 2 and gives the executor. */
static void *plan_twice(uint64_t *bytes)
{
    const int64_t dims[] = {SIZE};
    float two = 2;
    void *in = tensor(dims, 1, mid_memory), *out = tensor(dims, 1, out_memory), *by = aclCreateScalar(&two, FLOAT);
    void *executor = NULL;
    OK(aclnnMulsGetWorkspaceSize(in, by, out, bytes, &executor));
    aclDestroyTensor(in);
    aclDestroyTensor(out);
    aclDestroyScalar(by);
    return executor;
}

static int twice(void *on)
{
    uint64_t bytes = 0;
    void *executor = plan_twice(&bytes);
    return aclnnMuls(NULL, bytes, executor, on);
}

static void memory(void)
{
    const size_t row = SIZE * sizeof(uint16_t);
    uint16_t zeros[LENGTH * SIZE] = {0}, values[LENGTH * SIZE];
    for (int i = 0; i < LENGTH * SIZE; i++) {
        values[i] = half(i / SIZE + 1);
    }
    OK(aclrtMalloc(&query_memory, row, 0));
    OK(aclrtMalloc(&key_memory, sizeof zeros, 0));
    OK(aclrtMalloc(&value_memory, sizeof values, 0));
    OK(aclrtMalloc(&mid_memory, row, 0));
    OK(aclrtMalloc(&out_memory, row, 0));
    OK(aclrtMallocHost(&host, row));
    OK(aclrtMemcpy(query_memory, row, zeros, row, HOST_TO_DEVICE));
    OK(aclrtMemcpy(key_memory, sizeof zeros, zeros, sizeof zeros, HOST_TO_DEVICE));
    OK(aclrtMemcpy(value_memory, sizeof values, values, sizeof values, HOST_TO_DEVICE));
}

/* All scores are equal, so the result is twice the mean of the values 1, 2, 3, 4 up to the length. */
static void replays(void *graph, void *group, void *ready)
{
    const int64_t lengths[] = {4, 1, 2, 3};
    for (int i = 0; i < 4; i++) {
        OK(aclmdlRIExecuteAsync(graph, stream));
        OK(aclmdlRICaptureTaskUpdateBegin(updates, group));
        OK(attend("BNSD", 0, lengths[i], updates));
        OK(aclmdlRICaptureTaskUpdateEnd(updates));
        OK(aclrtRecordEvent(ready, updates));
        OK(aclrtMemcpyAsync(host, SIZE * 2, out_memory, SIZE * 2, DEVICE_TO_HOST, stream));
        OK(aclrtSynchronizeStream(stream));
        printf("length %d: %.4g and %.4g\n", (int)lengths[i], number(((uint16_t *)host)[0]),
               number(((uint16_t *)host)[SIZE - 1]));
    }
}

static void *capture(void **group, void *ready)
{
    void *graph = NULL;
    OK(aclmdlRICaptureBegin(stream, 0));
    OK(aclrtStreamWaitEvent(stream, ready));
    OK(aclrtResetEvent(ready, stream));
    OK(aclmdlRICaptureTaskGrpBegin(stream));
    OK(attend("BNSD", 0, 1, stream));
    OK(aclmdlRICaptureTaskGrpEnd(stream, group));
    OK(twice(stream));
    OK(aclmdlRICaptureEnd(stream, &graph));
    return graph;
}

static void faults(void *group)
{
    uint16_t pageable[SIZE];
    void *block = NULL, *graph = NULL;
    uint64_t bytes = 0;
    fault("1 initialised twice", aclInit(NULL));
    fault("2 no such device", aclrtSetDevice(7));
    fault("3 out of memory", aclrtMalloc(&block, (size_t)65 << 30, 0));
    OK(aclrtMalloc(&block, 64, 0));
    OK(aclrtFree(block));
    fault("4 freed twice", aclrtFree(block));
    fault("5 more than destMax", aclrtMemcpy(out_memory, 8, host, 16, HOST_TO_DEVICE));
    void *executor = plan_twice(&bytes);
    OK(aclnnMuls(NULL, bytes, executor, stream));
    fault("6 an executor used twice", aclnnMuls(NULL, bytes, executor, stream));
    fault("7 query lengths that miss the rows", attend("TND", 3, LENGTH, stream));
    fault("8 an operator without a kernel", aclnnConvolutionGetWorkspaceSize());
    OK(aclmdlRICaptureTaskUpdateBegin(updates, group));
    OK(twice(updates));
    fault("9 an update by another operator", aclmdlRICaptureTaskUpdateEnd(updates));
    OK(aclrtSynchronizeStream(stream));
    OK(aclmdlRICaptureBegin(stream, 0));
    fault("10 pageable memory in a capture",
          aclrtMemcpyAsync(pageable, sizeof pageable, out_memory, sizeof pageable, DEVICE_TO_HOST, stream));
    fault("   which has ended it", aclmdlRICaptureEnd(stream, &graph));
}

int main(int count, char **arguments)
{
    static char report[4096];
    void *ready = NULL, *group = NULL;
    load(count > 1 ? arguments[1] : "libascendcl.so");
    OK(aclInit(NULL));
    OK(aclrtSetDevice(0));
    printf("%s\n", aclrtGetSocName());
    OK(aclrtCreateStream(&stream));
    OK(aclrtCreateStream(&updates));
    OK(aclrtCreateEventExWithFlag(&ready, EXTERNAL));
    memory();
    void *graph = capture(&group, ready);
    replays(graph, group, ready);
    faults(group);
    OK(aclmdlRIDestroy(graph));
    OK(aclrtDestroyEvent(ready));
    OK(aclrtDestroyStream(updates));
    OK(aclrtDestroyStream(stream));
    void *blocks[] = {query_memory, key_memory, value_memory, mid_memory, out_memory, workspace};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        OK(aclrtFree(blocks[i]));
    }
    OK(aclrtFreeHost(host));
    if (aioSimReport(report, sizeof report) <= sizeof report) {
        printf("%s\n", strstr(report, "\"live\""));
    }
    OK(aclFinalize());
    return 0;
}
