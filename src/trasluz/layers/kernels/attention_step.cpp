// Attention of one new position a row over what is remembered, which is read where it lies: nothing is copied, nothing
// is reordered when a search moves its hypotheses about.
//
//     weights[h, t] = softmax over t of q[r, h] . k[slot(r, t), m(h)] / sqrt(head_dim)
//     context[r, h] = sum_t weights[h, t] * v[slot(r, t), m(h)]
//
// A slot holds the keys (or values) of all their heads at one position. Each of them serves a group of the query's heads,
// as large as the others, those of a group side by side: m(h) = h / group. slot(r, t) stands in a table or, without one, is
// first[r] + t * step. Only the first count[r] positions are seen; a row that sees none gets zeros.
//
// What is remembered is floats or bfloat16, of which half as much is read; queries and sums are floats either way.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "avx2.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 15;  // products below which a second thread costs more than it brings

template <typename Number>
struct Step {
    const float* query;  // (rows, heads, head_dim)
    std::int64_t rows, heads, head_dim;
    const Number* key;    // (slots, memory_heads, head_dim)
    const Number* value;  // (slots, memory_heads, head_dim)
    std::int64_t memory_heads;
    const std::int32_t* table;  // (rows, table_width) or null
    std::int64_t table_width;
    const std::int64_t* first;  // (rows)
    std::int64_t step;
    const std::int64_t* count;  // (rows)
    float* context;             // (rows, heads, head_dim)

    std::int64_t slot(std::int64_t row, std::int64_t t) const {
        return table ? table[row * table_width + t] : first[row] + t * step;
    }
};

// head_dim is a multiple of eight here.
template <typename Number>
AVX2 float dot(const float* a, const Number* b, std::int64_t size) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int64_t d = 0; d < size; d += 8) sum = _mm256_fmadd_ps(load8(a + d), load8(b + d), sum);
    return sum8(sum);
}

// Makes `count` scores, padded to eights, into weights.
AVX2 void softmax(float* scores, std::int64_t count, std::int64_t padded) {
    for (std::int64_t t = count; t < padded; ++t) scores[t] = -std::numeric_limits<float>::infinity();
    __m256 largest8 = _mm256_loadu_ps(scores);
    for (std::int64_t t = 8; t < padded; t += 8) largest8 = _mm256_max_ps(largest8, _mm256_loadu_ps(scores + t));
    const __m256 largest = _mm256_set1_ps(max8(largest8));
    __m256 total = _mm256_setzero_ps();
    for (std::int64_t t = 0; t < padded; t += 8) {
        const __m256 weight = exp8(_mm256_sub_ps(_mm256_loadu_ps(scores + t), largest));
        _mm256_storeu_ps(scores + t, weight);
        if (t + 8 <= count) total = _mm256_add_ps(total, weight);
    }
    float sum = sum8(total);
    for (std::int64_t t = count / 8 * 8; t < count; ++t) sum += scores[t];
    const float by = 1.0f / sum;
    for (std::int64_t t = 0; t < count; ++t) scores[t] *= by;
}

// The heads from `begin` up to `end` of a row.
template <typename Number>
AVX2 void attend(const Step<Number>& s, std::int64_t row, std::int64_t begin, std::int64_t end, float* scores) {
    const std::int64_t size = s.heads * s.head_dim, slot_size = s.memory_heads * s.head_dim;
    const std::int64_t group = s.heads / s.memory_heads, count = s.count[row], padded = (count + 7) / 8 * 8;
    float* const context = s.context + row * size;
    std::fill(context + begin * s.head_dim, context + end * s.head_dim, 0.0f);
    if (count <= 0) return;
    const float* const query = s.query + row * size;
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    for (std::int64_t t = 0; t < count; ++t) {
        const Number* const key = s.key + s.slot(row, t) * slot_size;
        for (std::int64_t h = begin; h < end; ++h)
            scores[h * padded + t] = scale * dot(query + h * s.head_dim, key + h / group * s.head_dim, s.head_dim);
    }
    for (std::int64_t h = begin; h < end; ++h) softmax(scores + h * padded, count, padded);
    for (std::int64_t t = 0; t < count; ++t) {
        const Number* const value = s.value + s.slot(row, t) * slot_size;
        for (std::int64_t h = begin; h < end; ++h) {
            const __m256 weight = _mm256_set1_ps(scores[h * padded + t]);
            float* const to = context + h * s.head_dim;
            const Number* const from = value + h / group * s.head_dim;
            for (std::int64_t d = 0; d < s.head_dim; d += 8)
                _mm256_storeu_ps(to + d, _mm256_fmadd_ps(weight, load8(from + d), load8(to + d)));
        }
    }
}

template <typename Number>
void attend_all(const Step<Number>& s, int threads) {
    const std::int64_t longest = s.rows ? *std::max_element(s.count, s.count + s.rows) : 0;
    const bool many = threads > 1 && s.rows * longest * s.heads * s.head_dim > kWorthThreads;
    // Where there are fewer rows than threads, threads share the heads of each.
    const std::int64_t parts = many && s.rows < threads ? std::min<std::int64_t>(s.heads, threads) : 1;
#pragma omp parallel num_threads(threads) if (many)
    {
        std::vector<float> scores(static_cast<std::size_t>(s.heads * ((longest + 7) / 8 * 8)));
#pragma omp for schedule(static)
        for (std::int64_t part = 0; part < s.rows * parts; ++part) {
            const std::int64_t number = part % parts;
            attend(s, part / parts, number * s.heads / parts, (number + 1) * s.heads / parts, scores.data());
        }
    }
}

}  // namespace

extern "C" void trasluz_attention_step(const float* query, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
                                       const void* key, const void* value, int is_bfloat, std::int64_t memory_heads,
                                       const std::int32_t* table, std::int64_t table_width, const std::int64_t* first,
                                       std::int64_t step, const std::int64_t* count, float* context, int threads) {
    const auto of = [&](auto number) {
        using Number = const decltype(number);
        attend_all(Step<decltype(number)>{query, rows, heads, head_dim, static_cast<Number*>(key),
                                          static_cast<Number*>(value), memory_heads, table, table_width, first, step,
                                          count, context},
                   threads);
    };
    is_bfloat ? of(Bfloat{}) : of(float{});
}
