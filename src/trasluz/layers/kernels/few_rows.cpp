// A few rows of floats times a matrix, which is read once from where it lies: y[r, n] = x[r] . w[n] + b[n].
//
// Every product of a row is summed in the same order, however many rows there are: a row's result does not depend on the
// rows beside it, not by a bit.

#include <algorithm>
#include <cstdint>

#include "avx2.h"
#include "shares.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 16, kFloatsOfLine = 16;
// Outputs computed at a time: their rows of w share the loads of x, and are read as so many streams side by side. One row
// of x leaves room for more of them, where the prefetchers follow them all. AMD's bring one stream faster, which counts
// for up to so many rows, which wait for memory.
constexpr std::int64_t kTogether = 4, kTogetherForOne = 8, kRowsOfStream = 4;
// Threads share the outputs in whole lots.
constexpr std::int64_t kOutputsOfLot = 32;

struct Product {
    const float* x;  // (rows, inputs)
    std::int64_t rows, inputs;
    const float* w;     // (outputs, inputs)
    const float* bias;  // (outputs) or null
    std::int64_t outputs;
    float* y;  // (rows, outputs)
};

// `next` are some outputs' weights, one behind the other, to be fetched into caches meanwhile.
template <int Rows, int Outputs>
AVX2 void tile(const Product& p, std::int64_t row, std::int64_t output, const float* next = nullptr,
               std::int64_t fetched = 0) {
    const float* const x = p.x + row * p.inputs;
    const float* const w = p.w + output * p.inputs;
    __m256 sum[Rows][Outputs];
    for (int r = 0; r < Rows; ++r)
        for (int n = 0; n < Outputs; ++n) sum[r][n] = _mm256_setzero_ps();
    std::int64_t k = 0;
    for (; k + 8 <= p.inputs; k += 8) {
        __m256 from_x[Rows];
        for (int r = 0; r < Rows; ++r) from_x[r] = _mm256_loadu_ps(x + r * p.inputs + k);
        for (int n = 0; n < Outputs; ++n) {
            const __m256 from_w = _mm256_loadu_ps(w + n * p.inputs + k);
            for (int r = 0; r < Rows; ++r) sum[r][n] = _mm256_fmadd_ps(from_x[r], from_w, sum[r][n]);
        }
        if (k % kFloatsOfLine == 0)
            for (std::int64_t n = 0; n < fetched; ++n)
                _mm_prefetch(reinterpret_cast<const char*>(next + n * p.inputs + k), _MM_HINT_T0);
    }
    for (int r = 0; r < Rows; ++r)
        for (int n = 0; n < Outputs; ++n) {
            float total = sum8(sum[r][n]);
            for (std::int64_t rest = k; rest < p.inputs; ++rest)
                total += x[r * p.inputs + rest] * w[n * p.inputs + rest];
            p.y[(row + r) * p.outputs + output + n] = total + (p.bias ? p.bias[output + n] : 0.0f);
        }
}

// Each few rows fetch a part of the weights that all of them meet next: all at once would wait for memory.
template <int Outputs>
AVX2 void column(const Product& p, std::int64_t output) {
    const std::int64_t lots = (p.rows + 2) / 3, fetched = (Outputs + lots - 1) / lots;
    const float* next = p.w + (output + Outputs) * p.inputs;
    const float* const end = next + Outputs * p.inputs;
    const auto left = [&] { return next < end ? fetched : 0; };
    std::int64_t row = 0;
    for (; row + 3 <= p.rows; row += 3, next += fetched * p.inputs) tile<3, Outputs>(p, row, output, next, left());
    if (row + 2 <= p.rows) tile<2, Outputs>(p, row, output, next, left()), row += 2;
    if (row < p.rows) tile<1, Outputs>(p, row, output, next, left());
}

// An output of up to kRowsOfStream rows.
AVX2 void one_output(const Product& p, std::int64_t output) {
    switch (p.rows) {
        case 1: return tile<1, 1>(p, 0, output);
        case 2: return tile<2, 1>(p, 0, output);
        case 3: return tile<3, 1>(p, 0, output);
        default: return tile<4, 1>(p, 0, output);
    }
}

}  // namespace

void few_rows_outputs(const float* x, std::int64_t rows, std::int64_t inputs, const float* w, const float* bias,
                      std::int64_t outputs, std::int64_t begin, std::int64_t end, float* y) {
    if (rows < 1) return;
    const Product p{x, rows, inputs, w, bias, outputs, y};
    static const bool streams = __builtin_cpu_is("amd");
    const bool one_stream = streams && rows <= kRowsOfStream;
    const std::int64_t together = one_stream ? 1 : rows > 1 ? kTogether : kTogetherForOne;
    std::int64_t output = begin;
    for (; output + together <= end; output += together)
        one_stream ? one_output(p, output)
        : rows > 1 ? column<kTogether>(p, output)
                   : tile<1, kTogetherForOne>(p, 0, output);
    for (; output < end; ++output) column<1>(p, output);
}

extern "C" void trasluz_few_rows(const float* x, std::int64_t rows, std::int64_t inputs, const float* w,
                                 const float* bias, std::int64_t outputs, float* y, int threads) {
    const std::int64_t parts = threads > 1 && rows * inputs * outputs > kWorthThreads ? threads : 1;
    const std::int64_t lots = (outputs + kOutputsOfLot - 1) / kOutputsOfLot;
#pragma omp parallel for schedule(static) num_threads(threads) if (parts > 1)
    for (std::int64_t part = 0; part < parts; ++part)
        few_rows_outputs(x, rows, inputs, w, bias, outputs, part * lots / parts * kOutputsOfLot,
                         std::min(outputs, (part + 1) * lots / parts * kOutputsOfLot), y);
}
