// The norm of a sum, and its gradients, each in one pass a row.
//
//     s = a + dropout(b)
//     with a bias, layer norm:                 norm(s) = (s - mean) / sqrt(variance + epsilon) * weight + bias
//     without one, root mean square norm:      the same with 0 for the mean and for the bias

#include <cstdint>

namespace {

constexpr std::int64_t kWorthThreads = 1 << 16;

}  // namespace

#define EACH_WIDTH "sum_norm.h"
#include "each_width.h"

namespace {

template <typename Number, typename Weight>
void norm_rows(const Number* a, const Number* b, const Dropout& drop, std::int64_t rows, std::int64_t dim,
               const Weight* weight, const Weight* bias, float epsilon, Number* sum, float* statistics, Number* y,
               int threads) {
    const auto one = has_sixteen() && dim % sixteen::kLanes == 0 ? sixteen::norm_row<Number, Weight>
                                                                  : eight::norm_row<Number, Weight>;
    const bool many = threads > 1 && rows > 1 && rows * dim > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row) {
        static thread_local std::vector<float> sums;
        sums.resize(static_cast<std::size_t>(dim));
        const std::int64_t place = row * dim;
        one(a + place, b ? b + place : nullptr, drop, static_cast<std::uint64_t>(place), dim, weight, bias, epsilon,
            sums.data(), sum ? sum + place : nullptr, statistics ? statistics + 2 * row : nullptr, y + place);
    }
}

template <typename Number>
void norm_rows_backward(const Number* gradient, const Number* sum, const float* statistics, const Dropout& drop,
                        std::int64_t rows, std::int64_t dim, const float* weight, bool centred, float* weight_gradient,
                        float* bias_gradient, Number* sum_gradient, Number* b_gradient, int threads) {
    const auto one = has_sixteen() && dim % sixteen::kLanes == 0 ? sixteen::norm_row_backward<Number>
                                                                  : eight::norm_row_backward<Number>;
    const std::int64_t parts = (rows + kRowsTogether - 1) / kRowsTogether;
    const bool many = threads > 1 && parts > 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t part = 0; part < parts; ++part) {
        static thread_local std::vector<float> room;
        room.resize(static_cast<std::size_t>(2 * dim));
        const std::int64_t end = std::min(rows, (part + 1) * kRowsTogether);
        for (std::int64_t row = part * kRowsTogether; row < end; ++row) {
            const std::int64_t place = row * dim;
            one(gradient + place, sum + place, statistics + 2 * row, drop, static_cast<std::uint64_t>(place), dim,
                weight, centred, room.data(), weight_gradient + part * dim, bias_gradient + part * dim,
                sum_gradient + place, b_gradient ? b_gradient + place : nullptr);
        }
    }
}

}  // namespace

// Floats or bfloat16, summed in float32 either way. `weight` and `bias` are floats, or of the type of the rest.
extern "C" void trasluz_sum_norm(const void* a, const void* b, std::uint64_t seed, std::uint32_t dropped, float scale,
                                 std::int64_t rows, std::int64_t dim, const void* weight, const void* bias,
                                 float epsilon, int is_bfloat, int has_float_weight, void* sum, float* statistics,
                                 void* y, int threads) {
    const Dropout drop{seed, dropped, scale};
    const auto as = [&](auto number, auto of_weight) {
        using Number = decltype(number);
        using Weight = const decltype(of_weight);
        norm_rows(static_cast<const Number*>(a), static_cast<const Number*>(b), drop, rows, dim,
                  static_cast<Weight*>(weight), static_cast<Weight*>(bias), epsilon, static_cast<Number*>(sum),
                  statistics, static_cast<Number*>(y), threads);
    };
    if (!is_bfloat)
        as(float{}, float{});
    else if (has_float_weight)
        as(Bfloat{}, float{});
    else
        as(Bfloat{}, Bfloat{});
}

// `b_gradient` null: it is that of the sum. Without a bias `bias_gradient` stays as it is, and `centred` is 0.
extern "C" void trasluz_sum_norm_backward(const void* gradient, const void* sum, const float* statistics,
                                          std::uint64_t seed, std::uint32_t dropped, float scale, std::int64_t rows,
                                          std::int64_t dim, const float* weight, int centred, float* weight_gradient,
                                          float* bias_gradient, int is_bfloat, void* sum_gradient, void* b_gradient,
                                          int threads) {
    const Dropout drop{seed, dropped, scale};
    const auto as = [&](auto number) {
        using Number = decltype(number);
        norm_rows_backward(static_cast<const Number*>(gradient), static_cast<const Number*>(sum), statistics, drop, rows,
                           dim, weight, centred, weight_gradient, bias_gradient, static_cast<Number*>(sum_gradient),
                           static_cast<Number*>(b_gradient), threads);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}
