// The norm of a sum, in one pass a row.
//
//     with a bias, layer norm:                 norm(a + b) = (a + b - mean) / sqrt(variance + epsilon) * weight + bias
//     without one, root mean square norm:      the same with 0 for the mean and for the bias

#include <cmath>
#include <cstdint>
#include <vector>

#include "avx2.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 16;

AVX2 inline __m256 load8(const float* from) { return _mm256_loadu_ps(from); }
AVX2 inline __m256 load8(const Bfloat* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

AVX2 inline void store8(__m256 x, float* to) { _mm256_storeu_ps(to, x); }
// To the nearest, to the even one of two.
AVX2 inline void store8(__m256 x, Bfloat* to) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
}

// dim is a multiple of eight here; `sums` have room for a row.
template <typename Number>
AVX2 void norm_row(const Number* a, const Number* b, std::int64_t dim, const Number* weight, const Number* bias,
                   float epsilon, float* sums, Number* y) {
    __m256 total = _mm256_setzero_ps();
    for (std::int64_t d = 0; d < dim; d += 8) {
        __m256 sum = load8(a + d);
        if (b) sum = _mm256_add_ps(sum, load8(b + d));
        store8(sum, sums + d);
        total = _mm256_add_ps(total, sum);
    }
    const __m256 mean = bias ? _mm256_set1_ps(sum8(total) / static_cast<float>(dim)) : _mm256_setzero_ps();
    __m256 squares = _mm256_setzero_ps();
    for (std::int64_t d = 0; d < dim; d += 8) {
        const __m256 away = _mm256_sub_ps(load8(sums + d), mean);
        squares = _mm256_fmadd_ps(away, away, squares);
    }
    const __m256 by = _mm256_set1_ps(1.0f / std::sqrt(sum8(squares) / static_cast<float>(dim) + epsilon));
    for (std::int64_t d = 0; d < dim; d += 8) {
        const __m256 normed = _mm256_mul_ps(_mm256_sub_ps(load8(sums + d), mean), by);
        const __m256 shift = bias ? load8(bias + d) : _mm256_setzero_ps();
        store8(_mm256_fmadd_ps(normed, load8(weight + d), shift), y + d);
    }
}

template <typename Number>
void norm_rows(const Number* a, const Number* b, std::int64_t rows, std::int64_t dim, const Number* weight,
               const Number* bias, float epsilon, Number* y, int threads) {
    const bool many = threads > 1 && rows > 1 && rows * dim > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row) {
        static thread_local std::vector<float> sums;
        sums.resize(static_cast<std::size_t>(dim));
        norm_row(a + row * dim, b ? b + row * dim : nullptr, dim, weight, bias, epsilon, sums.data(), y + row * dim);
    }
}

}  // namespace

// Floats or bfloat16, summed in float32 either way.
extern "C" void trasluz_sum_norm(const void* a, const void* b, std::int64_t rows, std::int64_t dim, const void* weight,
                                 const void* bias, float epsilon, int is_bfloat, void* y, int threads) {
    const auto as = [&](auto number) {
        using Number = const decltype(number);
        norm_rows(static_cast<Number*>(a), static_cast<Number*>(b), rows, dim, static_cast<Number*>(weight),
                  static_cast<Number*>(bias), epsilon, static_cast<decltype(number)*>(y), threads);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}
