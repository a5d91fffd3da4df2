// What stands between two linear layers, and its gradient.
//
// A bias and GELU (Hendrycks and Gimpel 2016, section 2):
//
//     x + b  ->  (x + b) Phi(x + b)        y Phi(y) = max(y, 0) - |y| Q(|y|),  Q(z) = 1 - Phi(z) = erfc(z / sqrt(2)) / 2
//
// What is far from zero is one of the two parts alone, so that no digits are lost on either side.
//
// Going backward, the gradients of a row are multiplied by the slopes, and, for the bias in front, summed up over rows.

#include <cstdint>

#define EACH_WIDTH "activation.h"
#include "each_width.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 14;
template <typename Number>
void gelu_rows(const Number* x, std::int64_t rows, std::int64_t dim, const Number* bias, Number* y, int threads) {
    const auto row_of = has_sixteen() && dim % sixteen::kLanes == 0 ? sixteen::gelu_row<Number> : eight::gelu_row<Number>;
    const bool many = threads > 1 && rows > 1 && rows * dim > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row) row_of(x + row * dim, bias, dim, y + row * dim);
}

template <typename Number, typename Row>
void backward_rows(Row row_of, const Number* gradient, const Number* x, std::int64_t rows, std::int64_t dim,
                   Number* result, float* sums, int threads) {
    const std::int64_t parts = (rows + kRowsTogether - 1) / kRowsTogether;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && parts > 1)
    for (std::int64_t part = 0; part < parts; ++part)
        for (std::int64_t row = part * kRowsTogether; row < std::min(rows, (part + 1) * kRowsTogether); ++row)
            row_of(gradient + row * dim, x + row * dim, dim, result + row * dim, sums + part * dim);
}

}  // namespace

// Floats or bfloat16; dim is a multiple of eight here, `bias` may be null, and `y` be `x`.
extern "C" void trasluz_gelu(const void* x, std::int64_t rows, std::int64_t dim, const void* bias, int is_bfloat,
                             void* y, int threads) {
    const auto as = [&](auto number) {
        using Number = decltype(number);
        gelu_rows(static_cast<const Number*>(x), rows, dim, static_cast<const Number*>(bias), static_cast<Number*>(y),
                  threads);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}

// The gradient of what went into GELU, by that itself, or into ReLU, by that or by what came out; and its sums.
extern "C" void trasluz_activation_backward(const void* gradient, const void* x, std::int64_t rows, std::int64_t dim,
                                            int is_gelu, int is_bfloat, void* result, float* sums,
                                            int threads) {
    const auto as = [&](auto number) {
        using Number = decltype(number);
        const bool wide = has_sixteen() && dim % sixteen::kLanes == 0;
        const auto gelu_of = wide ? sixteen::gelu_backward_row<Number> : eight::gelu_backward_row<Number>;
        const auto relu_of = wide ? sixteen::relu_backward_row<Number> : eight::relu_backward_row<Number>;
        backward_rows(is_gelu ? gelu_of : relu_of, static_cast<const Number*>(gradient),
                      static_cast<const Number*>(x), rows, dim, static_cast<Number*>(result), sums, threads);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}
