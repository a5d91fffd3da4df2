// The body of additive_attention.cpp, for each width: one row of each.

// The hidden layer of one query and one key, so many numbers of it.
template <typename Number>
static inline Vec hidden_layer(const Number* query, const Number* key, std::int64_t d, std::int64_t left) {
    return hyperbolic_tangent(load_left(query + d, left) + load_left(key + d, left));
}

// sum_i weight_i value_i, of values and weights that lie so far apart.
template <int Vectors, typename Number>
static inline void add_up(const Number* value, std::int64_t value_step, const float* weight, std::int64_t weight_step,
                          std::int64_t count, std::int64_t left, Number* result) {
    Vec sum[Vectors] = {};
    for (std::int64_t i = 0; i < count; ++i)
        for (int v = 0; v < Vectors; ++v)
            sum[v] += weight[i * weight_step] * load_left(value + i * value_step + v * kLanes, left - v * kLanes);
    for (int v = 0; v < Vectors; ++v) store_left(sum[v], result + v * kLanes, left - v * kLanes);
}

template <typename Number>
static void weighted_sum(const Number* value, std::int64_t value_step, const float* weight, std::int64_t weight_step,
                         std::int64_t count, std::int64_t dim, Number* result) {
    std::int64_t d = 0;
    for (; d + 4 * kLanes <= dim; d += 4 * kLanes)
        add_up<4>(value + d, value_step, weight, weight_step, count, 4 * kLanes, result + d);
    for (; d < dim; d += kLanes) add_up<1>(value + d, value_step, weight, weight_step, count, dim - d, result + d);
}

template <typename Number>
static void look_row(const Number* query, const Number* key, const Number* value, const float* score, const Shape& shape,
                     std::int64_t seen, float* weights, Number* context) {
    float highest = kHidden;
    for (std::int64_t i = 0; i < seen; ++i) {
        Vec sum = {};
        for (std::int64_t d = 0; d < shape.dim; d += kLanes) {
            const std::int64_t left = shape.dim - d;
            sum += load_left(score + d, left) * hidden_layer(query, key + i * shape.dim, d, left);
        }
        weights[i] = total(sum);
        highest = std::max(highest, weights[i]);
    }
    float all = 0.0f;
    for (std::int64_t i = 0; i < seen; ++i) all += weights[i] = std::exp(weights[i] - highest);
    for (std::int64_t i = 0; i < seen; ++i) weights[i] /= all;
    std::fill(weights + seen, weights + shape.keys, 0.0f);
    weighted_sum(value, shape.memory_dim, weights, 1, seen, shape.memory_dim, context);
}

template <typename Number>
static void look_backward_row(const Number* given, const Number* product, const Number* query, const Number* key,
                              const Number* value, const float* score, const Shape& shape, std::int64_t seen,
                              const float* weights, Number* to_context, float* to_scores, Number* to_query) {
    for (std::int64_t d = 0; d < shape.memory_dim; d += kLanes) {
        const std::int64_t left = shape.memory_dim - d;
        store_left(load_left(given + d, left) + load_left(product + d, left), to_context + d, left);
    }
    float mean = 0.0f;
    for (std::int64_t i = 0; i < seen; ++i) {
        Vec sum = {};
        for (std::int64_t d = 0; d < shape.memory_dim; d += kLanes) {
            const std::int64_t left = shape.memory_dim - d;
            sum += load_left(to_context + d, left) * load_left(value + i * shape.memory_dim + d, left);
        }
        to_scores[i] = total(sum);
        mean += weights[i] * to_scores[i];
    }
    for (std::int64_t i = 0; i < seen; ++i) to_scores[i] = weights[i] * (to_scores[i] - mean);
    std::fill(to_scores + seen, to_scores + shape.keys, 0.0f);
    for (std::int64_t d = 0; d < shape.dim; d += kLanes) {
        const std::int64_t left = shape.dim - d;
        Vec sum = {};
        for (std::int64_t i = 0; i < seen; ++i) {
            const Vec hidden = hidden_layer(query, key + i * shape.dim, d, left);
            sum += to_scores[i] * (1.0f - hidden * hidden);
        }
        store_left(sum * load_left(score + d, left), to_query + d, left);
    }
}

// Of all steps together.
template <typename Number>
static void memory_gradients_row(const Number* queries, const Number* to_contexts, const Number* key,
                                 const float* score, const Shape& shape, std::int64_t seen, const float* weights,
                                 const float* to_scores, Number* to_key, Number* to_value, float* to_score) {
    const std::int64_t weights_step = shape.rows * shape.keys;
    for (std::int64_t d = 0; d < shape.dim; d += kLanes) {
        const std::int64_t left = shape.dim - d;
        Vec of_score = {};
        for (std::int64_t i = 0; i < shape.keys; ++i) {
            Vec sum = {};
            for (std::int64_t t = 0; i < seen && t < shape.steps; ++t) {
                const float gradient = to_scores[t * weights_step + i];
                const Vec hidden = hidden_layer(queries + t * shape.rows * shape.dim, key + i * shape.dim, d, left);
                of_score += gradient * hidden;
                sum += gradient * (1.0f - hidden * hidden);
            }
            store_left(sum * load_left(score + d, left), to_key + i * shape.dim + d, left);
        }
        store_left(of_score, to_score + d, left);
    }
    for (std::int64_t i = 0; i < shape.keys; ++i)
        weighted_sum(to_contexts, shape.rows * shape.memory_dim, weights + i, weights_step, i < seen ? shape.steps : 0,
                     shape.memory_dim, to_value + i * shape.memory_dim);
}
