// One step of a whole block of a decoder, by the kernels beside this one: nothing but a few rows goes through it, and to
// call every part from outside would take longer than some of the parts do.
//
//     attend      W_o attention(W_q n, W_k n, W_v n)         over what is remembered and the new position
//     look        W_o attention(W_q n, memory)               over the source, where there is one
//     feed        W_2 activation(W_1 n)
//
// each on a residual path: x + f(norm(x)), norm first, or norm(x + f(x)).
//
// Matrices are of floats (few_rows.cpp) or of eight bits (int8_product.cpp).

#include <cstdint>
#include <vector>

#include "avx2.h"

extern "C" {
void trasluz_few_rows(const float*, std::int64_t, std::int64_t, const float*, const float*, std::int64_t, float*, int);
void trasluz_int8_product(const float*, std::int64_t, std::int64_t, std::int64_t, const std::int8_t*,
                          const std::int32_t*, const float*, const float*, std::int64_t, float*, int);
void trasluz_sum_norm(const void*, const void*, std::uint64_t, std::uint32_t, float, std::int64_t, std::int64_t,
                      const void*, const void*, float, int, int, void*, float*, void*, int);
void trasluz_attention_step(const float*, std::int64_t, std::int64_t, std::int64_t, const void*, const void*, int,
                            std::int64_t, const std::int32_t*, std::int64_t, const std::int64_t*, std::int64_t,
                            const std::int64_t*, float*, int);
}

namespace {

// The same, field by field, as the structures in block_step.py.
struct Matrix {
    const void* weight;
    const std::int32_t* offset;  // null: weights are floats, and there is no scale
    const float* scale;
    const float* bias;  // or null
    std::int64_t inputs, depth, outputs;
};

struct Norm {
    const float* weight;
    const float* bias;
    float epsilon;
};

enum Activation : std::int64_t { kRelu = 0, kGeluTanh = 1, kSwish = 2 };

struct Block {
    Norm attention_norm;
    Matrix query, key, value, output;
    Norm cross_norm;
    Matrix cross_query, cross_output;
    Norm feed_forward_norm;
    Matrix expand, contract;
    std::int64_t heads, activation, norm_first;
    std::int64_t remembers_bfloat;  // what is remembered, of the past and of the source, is bfloat16, not floats
    void* keys;                     // (slots, dim)
    void* values;                   // (slots, dim)
};

// Where each row's past lies, as attention_step.cpp has it; the new position is the last of it.
struct Past {
    std::int64_t written;  // the slot of the first row's new position; those of the others follow
    const std::int32_t* table;
    std::int64_t table_width;
    const std::int64_t* first;
    std::int64_t step;
    const std::int64_t* count;
};

// What the encoder left for this block: of each row, where its source's positions begin, and how many there are.
struct Memory {
    const void* keys;    // (positions, dim)
    const void* values;  // (positions, dim)
    const std::int64_t* first;
    const std::int64_t* count;
};

void product(const Matrix& m, const float* x, std::int64_t rows, float* y, int threads) {
    if (m.offset)
        trasluz_int8_product(x, rows, m.inputs, m.depth, static_cast<const std::int8_t*>(m.weight), m.offset, m.scale,
                             m.bias, m.outputs, y, threads);
    else
        trasluz_few_rows(x, rows, m.inputs, static_cast<const float*>(m.weight), m.bias, m.outputs, y, threads);
}

// norm(a + b), or norm(a) where `b` is null.
void norm(const Norm& n, const float* a, const float* b, std::int64_t rows, std::int64_t dim, float* y, int threads) {
    trasluz_sum_norm(a, b, 0, 0, 1.0f, rows, dim, n.weight, n.bias, n.epsilon, 0, 1, nullptr, nullptr, y, threads);
}

// Sizes are multiples of eight here.
AVX2 void add(const float* a, const float* b, std::int64_t size, float* y) {
    for (std::int64_t d = 0; d < size; d += 8)
        _mm256_storeu_ps(y + d, _mm256_add_ps(_mm256_loadu_ps(a + d), _mm256_loadu_ps(b + d)));
}

// Projects new positions into the memory, from the slot `written` on; `room` is for them.
AVX2 void remember(const Matrix& m, const float* x, std::int64_t rows, bool is_bfloat, std::int64_t written,
                   void* memory, float* room, int threads) {
    const std::int64_t first = written * m.outputs, size = rows * m.outputs;
    if (!is_bfloat) return product(m, x, rows, static_cast<float*>(memory) + first, threads);
    product(m, x, rows, room, threads);
    Bfloat* const to = static_cast<Bfloat*>(memory) + first;
    for (std::int64_t d = 0; d < size; d += 8) store8(load8(room + d), to + d);
}

// x / (1 + exp(-s)), s = x for Swish; GELU in its tanh form is the same with s = sqrt(8 / pi) (x + 0.044715 x^3).
AVX2 void activate(Activation kind, std::int64_t size, float* x) {
    const __m256 one = _mm256_set1_ps(1.0f), by = _mm256_set1_ps(-1.5957691216057308f);
    for (std::int64_t d = 0; d < size; d += 8) {
        const __m256 v = _mm256_loadu_ps(x + d);
        __m256 y;
        if (kind == kRelu) {
            // In this order NaN stays what it is.
            y = _mm256_max_ps(_mm256_setzero_ps(), v);
        } else {
            const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(v, v), _mm256_set1_ps(0.044715f), one);
            const __m256 away = kind == kSwish ? _mm256_sub_ps(_mm256_setzero_ps(), v)
                                               : _mm256_mul_ps(_mm256_mul_ps(v, by), cubic);
            y = _mm256_div_ps(v, _mm256_add_ps(one, exp8(away)));
        }
        _mm256_storeu_ps(x + d, y);
    }
}

// The step of some rows, by so many threads.
void step_of_rows(const Block& b, const Past* past, const Memory* memory, const float* x, std::int64_t rows, float* y,
                  int threads) {
    const bool is_bfloat = b.remembers_bfloat;
    const std::int64_t dim = b.query.inputs, hidden = b.expand.outputs, size = rows * dim, head_dim = dim / b.heads;
    static thread_local std::vector<float> room;
    room.resize(static_cast<std::size_t>(4 * size + rows * hidden));
    float* const normed = room.data();
    float* const one = normed + size;
    float* const other = one + size;
    float* const result = other + size;
    float* const wide = result + size;
    // y = what the residual path makes of `from` and of a sublayer, which turns what it gets into `result`.
    const auto residual = [&](const Norm& n, const float* from, const auto& sublayer) {
        if (b.norm_first) {
            norm(n, from, nullptr, rows, dim, normed, threads);
            sublayer(normed);
            add(from, result, size, y);
        } else {
            sublayer(from);
            norm(n, from, result, rows, dim, y, threads);
        }
    };
    residual(b.attention_norm, x, [&](const float* n) {
        remember(b.key, n, rows, is_bfloat, past->written, b.keys, one, threads);
        remember(b.value, n, rows, is_bfloat, past->written, b.values, one, threads);
        product(b.query, n, rows, one, threads);
        trasluz_attention_step(one, rows, b.heads, head_dim, b.keys, b.values, is_bfloat, b.heads, past->table,
                               past->table_width, past->first, past->step, past->count, other, threads);
        product(b.output, other, rows, result, threads);
    });
    if (memory) {
        residual(b.cross_norm, y, [&](const float* n) {
            product(b.cross_query, n, rows, one, threads);
            trasluz_attention_step(one, rows, b.heads, head_dim, memory->keys, memory->values, is_bfloat, b.heads,
                                   nullptr, 0, memory->first, 1, memory->count, other, threads);
            product(b.cross_output, other, rows, result, threads);
        });
    }
    residual(b.feed_forward_norm, y, [&](const float* n) {
        product(b.expand, n, rows, wide, threads);
        activate(static_cast<Activation>(b.activation), rows * hidden, wide);
        product(b.contract, wide, rows, result, threads);
    });
}

// From so many rows on for each of them, threads take rows, and go through the block with them undisturbed; of fewer they
// take parts of every product, since each reads all weights that it needs.
constexpr std::int64_t kRowsOfThread = 16, kMostRows = 64;

}  // namespace

// `memory` is null for a block that stands alone.
extern "C" void trasluz_block_step(const Block* block, const Past* past, const Memory* memory, const float* x,
                                   std::int64_t rows, float* y, int threads) {
    if (threads == 1 || rows < kRowsOfThread * threads) return step_of_rows(*block, past, memory, x, rows, y, threads);
    // Many rows in parts, of which a core's own memory holds what lies between two products.
    const std::int64_t parts = (rows + kMostRows * threads - 1) / (kMostRows * threads) * threads;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t begin = part * rows / parts, some = (part + 1) * rows / parts - begin;
        Past of_past = *past;
        of_past.written += begin;
        if (of_past.table) of_past.table += begin * of_past.table_width;
        of_past.first += begin;
        of_past.count += begin;
        Memory of_memory;
        if (memory) of_memory = {memory->keys, memory->values, memory->first + begin, memory->count + begin};
        const std::int64_t place = begin * block->query.inputs;
        step_of_rows(*block, &of_past, memory ? &of_memory : nullptr, x + place, some, y + place, 1);
    }
}
