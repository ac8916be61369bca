// A plain loop that reads memory, for comparison with aio's probe: the compiler's own code, no intrinsics.
// usage: reads BYTES THREADS; for each line of its input one pass, whose seconds it prints. Run by benches/reads.rs.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static uint64_t *words;
static size_t count, threads;
static int more;
static pthread_barrier_t barrier;
static volatile uint64_t sink;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *work(void *arg) {
  size_t tid = (size_t)arg, from = count * tid / threads, to = count * (tid + 1) / threads;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(tid, &one);
  sched_setaffinity(0, sizeof one, &one);
  memset(words + from, 0x11, (to - from) * sizeof *words);
  for (;;) {
    if (tid == 0) more = getchar() != EOF;
    pthread_barrier_wait(&barrier);
    if (!more) break;
    double start = now();
    uint64_t sum = 0;
    for (size_t i = from; i < to; i++) sum += words[i];
    sink += sum;
    pthread_barrier_wait(&barrier);
    if (tid == 0) printf("%.9f\n", now() - start), fflush(stdout);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: reads BYTES THREADS\n"), 2;
  size_t bytes = strtoull(argv[1], NULL, 10);
  threads = strtoull(argv[2], NULL, 10), count = bytes / sizeof *words;
  words = aligned_alloc(2 << 20, (bytes + (2 << 20) - 1) >> 21 << 21);
  pthread_t *ids = calloc(threads, sizeof *ids);
  if (!words || !ids || !threads) return fprintf(stderr, "no memory, or a zero\n"), 2;
  madvise(words, bytes, MADV_HUGEPAGE);
  pthread_barrier_init(&barrier, NULL, threads);
  for (size_t i = 1; i < threads; i++) pthread_create(&ids[i], NULL, work, (void *)i);
  work(0);
  for (size_t i = 1; i < threads; i++) pthread_join(ids[i], NULL);
  return 0;
}
