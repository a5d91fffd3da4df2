// A matrix of eight-bit rows times rows of floats: rounding, product, scales and bias in one pass over memory.
//
//     y[r, n] = (sum_k q[r, k] * w[n, k]) * s_x[r] * s_w[n] + b[n]          q = round(x / s_x),  s_x = max |x| / levels
//
// q is stored as q + levels, so that it is never negative, as the instructions want it; `offset` takes the surplus,
// levels * sum_k w[n, k], away again. Integer sums are exact: a row's result does not depend on the rows beside it.
//
// Weights lie packed as blocks of 32 outputs, four inputs of each output side by side:
//
//     w[block][k / 4][output in block][k % 4]
//
// so that one 32-bit broadcast of q meets the same four inputs of eight (AVX2) or sixteen (AVX-512) outputs at once; and
// sixteen of these groups of inputs are two tiles of the matrix unit (AMX), which takes them where rows are many.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "amx.h"
#include "avx2.h"

namespace {

constexpr std::int64_t kBlock = 32;       // outputs of a block
constexpr std::int64_t kGroup = 8;        // inputs are padded to a multiple of this
constexpr std::int64_t kWorthThreads = 1 << 16;  // products below which a second thread costs more than it brings

struct Product {
    const std::uint8_t* rounded;   // (rows, depth): q + levels
    const float* row_scale;        // (rows)
    std::int64_t rows, depth;      // depth: inputs, padded
    const std::int8_t* weight;     // (blocks, depth / 4, 32, 4)
    const std::int32_t* offset;    // (blocks * 32): minus levels * sum_k w
    const float* weight_scale;     // (blocks * 32)
    const float* bias;             // (blocks * 32)
    std::int64_t outputs;
    float* y;                      // (rows, outputs)
};

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
AVX2 void block_avx2(const Product& p, std::int64_t block, std::int64_t row) {
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

AVX2 void blocks_avx2(const Product& p, std::int64_t block) {
    std::int64_t row = 0;
    for (; row + 2 <= p.rows; row += 2) block_avx2<2>(p, block, row);
    if (row < p.rows) block_avx2<1>(p, block, row);
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

// ---- AVX-512 with VNNI: four products are added in 32 bits, so all 127 levels can be used.

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

// As `round_avx2`, sixteen at a time; each 64 of a row's numbers lie `step` bytes from the last.
VNNI void round_avx512(const float* x, std::int64_t inputs, std::int64_t depth, std::uint8_t* rounded,
                       std::int64_t step, float* scale) {
    constexpr float kLevels = 127.0f;
    __m512 largest16 = _mm512_setzero_ps();
    const auto some = [&](std::int64_t k) VNNI {
        const std::int64_t left = inputs - k;
        return _mm512_maskz_loadu_ps(left < 16 ? static_cast<__mmask16>((1 << left) - 1) : 0xffff, x + k);
    };
    for (std::int64_t k = 0; k < inputs; k += 16) largest16 = _mm512_max_ps(largest16, _mm512_abs_ps(some(k)));
    const float largest = std::max(1e-30f, _mm512_reduce_max_ps(largest16));
    *scale = largest / kLevels;
    const __m512 by = _mm512_set1_ps(kLevels / largest);
    const __m512i levels = _mm512_set1_epi32(127), most = _mm512_set1_epi32(254);
    for (std::int64_t k = 0; k < inputs; k += 16) {
        __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(some(k), by)), levels);
        q = _mm512_min_epi32(_mm512_max_epi32(q, _mm512_setzero_si512()), most);
        const __m128i bytes = _mm512_cvtepi32_epi8(q);
        std::uint8_t* const to = rounded + k / kTileBytes * step + k % kTileBytes;
        if (k + 16 <= depth)
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
        else
            std::memcpy(to, &bytes, static_cast<std::size_t>(depth - k));
    }
}

template <int Rows>
VNNI void block_vnni(const Product& p, std::int64_t block, std::int64_t row) {
    const std::int8_t* w = p.weight + block * kBlock * p.depth;
    const std::int64_t first = block * kBlock;
    __m512i sum[Rows][2];
    for (int n = 0; n < 2; ++n) {
        const __m512i offset = _mm512_loadu_si512(p.offset + first + 16 * n);
        for (int r = 0; r < Rows; ++r) sum[r][n] = offset;
    }
    for (std::int64_t k = 0; k < p.depth; k += 4, w += kBlock * 4) {
        const __m512i low = _mm512_loadu_si512(w), high = _mm512_loadu_si512(w + 64);
        for (int r = 0; r < Rows; ++r) {
            std::int32_t four;
            std::memcpy(&four, p.rounded + (row + r) * p.depth + k, sizeof four);
            const __m512i q = _mm512_set1_epi32(four);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], q, low);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], q, high);
        }
    }
    for (int r = 0; r < Rows; ++r) {
        const __m512 scale = _mm512_set1_ps(p.row_scale[row + r]);
        alignas(64) float values[kBlock];
        for (int n = 0; n < 2; ++n) {
            const std::int64_t at = first + 16 * n;
            const __m512 both = _mm512_mul_ps(scale, _mm512_loadu_ps(p.weight_scale + at));
            _mm512_store_ps(values + 16 * n,
                            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][n]), both, _mm512_loadu_ps(p.bias + at)));
        }
        store_tail(values, p.y + (row + r) * p.outputs + first, std::min(kBlock, p.outputs - first));
    }
}

VNNI void blocks_vnni(const Product& p, std::int64_t block) {
    std::int64_t row = 0;
    for (; row + 8 <= p.rows; row += 8) block_vnni<8>(p, block, row);
    if (row + 4 <= p.rows) block_vnni<4>(p, block, row), row += 4;
    if (row + 2 <= p.rows) block_vnni<2>(p, block, row), row += 2;
    if (row < p.rows) block_vnni<1>(p, block, row);
}

#ifdef TRASLUZ_AMX

// Fewer rows than this leave most of a tile empty.
constexpr std::int64_t kWorthTiles = 6;

// 32 rows and the 32 outputs of a block, or 16 rows: of what stands behind the last row nothing is kept.
template <bool Both>
AMX void tiles(const Product& p, std::int64_t block, std::int64_t row) {
    // Sixteen rows of 64 numbers are a tile, and lie together.
    const std::uint8_t* q = p.rounded + row * p.depth;
    const std::int8_t* w = p.weight + block * kBlock * p.depth;
    constexpr std::int64_t kStep = kBlock * 4, kTile = kTileRows * kTileBytes;
    _tile_zero(0);
    _tile_zero(1);
    if (Both) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (std::int64_t k = 0; k < p.depth; k += kTileBytes, q += kTile, w += kTileRows * kStep) {
        _tile_loadd(4, q, kTileBytes);
        _tile_loadd(6, w, kStep);
        _tile_loadd(7, w + kTileBytes, kStep);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (Both) {
            _tile_loadd(5, q + kTileRows * p.depth, kTileBytes);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
    }
    alignas(64) std::int32_t sums[2 * kTileRows][kBlock];
    _tile_stored(0, sums[0], sizeof sums[0]);
    _tile_stored(1, sums[0] + 16, sizeof sums[0]);
    if (Both) {
        _tile_stored(2, sums[kTileRows], sizeof sums[0]);
        _tile_stored(3, sums[kTileRows] + 16, sizeof sums[0]);
    }
    const std::int64_t rows = std::min((Both ? 2 : 1) * kTileRows, p.rows - row), first = block * kBlock;
    for (int n = 0; n < 2; ++n) {
        const std::int64_t output = first + 16 * n, left = p.outputs - output;
        const __mmask16 there = left < 16 ? static_cast<__mmask16>(left > 0 ? (1 << left) - 1 : 0) : 0xffff;
        const __m512i offset = _mm512_loadu_si512(p.offset + output);
        const __m512 scale = _mm512_loadu_ps(p.weight_scale + output), bias = _mm512_loadu_ps(p.bias + output);
        for (std::int64_t r = 0; r < rows; ++r) {
            const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums[r] + 16 * n), offset);
            const __m512 both = _mm512_mul_ps(_mm512_set1_ps(p.row_scale[row + r]), scale);
            const __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), both, bias);
            _mm512_mask_storeu_ps(p.y + (row + r) * p.outputs + output, there, y);
        }
    }
}

// The blocks from `begin` up to `end`, by one thread.
AMX void blocks_amx(const Product& p, std::int64_t begin, std::int64_t end) {
    set_up_tiles();
    for (std::int64_t block = begin; block < end; ++block) {
        std::int64_t row = 0;
        for (; row + kTileRows < p.rows; row += 2 * kTileRows) tiles<true>(p, block, row);
        if (row < p.rows) tiles<false>(p, block, row);
    }
    release_tiles();
}

bool takes_tiles(std::int64_t rows, std::int64_t depth) {
    return rows >= kWorthTiles && depth % kTileBytes == 0 && has_amx() && __builtin_cpu_supports("avx512vnni");
}

#else

bool takes_tiles(std::int64_t, std::int64_t) { return false; }
void blocks_amx(const Product&, std::int64_t, std::int64_t) {}

#endif

bool has_vnni() {
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

extern "C" {

// Changes with anything that the Python side must know of any kernel.
int trasluz_kernels_version() { return 9; }

// How many levels a side x is rounded to; 0: this processor has none of the instructions.
int trasluz_int8_levels() { return has_vnni() ? 127 : has_avx2() ? 63 : 0; }

void trasluz_int8_product(const float* x, std::int64_t rows, std::int64_t inputs, std::int64_t depth,
                          const std::int8_t* weight, const std::int32_t* offset, const float* weight_scale,
                          const float* bias, std::int64_t outputs, float* y, int threads) {
    static thread_local std::vector<std::uint8_t> rounded;
    static thread_local std::vector<float> scale;
    // Tiles reach up to a whole number of them behind the last row.
    rounded.resize(static_cast<std::size_t>((rows + 2 * kTileRows) * depth));
    scale.resize(static_cast<std::size_t>(rows));
    const bool wide = has_vnni(), in_tiles = wide && takes_tiles(rows, depth);
    // Of a row's numbers each 64 lie so far from the last, in tiles of 16 rows or one behind the other.
    const std::int64_t step = in_tiles ? kTileRows * kTileBytes : kTileBytes;
    std::uint8_t* const q = rounded.data();
    float* const s = scale.data();
    const std::int64_t blocks = (outputs + kBlock - 1) / kBlock;
    const Product product{q, s, rows, depth, weight, offset, weight_scale, bias, outputs, y};
    const bool many = threads > 1 && rows * depth * outputs > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many && rows > 8)
    for (std::int64_t row = 0; row < rows; ++row) {
        std::uint8_t* const to = in_tiles ? q + row / kTileRows * kTileRows * depth + row % kTileRows * kTileBytes
                                          : q + row * depth;
        wide ? round_avx512(x + row * inputs, inputs, depth, to, step, s + row)
             : round_avx2(x + row * inputs, inputs, to, s + row);
    }
    if (in_tiles) {
        const std::int64_t parts = many ? threads : 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
        for (std::int64_t part = 0; part < parts; ++part)
            blocks_amx(product, part * blocks / parts, (part + 1) * blocks / parts);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t block = 0; block < blocks; ++block) wide ? blocks_vnni(product, block) : blocks_avx2(product, block);
}
}
