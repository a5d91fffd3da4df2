// Additive attention of one query a row over keys of the row's own (additive_attention.py), and its gradients, g:
//
//     hidden_i = tanh(query + key_i);   weights = softmax_i(score . hidden_i);   context = sum_i weights_i value_i
//
//     of weights_i = value_i . (of context);   of scores_i = weights_i (of weights_i - sum_j weights_j (of weights_j))
//     of query = score * sum_i (of scores_i) (1 - hidden_i^2)
//
// and, once all steps of a recurrence are through, with a sum over the steps:
//
//     of key_i = score * sum (of scores_i) (1 - hidden_i^2);   of value_i = sum weights_i (of context)
//     of score = sum_i (of scores_i) hidden_i
//
// The hidden layers are by far the largest thing here: they are made anew each time, never stored. Numbers are floats or
// bfloat16; weights, scores and all sums are floats.

#include <algorithm>
#include <cstdint>

namespace {

constexpr std::int64_t kWorthThreads = 1 << 12;

struct Shape {
    std::int64_t steps, rows, keys, dim, memory_dim;

    // So many floats hold a row of the hidden layer or of a value, and a vector more.
    std::int64_t room() const { return std::max(dim, memory_dim) + 16; }
};

}  // namespace

#define EACH_WIDTH "additive_attention.h"
#include "each_width.h"
#include "number_types.h"

namespace {

template <typename Row>
void each_row(const Shape& shape, int threads, Row row_of) {
    const bool many = threads > 1 && shape.rows * shape.keys * shape.dim > kWorthThreads;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < shape.rows; ++row) {
        static thread_local std::vector<float> room;
        room.resize(static_cast<std::size_t>(2 * shape.room()));
        row_of(row, room.data());
    }
}

}  // namespace

// query: (rows, dim); key: (rows, keys, dim); value: (rows, keys, memory_dim); weights: (rows, keys); all without gaps.
// A row sees the first `seen` of its keys, one at least.
extern "C" void trasluz_look(const void* query, const void* key, const void* value, const float* score,
                             const std::int64_t* seen, std::int64_t rows, std::int64_t keys, std::int64_t dim,
                             std::int64_t memory_dim, float* weights, void* context, int is_bfloat, int threads) {
    const Shape shape{1, rows, keys, dim, memory_dim};
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(look_row);
        each_row(shape, threads, [&](std::int64_t r, float* room) {
            one(IN(query) + r * dim, IN(key) + r * keys * dim, IN(value) + r * keys * memory_dim, score, shape, seen[r],
                weights + r * keys, OUT(context) + r * memory_dim, room);
        });
    });
}

// The gradient of the context is that which was given, one row so far from the next, and a product together.
extern "C" void trasluz_look_backward(const void* given, std::int64_t given_step, const void* product,
                                      const void* query, const void* key, const void* value, const float* score,
                                      const std::int64_t* seen, std::int64_t rows, std::int64_t keys, std::int64_t dim,
                                      std::int64_t memory_dim, const float* weights, void* to_context, float* to_scores,
                                      void* to_query, int is_bfloat, int threads) {
    const Shape shape{1, rows, keys, dim, memory_dim};
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(look_backward_row);
        each_row(shape, threads, [&](std::int64_t r, float* room) {
            one(IN(given) + r * given_step, IN(product) + r * memory_dim, IN(query) + r * dim,
                IN(key) + r * keys * dim, IN(value) + r * keys * memory_dim, score, shape, seen[r], weights + r * keys,
                OUT(to_context) + r * memory_dim, to_scores + r * keys, OUT(to_query) + r * dim, room);
        });
    });
}

// Of all steps: those are the first axis of queries, gradients of contexts, weights and gradients of scores. `to_score`
// is of each row.
extern "C" void trasluz_memory_gradients(const void* queries, const void* to_contexts, const void* key,
                                         const float* score, const std::int64_t* seen, std::int64_t steps,
                                         std::int64_t rows, std::int64_t keys, std::int64_t dim,
                                         std::int64_t memory_dim, const float* weights, const float* to_scores,
                                         void* to_key, void* to_value, float* to_score, int is_bfloat, int threads) {
    const Shape shape{steps, rows, keys, dim, memory_dim};
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(memory_gradients_row);
        each_row(shape, threads, [&](std::int64_t r, float* room) {
            one(IN(queries) + r * dim, IN(to_contexts) + r * memory_dim, IN(key) + r * keys * dim, score, shape,
                seen[r], weights + r * keys, to_scores + r * keys, OUT(to_key) + r * keys * dim,
                OUT(to_value) + r * keys * memory_dim, to_score + r * dim, room);
        });
    });
}
