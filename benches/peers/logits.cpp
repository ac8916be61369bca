// Teacher-forced logits of a model through llama.cpp's C API, for comparison with aio's.
//
// usage: logits MODEL ID,ID,...  -> one line a position: arg-max, top-2 margin, every STRIDE-th logit.
// Built by `benches/peers/build`; run by `tests/peer.rs`.

#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

static const int STRIDE = 16;

static std::vector<llama_token> parse_ids(const char * text) {
    std::vector<llama_token> ids;
    std::stringstream stream(text);
    std::string item;
    while (std::getline(stream, item, ',')) {
        ids.push_back((llama_token) std::atoi(item.c_str()));
    }
    return ids;
}

static void print_row(const float * logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    float second = -1e30f;
    for (int i = 0; i < n; i++) {
        if (i != best && logits[i] > second) second = logits[i];
    }
    std::printf("%d %.6g", best, logits[best] - second);
    for (int i = 0; i < n; i += STRIDE) {
        std::printf(" %.7g", logits[i]);
    }
    std::printf("\n");
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: logits MODEL ID,ID,...\n");
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        std::fprintf(stderr, "cannot load %s\n", argv[1]);
        return 2;
    }
    std::vector<llama_token> ids = parse_ids(argv[2]);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_threads = 2;
    params.n_threads_batch = 2;
    llama_context * context = llama_init_from_model(model, params);
    llama_batch batch = llama_batch_init((int) ids.size(), 0, 1);
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = (llama_pos) i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = true;
    }
    batch.n_tokens = (int) ids.size();
    if (!context || llama_decode(context, batch) != 0) {
        std::fprintf(stderr, "decoding failed\n");
        return 2;
    }
    const int n = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (size_t i = 0; i < ids.size(); i++) {
        print_row(llama_get_logits_ith(context, (int) i), n);
    }
    return 0;
}
