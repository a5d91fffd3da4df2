// What a recurrent cell does at one step beside its matrix products, and the way back, for many rows at once. The cells
// are those of recurrent.py and recurrent_kernels.py; x is what was projected of input and context, g the gradient of s'.
//
//     gated recurrent unit     z, r = sigmoid(x_z + U_z s), sigmoid(x_r + U_r s);   n = tanh(x_n + U (r * s))
//                              s' = s + z * (n - s)
//         of x_n = g z (1 - n^2);   q = U^T (of x_n);   of x_z = g (n - s) z (1 - z);   of x_r = q s r (1 - r)
//         of s = g (1 - z) + q r + what goes through z and r
//
//     torch's                  r, z = sigmoid(x_r + c_r), sigmoid(x_z + c_z);   n = tanh(x_n + r * c_n);   c = W s + b
//                              s' = n + z * (s - n)
//         of x_n = g (1 - z) (1 - n^2);   of c_n = r (of x_n);   of x_r = c_n r (1 - r) (of x_n)
//         of x_z = g (s - n) z (1 - z);   of s = g z + what goes through c
//
//     long short-term memory   i, f, o = sigmoid(x + U s);   n = tanh(x_n + U_n s);   c' = f c + i n;   s' = o tanh(c')
//         of c' = what flows back + g o (1 - tanh(c')^2)
//
// States and what is remembered are floats, and numbers that products are made of, or that come of them, are floats or
// bfloat16. What flows back is `flowing` and a product together; `given` is the gradient of what the step showed.

#include <cstdint>

#define EACH_WIDTH "recurrent_cells.h"
#include "each_width.h"
#include "number_types.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 13;

template <typename Row>
void each_row(std::int64_t rows, std::int64_t dim, int threads, Row row_of) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && rows * dim > kWorthThreads)
    for (std::int64_t row = 0; row < rows; ++row) row_of(row);
}

}  // namespace

// All are (rows, so many dims) without gaps, but for what has a step from one row to the next beside it.
extern "C" void trasluz_gru_gates(const void* projected, std::int64_t step, const void* from_context,
                                  const void* from_state, const float* state, std::int64_t rows, std::int64_t dim,
                                  float* saved, void* reset_state, int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(gru_gates_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(projected) + r * step, IN(from_context) + r * 3 * dim, IN(from_state) + r * 2 * dim, state + r * dim,
                dim, saved + r * 3 * dim, OUT(reset_state) + r * dim);
        });
    });
}

extern "C" void trasluz_gru_proposal(const void* projected, std::int64_t step, const void* from_context,
                                     const void* from_reset, const float* state, std::int64_t rows, std::int64_t dim,
                                     float* saved, float* next, void* shown, int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(gru_proposal_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(projected) + r * step, IN(from_context) + r * 3 * dim, IN(from_reset) + r * dim, state + r * dim, dim,
                saved + r * 3 * dim, next + r * dim, OUT(shown) + r * dim);
        });
    });
}

extern "C" void trasluz_gru_proposal_backward(const void* given, std::int64_t step, const void* product,
                                              const float* saved, std::int64_t rows, std::int64_t dim, float* flowing,
                                              void* to_projected, int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(gru_proposal_backward_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(given) + r * step, IN(product) + r * dim, saved + r * 3 * dim, dim, flowing + r * dim,
                OUT(to_projected) + r * 3 * dim);
        });
    });
}

extern "C" void trasluz_gru_gates_backward(const void* of_reset, const float* saved, const float* state,
                                           std::int64_t rows, std::int64_t dim, float* flowing, void* to_projected,
                                           int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(gru_gates_backward_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(of_reset) + r * dim, saved + r * 3 * dim, state + r * dim, dim, flowing + r * dim,
                OUT(to_projected) + r * 3 * dim);
        });
    });
}

extern "C" void trasluz_lstm(const void* projected, std::int64_t step, const void* from_context, const void* from_state,
                             const float* cell, std::int64_t rows, std::int64_t dim, float* saved, float* next_cell,
                             void* shown, int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(lstm_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(projected) + r * step, IN(from_context) + r * 4 * dim, IN(from_state) + r * 4 * dim, cell + r * dim,
                dim, saved + r * 5 * dim, next_cell + r * dim, OUT(shown) + r * dim);
        });
    });
}

extern "C" void trasluz_lstm_backward(const void* given, std::int64_t step, const void* product, const float* saved,
                                      const float* cell, std::int64_t rows, std::int64_t dim, float* flowing_cell,
                                      void* to_projected, int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(lstm_backward_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(given) + r * step, IN(product) + r * dim, saved + r * 5 * dim, cell + r * dim, dim,
                flowing_cell + r * dim, OUT(to_projected) + r * 4 * dim);
        });
    });
}

// A row is real at positions below its length.
extern "C" void trasluz_torch_gru(const void* projected, std::int64_t step, const void* from_state, const float* bias,
                                  const float* state, const std::int64_t* lengths, std::int64_t position,
                                  std::int64_t rows, std::int64_t dim, float* saved, float* next, void* shown,
                                  void* output, std::int64_t output_step, int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(torch_gru_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(projected) + r * step, IN(from_state) + r * 3 * dim, bias, state + r * dim, position < lengths[r],
                dim, saved + r * 4 * dim, next + r * dim, OUT(shown) + r * dim, OUT(output) + r * output_step);
        });
    });
}

extern "C" void trasluz_torch_gru_backward(const void* given, std::int64_t step, const void* product,
                                           const float* saved, const float* state, const std::int64_t* lengths,
                                           std::int64_t position, std::int64_t rows, std::int64_t dim, float* flowing,
                                           void* to_projected, std::int64_t to_projected_step, void* to_product,
                                           int is_bfloat, int threads) {
    of_type(is_bfloat, [&](auto number) {
        using Number = decltype(number);
        const auto one = OF_WIDTH(torch_gru_backward_row);
        each_row(rows, dim, threads, [&](std::int64_t r) {
            one(IN(given) + r * step, IN(product) + r * dim, saved + r * 4 * dim, state + r * dim,
                position < lengths[r], dim, flowing + r * dim, OUT(to_projected) + r * to_projected_step,
                OUT(to_product) + r * 3 * dim);
        });
    });
}
