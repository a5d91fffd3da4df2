// Products of training in eight bits: many rows, and weights that are new at every update.
//
//     y[r, n] = (sum_k q[r, k] * v[n, k]) * s_x[r] * s_w[n] + b[n]
//     q = round(x / s_x),  v = round(w / s_w),  s = the largest of a row / levels
//
// Rows are rounded and multiplied a few hundred at a time, as many as a core's own memory holds beside a block of weights;
// threads share the rows. How numbers lie stands in int8_blocks.h.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "int8_blocks.h"
#include "number_types.h"

namespace {

// Rounded rows that are multiplied at once take so many bytes, and are so many at least.
constexpr std::int64_t kBytesAtOnce = 192 << 10, kRowsAtOnce = 64;

struct Packed {
    std::int64_t depth;
    std::int8_t* weight;
    std::int32_t* offset;
    float* scale;
};

// A block whose outputs are rows of w.
VNNI void pack_rows(const float* w, std::int64_t outputs, std::int64_t inputs, std::int64_t block, const Packed& to) {
    std::vector<std::int8_t> row(static_cast<std::size_t>(to.depth + 16));
    std::int8_t* const packed = to.weight + block * kBlock * to.depth;
    for (std::int64_t n = 0; n < kBlock; ++n) {
        const std::int64_t output = block * kBlock + n;
        __m512i sum = _mm512_setzero_si512();
        const std::int64_t there = output < outputs ? inputs : 0;
        const float* const from = w + (there ? output * inputs : 0);
        const float largest = largest_of(from, there);
        const __m512 by = _mm512_set1_ps(static_cast<float>(kVnniLevels) / largest);
        for (std::int64_t k = 0; k < to.depth; k += 16) {
            const __m512i v = rounded16(some16(from + k, there - k), by);
            sum = _mm512_add_epi32(sum, v);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(row.data() + k), _mm512_cvtepi32_epi8(v));
        }
        for (std::int64_t k = 0; k < to.depth; k += 4) std::memcpy(packed + k * kBlock + 4 * n, row.data() + k, 4);
        to.scale[output] = largest / static_cast<float>(kVnniLevels);
        to.offset[output] = -kVnniLevels * _mm512_reduce_add_epi32(sum);
    }
}

// A block whose outputs are columns of w.
VNNI void pack_columns(const float* w, std::int64_t outputs, std::int64_t inputs, std::int64_t block,
                       const Packed& to) {
    std::int8_t* const packed = to.weight + block * kBlock * to.depth;
    for (int half = 0; half < 2; ++half) {
        const std::int64_t output = block * kBlock + 16 * half, left = outputs - output;
        const float* const from = w + (left > 0 ? output : 0);
        __m512i sizes = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
        for (std::int64_t k = 0; k < inputs; ++k) sizes = larger_sizes(sizes, some16(from + k * outputs, left));
        // Sizes of numbers, and of none: the larger one of two whole numbers is that of the larger number.
        const __m512 least = _mm512_set1_ps(1e-30f);
        const __m512 largest = _mm512_castsi512_ps(_mm512_max_epi32(sizes, _mm512_castps_si512(least)));
        const __m512 levels = _mm512_set1_ps(static_cast<float>(kVnniLevels)), by = _mm512_div_ps(levels, largest);
        for (std::int64_t k = 0; k < to.depth; k += 4) {
            __m512i four = _mm512_setzero_si512();
            for (int part = 0; part < 4 && k + part < inputs; ++part) {
                const __m512i v = rounded16(some16(from + (k + part) * outputs, left), by);
                sum = _mm512_add_epi32(sum, v);
                const __m512i byte = _mm512_and_si512(v, _mm512_set1_epi32(0xff));
                four = _mm512_or_si512(four, _mm512_sllv_epi32(byte, _mm512_set1_epi32(8 * part)));
            }
            _mm512_storeu_si512(packed + k * kBlock + 64 * half, four);
        }
        _mm512_storeu_ps(to.scale + output, _mm512_div_ps(largest, levels));
        _mm512_storeu_si512(to.offset + output, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-kVnniLevels)));
    }
}

// Some rows by one thread.
template <typename Number>
void some_rows(const Number* x, std::int64_t inputs, Product<Number> product) {
    static thread_local std::vector<std::uint8_t> rounded;
    static thread_local std::vector<float> scale;
    // Tiles reach up to a whole number of them behind the last row.
    rounded.resize(static_cast<std::size_t>((product.rows + 2 * kTileRows) * product.depth));
    scale.resize(static_cast<std::size_t>(product.rows));
    const bool in_tiles = takes_tiles(product.rows, product.depth);
    for (std::int64_t row = 0; row < product.rows; ++row)
        round_row(x + row * inputs, inputs, product.depth, place_of_row(rounded.data(), row, product.depth, in_tiles),
                  step_of_row(in_tiles), scale.data() + row);
    product.rounded = rounded.data();
    product.row_scale = scale.data();
    const std::int64_t blocks = (product.outputs + kBlock - 1) / kBlock;
    in_tiles ? blocks_amx(product, 0, blocks) : blocks_vnni(product, 0, blocks);
}

}  // namespace

extern "C" {

// w (outputs, inputs), or `turned`, (inputs, outputs), rounded and packed for `trasluz_int8_rows`. Only with VNNI.
void trasluz_int8_pack(const float* w, std::int64_t outputs, std::int64_t inputs, std::int64_t depth, int turned,
                       std::int8_t* weight, std::int32_t* offset, float* scale, int threads) {
    const Packed to{depth, weight, offset, scale};
    const std::int64_t blocks = (outputs + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::int64_t block = 0; block < blocks; ++block)
        turned ? pack_columns(w, outputs, inputs, block, to) : pack_rows(w, outputs, inputs, block, to);
}

// x (rows, inputs) and y (rows, outputs) are floats, or bfloat16.
void trasluz_int8_rows(const void* x, std::int64_t rows, std::int64_t inputs, std::int64_t depth,
                       const std::int8_t* weight, const std::int32_t* offset, const float* weight_scale,
                       const float* bias, std::int64_t outputs, void* y, int is_bfloat, int threads) {
    std::int64_t parts = (rows * depth + kBytesAtOnce - 1) / kBytesAtOnce;
    // As much for one thread as for another, where all have enough.
    parts = std::min((parts + threads - 1) / threads * threads, (rows + kRowsAtOnce - 1) / kRowsAtOnce);
    const std::int64_t some = ((rows + parts - 1) / parts + 2 * kTileRows - 1) / (2 * kTileRows) * (2 * kTileRows);
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
#pragma omp parallel for schedule(static) num_threads(threads)
        for (std::int64_t begin = 0; begin < rows; begin += some)
            some_rows<Number>(IN(x) + begin * inputs, inputs,
                              {nullptr, nullptr, std::min(some, rows - begin), depth, weight, offset, weight_scale,
                               bias, outputs, OUT(y) + begin * outputs});
    });
}
}
