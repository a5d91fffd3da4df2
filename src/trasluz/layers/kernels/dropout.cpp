// Dropout (Srivastava et al. 2014), and the sum with what it is beside: y = beside + dropout(x).
//
// What is dropped follows from the seed and the place (random.h), so that a gradient is dropped out by the same call.

#include <cstdint>

#define EACH_WIDTH "dropout.h"
#include "each_width.h"

namespace {

constexpr std::int64_t kPart = 1 << 14;

template <typename Number>
void all_parts(const Number* x, std::int64_t count, std::uint64_t seed, std::uint32_t dropped, float scale,
               const Number* beside, Number* y, int threads) {
    const auto one = has_sixteen() ? sixteen::drop_out<Number> : eight::drop_out<Number>;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && count > kPart)
    for (std::int64_t begin = 0; begin < count; begin += kPart)
        one(x, begin, std::min(begin + kPart, count), seed, dropped, scale, beside, y);
}

}  // namespace

// Floats or bfloat16; `beside` may be null.
extern "C" void trasluz_dropout(const void* x, std::int64_t count, std::uint64_t seed, std::uint32_t dropped,
                                float scale, const void* beside, int is_bfloat, void* y, int threads) {
    const auto as = [&](auto number) {
        using Number = decltype(number);
        all_parts(static_cast<const Number*>(x), count, seed, dropped, scale, static_cast<const Number*>(beside),
                  static_cast<Number*>(y), threads);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}
