// A bias and GELU (Hendrycks and Gimpel 2016, section 2), in place:
//
//     x + b  ->  (x + b) Phi(x + b)        y Phi(y) = max(y, 0) - |y| Q(|y|),  Q(z) = 1 - Phi(z) = erfc(z / sqrt(2)) / 2
//
// What is far from zero is one of the two parts alone, so that no digits are lost on either side.

#include <cstdint>

#define EACH_WIDTH "gelu.h"
#include "each_width.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 14;

template <typename Number>
void all_rows(Number* x, std::int64_t rows, std::int64_t dim, const Number* bias, int threads) {
    const auto row_of = has_sixteen() && dim % sixteen::kLanes == 0 ? sixteen::gelu_row<Number> : eight::gelu_row<Number>;
    const bool many = threads > 1 && rows > 1 && rows * dim > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row) row_of(x + row * dim, bias, dim);
}

}  // namespace

// Floats or bfloat16; dim is a multiple of eight here.
extern "C" void trasluz_gelu(void* x, std::int64_t rows, std::int64_t dim, const void* bias, int is_bfloat, int threads) {
    if (is_bfloat)
        all_rows(static_cast<Bfloat*>(x), rows, dim, static_cast<const Bfloat*>(bias), threads);
    else
        all_rows(static_cast<float*>(x), rows, dim, static_cast<const float*>(bias), threads);
}
