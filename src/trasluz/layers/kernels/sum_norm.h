// The body of sum_norm.cpp, for each width.

// a + dropout(b), of one row; `b` null: a alone.
template <typename Number>
static inline Vec summed(const Number* a, const Number* b, std::int64_t d, const Dropout& drop, std::uint64_t place) {
    const Vec x = load(a + d);
    if (!b) return x;
    const Vec y = load(b + d);
    return x + (drop.dropped ? kept(y, drop.seed, place + static_cast<std::uint64_t>(d), drop.dropped, drop.scale) : y);
}

// One row; `sums` is for a row of floats. Its mean and what its distances from it were multiplied by are written to
// `statistics`, and the rounded sum to `sum`, where those are given.
template <typename Number, typename Weight>
static void norm_row(const Number* a, const Number* b, const Dropout& drop, std::uint64_t place, std::int64_t dim,
                     const Weight* weight, const Weight* bias, float epsilon, float* sums, Number* sum,
                     float* statistics, Number* y) {
    Vec total_of = {};
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const Vec x = summed(a, b, d, drop, place);
        store(x, sums + d);
        if (sum) store(x, sum + d);
        total_of += x;
    }
    const float size = static_cast<float>(dim), mean = bias ? total(total_of) / size : 0.0f;
    const Vec middle = spread(mean);
    Vec squares = {};
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const Vec away = load(sums + d) - middle;
        squares += away * away;
    }
    const float by = 1.0f / std::sqrt(total(squares) / size + epsilon);
    if (statistics) statistics[0] = mean, statistics[1] = by;
    const Vec scale = spread(by);
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        Vec normed = (load(sums + d) - middle) * scale * load(weight + d);
        if (bias) normed += load(bias + d);
        store(normed, y + d);
    }
}

// The gradients of one row's sum, and of `b` where something was dropped out of it; those of weight and bias are added
// to `weight_gradient` and `bias_gradient`.
//
//     x = (sum - mean) / deviation, h = gradient * weight:    of the sum = (h - mean(h) - x mean(h x)) / deviation
template <typename Number>
static void norm_row_backward(const Number* gradient, const Number* sum, const float* statistics, const Dropout& drop,
                              std::uint64_t place, std::int64_t dim, const float* weight, bool centred, float* room,
                              float* weight_gradient, float* bias_gradient, Number* sum_gradient, Number* b_gradient) {
    const Vec middle = spread(statistics[0]), scale = spread(statistics[1]);
    Vec of_h = {}, of_hx = {};
    float* const normed = room + dim;
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const Vec g = load(gradient + d), x = (load(sum + d) - middle) * scale, h = g * load(weight + d);
        store(h, room + d);
        store(x, normed + d);
        of_h += h;
        of_hx += h * x;
        store(load(weight_gradient + d) + g * x, weight_gradient + d);
        if (centred) store(load(bias_gradient + d) + g, bias_gradient + d);
    }
    const float size = static_cast<float>(dim);
    const Vec mean_h = spread(centred ? total(of_h) / size : 0.0f), mean_hx = spread(total(of_hx) / size);
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const Vec s = (load(room + d) - mean_h - load(normed + d) * mean_hx) * scale;
        store(s, sum_gradient + d);
        if (b_gradient)
            store(kept(s, drop.seed, place + static_cast<std::uint64_t>(d), drop.dropped, drop.scale), b_gradient + d);
    }
}
