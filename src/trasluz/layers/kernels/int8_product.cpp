// A matrix of eight-bit rows times rows of floats: rounding, product, scales and bias in one pass over memory.
//
//     y[r, n] = (sum_k q[r, k] * w[n, k]) * s_x[r] * s_w[n] + b[n]          q = round(x / s_x),  s_x = max |x| / levels
//
// For few rows and weights that stay: threads share the outputs. `int8_training.cpp` has many rows and new weights.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "int8_blocks.h"
#include "shares.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 16;  // products below which a second thread costs more than it brings

void store_tail(const float* values, float* y, std::int64_t count) {
    std::memcpy(y, values, static_cast<std::size_t>(count) * sizeof(float));
}

// ---- AVX2 adds two products in sixteen bits: with 63 levels the most is 2 * 126 * 127 = 32,004, which fits.

AVX2 inline __m256i broadcast4(const std::uint8_t* from) {
    std::int32_t four;
    std::memcpy(&four, from, sizeof four);
    return _mm256_set1_epi32(four);
}

template <int Rows>
AVX2 void block_avx2(const Product<float>& p, std::int64_t block, std::int64_t row) {
    const std::int8_t* w = p.weight + block * kBlock * p.depth;
    const std::int64_t first = block * kBlock;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[Rows][4];
    for (int n = 0; n < 4; ++n) {
        const __m256i offset = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p.offset + first + 8 * n));
        for (int r = 0; r < Rows; ++r) sum[r][n] = offset;
    }
    for (std::int64_t k = 0; k < p.depth; k += 4, w += kBlock * 4) {
        const __m256i* at = reinterpret_cast<const __m256i*>(w);
        for (int r = 0; r < Rows; ++r) {
            const __m256i q = broadcast4(p.rounded + (row + r) * p.depth + k);
            for (int n = 0; n < 4; ++n) {
                const __m256i pairs = _mm256_maddubs_epi16(q, _mm256_loadu_si256(at + n));
                sum[r][n] = _mm256_add_epi32(sum[r][n], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    for (int r = 0; r < Rows; ++r) {
        const __m256 scale = _mm256_set1_ps(p.row_scale[row + r]);
        alignas(32) float values[kBlock];
        for (int n = 0; n < 4; ++n) {
            const std::int64_t at = first + 8 * n;
            const __m256 both = _mm256_mul_ps(scale, _mm256_loadu_ps(p.weight_scale + at));
            const __m256 y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][n]), both, _mm256_loadu_ps(p.bias + at));
            _mm256_store_ps(values + 8 * n, y);
        }
        store_tail(values, p.y + (row + r) * p.outputs + first, std::min(kBlock, p.outputs - first));
    }
}

AVX2 void blocks_avx2(const Product<float>& p, std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
        std::int64_t row = 0;
        for (; row + 2 <= p.rows; row += 2) block_avx2<2>(p, block, row);
        if (row < p.rows) block_avx2<1>(p, block, row);
    }
}

AVX2 inline void round8(__m256 x, __m256 by, int levels, std::uint8_t* to) {
    __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x, by)), _mm256_set1_epi32(levels));
    // Only what is no number is outside; it must not make sums that overflow.
    q = _mm256_min_epi32(_mm256_max_epi32(q, _mm256_setzero_si256()), _mm256_set1_epi32(2 * levels));
    const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(q, q), q);
    const std::int32_t low = _mm256_extract_epi32(bytes, 0), high = _mm256_extract_epi32(bytes, 4);
    std::memcpy(to, &low, 4);
    std::memcpy(to + 4, &high, 4);
}

AVX2 void round_avx2(const float* x, std::int64_t inputs, std::uint8_t* rounded, float* scale) {
    constexpr int levels = 63;
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 largest8 = _mm256_setzero_ps();
    std::int64_t k = 0;
    for (; k + 8 <= inputs; k += 8)
        largest8 = _mm256_max_ps(largest8, _mm256_and_ps(no_sign, _mm256_loadu_ps(x + k)));
    // A row of zeros needs no scale, only one that can be divided by.
    float largest = std::max(1e-30f, max8(largest8));
    for (; k < inputs; ++k) largest = std::max(largest, std::abs(x[k]));
    *scale = largest / static_cast<float>(levels);
    const __m256 by = _mm256_set1_ps(static_cast<float>(levels) / largest);
    for (k = 0; k + 8 <= inputs; k += 8) round8(_mm256_loadu_ps(x + k), by, levels, rounded + k);
    if (k < inputs) {
        // Padded weights are zero: what stands for the padding of x means nothing.
        alignas(32) float rest[kGroup] = {};
        std::memcpy(rest, x + k, static_cast<std::size_t>(inputs - k) * sizeof(float));
        round8(_mm256_load_ps(rest), by, levels, rounded + k);
    }
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

bool int8_takes_tiles(std::int64_t rows, std::int64_t depth) { return has_vnni() && takes_tiles(rows, depth); }

// Tiles reach up to a whole number of them behind the last row.
std::int64_t bytes_of_rounded(std::int64_t rows, std::int64_t depth) { return (rows + 2 * kTileRows) * depth; }

void round_rows(const float* x, std::int64_t rows, std::int64_t inputs, std::int64_t depth, std::int64_t begin,
                std::int64_t end, std::uint8_t* rounded, float* row_scale) {
    const bool wide = has_vnni(), in_tiles = int8_takes_tiles(rows, depth);
    for (std::int64_t row = begin; row < end; ++row) {
        std::uint8_t* const to = place_of_row(rounded, row, depth, in_tiles);
        wide ? round_row(x + row * inputs, inputs, depth, to, step_of_row(in_tiles), row_scale + row)
             : round_avx2(x + row * inputs, inputs, to, row_scale + row);
    }
}

void int8_outputs(const std::uint8_t* rounded, const float* row_scale, std::int64_t rows, std::int64_t depth,
                  const std::int8_t* weight, const std::int32_t* offset, const float* weight_scale, const float* bias,
                  std::int64_t outputs, std::int64_t begin, std::int64_t end, float* y) {
    const Product<float> product{rounded, row_scale, rows, depth, weight, offset, weight_scale, bias, outputs, y};
    const std::int64_t first = begin / kBlock, last = (end + kBlock - 1) / kBlock;
    int8_takes_tiles(rows, depth) ? blocks_amx(product, first, last)
    : has_vnni()                  ? blocks_vnni(product, first, last)
                                  : blocks_avx2(product, first, last);
}

extern "C" {

// Changes with anything that the Python side must know of any kernel.
int trasluz_kernels_version() { return 11; }

// How many levels a side x is rounded to; 0: this processor has none of the instructions.
int trasluz_int8_levels() { return has_vnni() ? kVnniLevels : has_avx2() ? 63 : 0; }

// The rows of the matrix that these ids name, as floats: what was rounded times its scale and `by`. 0 where one is none.
int trasluz_int8_look_up(const std::int8_t* weight, const float* weight_scale, std::int64_t outputs,
                         std::int64_t inputs, std::int64_t depth, const std::int64_t* ids, std::int64_t count, float by,
                         float* y, int threads) {
    if (std::any_of(ids, ids + count, [&](std::int64_t id) { return id < 0 || id >= outputs; })) return 0;
    constexpr std::int64_t kQuad = 4;  // inputs of an output that lie side by side
#pragma omp parallel for schedule(static) num_threads(threads) if (count * inputs > kWorthThreads)
    for (std::int64_t n = 0; n < count; ++n) {
        const std::int64_t id = ids[n];
        const std::int8_t* const row = weight + id / kBlock * kBlock * depth + id % kBlock * kQuad;
        const float scale = weight_scale[id] * by;
        for (std::int64_t k = 0; k < inputs; ++k)
            y[n * inputs + k] = static_cast<float>(row[k / kQuad * kQuad * kBlock + k % kQuad]) * scale;
    }
    return 1;
}

void trasluz_int8_product(const float* x, std::int64_t rows, std::int64_t inputs, std::int64_t depth,
                          const std::int8_t* weight, const std::int32_t* offset, const float* weight_scale,
                          const float* bias, std::int64_t outputs, float* y, int threads) {
    static thread_local std::vector<std::uint8_t> rounded;
    static thread_local std::vector<float> scale;
    rounded.resize(static_cast<std::size_t>(bytes_of_rounded(rows, depth)));
    scale.resize(static_cast<std::size_t>(rows));
    std::uint8_t* const q = rounded.data();
    float* const s = scale.data();
    const std::int64_t blocks = (outputs + kBlock - 1) / kBlock;
    const std::int64_t parts = threads > 1 && rows * depth * outputs > kWorthThreads ? threads : 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (parts > 1 && rows > 8)
    for (std::int64_t part = 0; part < parts; ++part)
        round_rows(x, rows, inputs, depth, part * rows / parts, (part + 1) * rows / parts, q, s);
#pragma omp parallel for schedule(static) num_threads(threads) if (parts > 1)
    for (std::int64_t part = 0; part < parts; ++part)
        int8_outputs(q, s, rows, depth, weight, offset, weight_scale, bias, outputs, part * blocks / parts * kBlock,
                     std::min(outputs, (part + 1) * blocks / parts * kBlock), y);
}
}
