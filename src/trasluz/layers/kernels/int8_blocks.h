// Products of rows of eight bits, sixteen outputs at a time (AVX-512 with VNNI) or by tiles (AMX): how numbers lie, how a
// row is rounded, and what a block of outputs is.
//
// A row of inputs is stored as q + levels, so that it is never negative, as the instructions want it; `offset` takes the
// surplus, levels * sum_k w[n, k], away again. Integer sums are exact: a row's result does not depend on the rows beside
// it.
//
// Weights lie packed as blocks of 32 outputs, four inputs of each output side by side:
//
//     w[block][k / 4][output in block][k % 4]
//
// so that one 32-bit broadcast of q meets the same four inputs of eight (AVX2) or sixteen (AVX-512) outputs at once; and
// sixteen of these groups of inputs are two tiles of the matrix unit (AMX), which takes them where rows are many.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "amx.h"
#include "avx2.h"

constexpr std::int64_t kBlock = 32;  // outputs of a block
constexpr std::int64_t kGroup = 8;   // inputs are padded to a multiple of this
constexpr std::int64_t kWeightsAtOnce = 128 << 10;  // bytes of weights that meet all rows before the next do
constexpr std::int64_t kLittleAhead = 8 << 10;      // bytes

template <typename Number>
struct Product {
    const std::uint8_t* rounded;  // (rows, depth): q + levels
    const float* row_scale;       // (rows)
    std::int64_t rows, depth;     // depth: inputs, padded
    const std::int8_t* weight;    // (blocks, depth / 4, 32, 4)
    const std::int32_t* offset;   // (blocks * 32): minus levels * sum_k w
    const float* weight_scale;    // (blocks * 32)
    const float* bias;            // (blocks * 32)
    std::int64_t outputs;
    Number* y;                    // (rows, outputs)
};

static inline bool has_vnni() {
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

// Four products are added in 32 bits, so all 127 levels can be used.
constexpr int kVnniLevels = 127;

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

VNNI static inline __mmask16 first_of_16(std::int64_t count) {
    return count >= 16 ? 0xffff : static_cast<__mmask16>(count > 0 ? (1 << count) - 1 : 0);
}

// Sixteen numbers of a row, or as many as are left and zeros behind them.
VNNI static inline __m512 some16(const float* from, std::int64_t left) {
    return _mm512_maskz_loadu_ps(first_of_16(left), from);
}

VNNI static inline __m512 some16(const Bfloat* from, std::int64_t left) {
    const __m256i halves = _mm256_maskz_loadu_epi16(first_of_16(left), from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

VNNI static inline void put_some16(__m512 x, float* to, std::int64_t left) {
    _mm512_mask_storeu_ps(to, first_of_16(left), x);
}

// To the nearest, to the even one of two.
VNNI static inline void put_some16(__m512 x, Bfloat* to, std::int64_t left) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    _mm256_mask_storeu_epi16(to, first_of_16(left), _mm512_cvtepi32_epi16(_mm512_srli_epi32(nearest, 16)));
}

// Sizes are compared as whole numbers, among which what is no number is the largest, and is not lost.
VNNI static inline __m512i larger_sizes(__m512i sizes, __m512 x) {
    return _mm512_max_epi32(sizes, _mm512_castps_si512(_mm512_abs_ps(x)));
}

// What is divided by: a row of zeros needs no scale, only one that can be.
static inline float not_zero(float largest) { return largest < 1e-30f ? 1e-30f : largest; }

// The size of a row's largest number.
template <typename Number>
VNNI float largest_of(const Number* x, std::int64_t count) {
    __m512i sizes = _mm512_setzero_si512();
    for (std::int64_t k = 0; k < count; k += 16) sizes = larger_sizes(sizes, some16(x + k, count - k));
    return not_zero(_mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(sizes)))));
}

// Sixteen whole numbers from -levels to levels; only what is no number would be outside, and must not make sums that
// overflow.
VNNI static inline __m512i rounded16(__m512 x, __m512 by) {
    const __m512i most = _mm512_set1_epi32(kVnniLevels), least = _mm512_set1_epi32(-kVnniLevels);
    return _mm512_min_epi32(_mm512_max_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, by)), least), most);
}

// Rounds a row; each 64 of its numbers lie `step` bytes from the last. What stands for padding means nothing: the
// weights that it meets are zero.
template <typename Number>
VNNI void round_row(const Number* x, std::int64_t inputs, std::int64_t depth, std::uint8_t* rounded, std::int64_t step,
                    float* scale) {
    const float largest = largest_of(x, inputs);
    *scale = largest / static_cast<float>(kVnniLevels);
    const __m512 by = _mm512_set1_ps(static_cast<float>(kVnniLevels) / largest);
    const __m512i levels = _mm512_set1_epi32(kVnniLevels);
    for (std::int64_t k = 0; k < inputs; k += 16) {
        const __m512i q = _mm512_add_epi32(rounded16(some16(x + k, inputs - k), by), levels);
        const __m128i bytes = _mm512_cvtepi32_epi8(q);
        std::uint8_t* const to = rounded + k / kTileBytes * step + k % kTileBytes;
        if (k + 16 <= depth)
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
        else
            std::memcpy(to, &bytes, static_cast<std::size_t>(depth - k));
    }
}

// `ahead`: how many bytes further on weights are fetched into caches meanwhile; 0: none.
template <int Rows, typename Number>
VNNI void block_vnni(const Product<Number>& p, std::int64_t block, std::int64_t row, std::int64_t ahead) {
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
        if (ahead) {
            _mm_prefetch(reinterpret_cast<const char*>(w + ahead), _MM_HINT_T1);
            _mm_prefetch(reinterpret_cast<const char*>(w + ahead + 64), _MM_HINT_T1);
        }
    }
    for (int r = 0; r < Rows; ++r) {
        const __m512 scale = _mm512_set1_ps(p.row_scale[row + r]);
        for (int n = 0; n < 2; ++n) {
            const std::int64_t at = first + 16 * n;
            const __m512 both = _mm512_mul_ps(scale, _mm512_loadu_ps(p.weight_scale + at));
            const __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][n]), both, _mm512_loadu_ps(p.bias + at));
            put_some16(y, p.y + (row + r) * p.outputs + at, p.outputs - at);
        }
    }
}

// Some rows times the blocks from `begin` up to `end`.
template <int Rows, typename Number>
VNNI void rows_vnni(const Product<Number>& p, std::int64_t begin, std::int64_t end, std::int64_t row,
                    std::int64_t ahead) {
    for (std::int64_t block = begin; block < end; ++block) block_vnni<Rows>(p, block, row, ahead);
}

// The blocks from `begin` up to `end`, by one thread. As many of them at a time as a core's own memory holds: a row's
// outputs are written side by side, since a line here and a line there of many long rows push each other out of caches.
// The last rows to meet some weights fetch the next.
template <typename Number>
VNNI void blocks_vnni(const Product<Number>& p, std::int64_t begin, std::int64_t end) {
    const std::int64_t most = std::max<std::int64_t>(1, kWeightsAtOnce / (kBlock * p.depth));
    for (std::int64_t some = begin; some < end; some += most) {
        const std::int64_t last = std::min(some + most, end), next = most * kBlock * p.depth;
        std::int64_t row = 0;
        // Rows that meet them alone fetch those a little further on; one or two wait for memory as it is.
        const auto ahead = [&](std::int64_t rows) -> std::int64_t {
            if (row + rows < p.rows || p.rows <= 2) return 0;
            return rows < p.rows ? next : kLittleAhead;
        };
        for (; row + 8 <= p.rows; row += 8) rows_vnni<8>(p, some, last, row, ahead(8));
        if (row + 4 <= p.rows) rows_vnni<4>(p, some, last, row, ahead(4)), row += 4;
        if (row + 2 <= p.rows) rows_vnni<2>(p, some, last, row, ahead(2)), row += 2;
        if (row < p.rows) rows_vnni<1>(p, some, last, row, ahead(1));
    }
}

#ifdef TRASLUZ_AMX

// Fewer rows than this leave most of a tile empty.
constexpr std::int64_t kWorthTiles = 6;

// 32 rows and the 32 outputs of a block, or 16 rows: of what stands behind the last row nothing is kept.
template <bool Both, typename Number>
AMX void tiles(const Product<Number>& p, std::int64_t block, std::int64_t row) {
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
        const std::int64_t output = first + 16 * n;
        const __m512i offset = _mm512_loadu_si512(p.offset + output);
        const __m512 scale = _mm512_loadu_ps(p.weight_scale + output), bias = _mm512_loadu_ps(p.bias + output);
        for (std::int64_t r = 0; r < rows; ++r) {
            const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums[r] + 16 * n), offset);
            const __m512 both = _mm512_mul_ps(_mm512_set1_ps(p.row_scale[row + r]), scale);
            const __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), both, bias);
            put_some16(y, p.y + (row + r) * p.outputs + output, p.outputs - output);
        }
    }
}

// The blocks from `begin` up to `end`, by one thread.
template <typename Number>
AMX void blocks_amx(const Product<Number>& p, std::int64_t begin, std::int64_t end) {
    set_up_tiles();
    for (std::int64_t block = begin; block < end; ++block) {
        std::int64_t row = 0;
        for (; row + kTileRows < p.rows; row += 2 * kTileRows) tiles<true>(p, block, row);
        if (row < p.rows) tiles<false>(p, block, row);
    }
    release_tiles();
}

static inline bool takes_tiles(std::int64_t rows, std::int64_t depth) {
    return rows >= kWorthTiles && depth % kTileBytes == 0 && has_amx() && __builtin_cpu_supports("avx512vnni");
}

#else

static inline bool takes_tiles(std::int64_t, std::int64_t) { return false; }
template <typename Number>
void blocks_amx(const Product<Number>&, std::int64_t, std::int64_t) {}

#endif

// Where a row's rounded numbers begin, and how far each 64 lie from the last: in tiles of 16 rows, or one behind the
// other.
static inline std::uint8_t* place_of_row(std::uint8_t* rounded, std::int64_t row, std::int64_t depth, bool in_tiles) {
    return in_tiles ? rounded + row / kTileRows * kTileRows * depth + row % kTileRows * kTileBytes
                    : rounded + row * depth;
}

static inline std::int64_t step_of_row(bool in_tiles) { return in_tiles ? kTileRows * kTileBytes : kTileBytes; }
