// Softmax, cross-entropy and its gradient, in one pass a row while the row is in the cache:
//
//     nll      = log(sum_v exp(x_v)) - x_target            x = logits + bias
//     uniform  = log(sum_v exp(x_v)) - mean_v x_v
//     gradient of (1 - e) nll + e uniform  =  softmax(x) - (1 - e) [v = target] - e / vocab

#include <cstdint>

namespace {

constexpr std::int64_t kWorthThreads = 1 << 14;

}  // namespace

#define EACH_WIDTH "softmax_loss.h"
#include "each_width.h"

namespace {

template <typename Number>
void loss_of_rows(Number* logits, std::int64_t rows, std::int64_t vocab, const float* bias,
                  const std::int64_t* targets, float smoothing, bool wants_gradient, double* nll, double* uniform,
                  int threads) {
    const auto one = has_sixteen() ? sixteen::loss_of_row<Number> : eight::loss_of_row<Number>;
    const bool many = threads > 1 && rows > 1 && rows * vocab > kWorthThreads;
#pragma omp parallel for schedule(static) num_threads(threads) if (many)
    for (std::int64_t row = 0; row < rows; ++row) {
        static thread_local std::vector<float> room;
        room.resize(static_cast<std::size_t>(vocab + sixteen::kLanes));
        one(logits + row * vocab, vocab, bias, targets[row], smoothing, wants_gradient, room.data(), nll + row,
            uniform + row);
    }
}

}  // namespace

// logits: (rows, vocab), floats or bfloat16, in whose place the gradient is put where it is wanted; `nll` and `uniform`
// are of each row.
extern "C" void trasluz_softmax_loss(void* logits, std::int64_t rows, std::int64_t vocab, const float* bias,
                                     const std::int64_t* targets, float smoothing, int wants_gradient, double* nll,
                                     double* uniform, int is_bfloat, int threads) {
    if (is_bfloat)
        loss_of_rows(static_cast<Bfloat*>(logits), rows, vocab, bias, targets, smoothing, wants_gradient, nll, uniform,
                     threads);
    else
        loss_of_rows(static_cast<float*>(logits), rows, vocab, bias, targets, smoothing, wants_gradient, nll, uniform,
                     threads);
}
