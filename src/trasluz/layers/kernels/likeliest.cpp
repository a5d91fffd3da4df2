// The likeliest entries of every row of logits, and the logarithm of the sum of exponentials, in one pass over memory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "avx2.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 15;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Keeps `count` values, largest first; of equal ones the first met stays first.
struct Best {
    float* values;
    std::int64_t* places;
    std::int64_t count;

    void start() const {
        std::fill(values, values + count, kLowest);
        std::fill(places, places + count, 0);
    }
    float least() const { return values[count - 1]; }
    void offer(float value, std::int64_t place) const {
        std::int64_t at = count - 1;
        for (; at > 0 && values[at - 1] < value; --at) {
            values[at] = values[at - 1];
            places[at] = places[at - 1];
        }
        values[at] = value;
        places[at] = place;
    }
};

AVX2 void best_of_row(const float* logits, std::int64_t size, const Best& best) {
    best.start();
    std::int64_t v = 0;
    for (; v + 32 <= size; v += 32) {
        const __m256 a = _mm256_max_ps(_mm256_loadu_ps(logits + v), _mm256_loadu_ps(logits + v + 8));
        const __m256 b = _mm256_max_ps(_mm256_loadu_ps(logits + v + 16), _mm256_loadu_ps(logits + v + 24));
        const __m256 better = _mm256_cmp_ps(_mm256_max_ps(a, b), _mm256_set1_ps(best.least()), _CMP_GT_OQ);
        if (_mm256_movemask_ps(better))
            for (std::int64_t w = v; w < v + 32; ++w)
                if (logits[w] > best.least()) best.offer(logits[w], w);
    }
    for (; v < size; ++v)
        if (logits[v] > best.least()) best.offer(logits[v], v);
    // Fewer are possible than are wanted: the first of the others stand behind them, each once.
    std::int64_t at = std::find(best.values, best.values + best.count, kLowest) - best.values;
    for (v = 0; at < best.count; ++v)
        if (!(logits[v] > kLowest)) best.values[at] = logits[v], best.places[at++] = v;
}

}  // namespace

#define EACH_WIDTH "log_sum_exp.h"
#include "each_width.h"

extern "C" {

void trasluz_log_sum_exp(const float* logits, std::int64_t rows, std::int64_t size, float* result, int threads) {
    const auto one = has_sixteen() ? sixteen::log_sum_exp : eight::log_sum_exp;
    const bool many = threads > 1 && rows > 1 && rows * size > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row) result[row] = one(logits + row * size, size);
}

void trasluz_best_of_rows(const float* logits, std::int64_t rows, std::int64_t size, std::int64_t count, float* values,
                          std::int64_t* places, int threads) {
    const bool many = threads > 1 && rows > 1 && rows * size > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row)
        best_of_row(logits + row * size, size, Best{values + row * count, places + row * count, count});
}
}
