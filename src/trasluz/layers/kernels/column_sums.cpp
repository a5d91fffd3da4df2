// The sum of many rows: a bias's gradient.

#include <cstdint>

#define EACH_WIDTH "column_sums.h"
#include "each_width.h"

namespace {

template <typename Number>
void all_parts(const Number* x, std::int64_t rows, std::int64_t dim, float* sums, int threads) {
    const auto one = has_sixteen() ? sixteen::add_row<Number> : eight::add_row<Number>;
    const std::int64_t parts = (rows + kRowsTogether - 1) / kRowsTogether;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && parts > 1)
    for (std::int64_t part = 0; part < parts; ++part)
        for (std::int64_t row = part * kRowsTogether; row < std::min(rows, (part + 1) * kRowsTogether); ++row)
            one(x + row * dim, dim, sums + part * dim);
}

}  // namespace

// How many parts the sums over rows have, of `dim` floats each.
extern "C" std::int64_t trasluz_row_parts(std::int64_t rows) { return (rows + kRowsTogether - 1) / kRowsTogether; }

// Floats or bfloat16; added to `sums`.
extern "C" void trasluz_column_sums(const void* x, std::int64_t rows, std::int64_t dim, int is_bfloat, float* sums,
                                    int threads) {
    if (is_bfloat)
        all_parts(static_cast<const Bfloat*>(x), rows, dim, sums, threads);
    else
        all_parts(static_cast<const float*>(x), rows, dim, sums, threads);
}
