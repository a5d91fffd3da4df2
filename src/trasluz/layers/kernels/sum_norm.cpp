// The norm of a sum, in one pass a row.
//
//     with a bias, layer norm:                 norm(a + b) = (a + b - mean) / sqrt(variance + epsilon) * weight + bias
//     without one, root mean square norm:      the same with 0 for the mean and for the bias

#include <cmath>
#include <cstdint>

#include "avx2.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 16;

// dim is a multiple of eight here.
AVX2 void norm_row(const float* a, const float* b, std::int64_t dim, const float* weight, const float* bias,
                   float epsilon, float* y) {
    __m256 total = _mm256_setzero_ps();
    for (std::int64_t d = 0; d < dim; d += 8) {
        __m256 sum = _mm256_loadu_ps(a + d);
        if (b) sum = _mm256_add_ps(sum, _mm256_loadu_ps(b + d));
        _mm256_storeu_ps(y + d, sum);
        total = _mm256_add_ps(total, sum);
    }
    const __m256 mean = bias ? _mm256_set1_ps(sum8(total) / static_cast<float>(dim)) : _mm256_setzero_ps();
    __m256 squares = _mm256_setzero_ps();
    for (std::int64_t d = 0; d < dim; d += 8) {
        const __m256 away = _mm256_sub_ps(_mm256_loadu_ps(y + d), mean);
        squares = _mm256_fmadd_ps(away, away, squares);
    }
    const __m256 by = _mm256_set1_ps(1.0f / std::sqrt(sum8(squares) / static_cast<float>(dim) + epsilon));
    for (std::int64_t d = 0; d < dim; d += 8) {
        const __m256 normed = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(y + d), mean), by);
        const __m256 shift = bias ? _mm256_loadu_ps(bias + d) : _mm256_setzero_ps();
        _mm256_storeu_ps(y + d, _mm256_fmadd_ps(normed, _mm256_loadu_ps(weight + d), shift));
    }
}

}  // namespace

extern "C" void trasluz_sum_norm(const float* a, const float* b, std::int64_t rows, std::int64_t dim,
                                 const float* weight, const float* bias, float epsilon, float* y, int threads) {
    const bool many = threads > 1 && rows > 1 && rows * dim > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row)
        norm_row(a + row * dim, b ? b + row * dim : nullptr, dim, weight, bias, epsilon, y + row * dim);
}
