// The body of additive_attention.cpp, for each width: one row of each. Keys and values are gone through as they lie in
// memory, from which they must come at every step; sums stand in `room`, whole vectors of floats.

// The hidden layer of one query and one key, so many numbers of it.
template <typename Number>
static inline Vec hidden_layer(const Number* query, const Number* key, std::int64_t d, std::int64_t left) {
    return hyperbolic_tangent(load_left(query + d, left) + load_left(key + d, left));
}

// sum_i weight_i value_i, of values and weights that lie so far apart.
template <typename Number>
static void weighted_sum(const Number* value, std::int64_t value_step, const float* weight, std::int64_t weight_step,
                         std::int64_t count, std::int64_t dim, float* room, Number* result) {
    std::fill_n(room, dim + kLanes, 0.0f);
    for (std::int64_t i = 0; i < count; ++i, value += value_step, weight += weight_step)
        for (std::int64_t d = 0; d < dim; d += kLanes)
            store(load(room + d) + *weight * load_left(value + d, dim - d), room + d);
    for (std::int64_t d = 0; d < dim; d += kLanes) store_left(load(room + d), result + d, dim - d);
}

template <typename Number>
static void look_row(const Number* query, const Number* key, const Number* value, const float* score, const Shape& shape,
                     std::int64_t seen, float* weights, Number* context, float* room) {
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
    weighted_sum(value, shape.memory_dim, weights, 1, seen, shape.memory_dim, room, context);
}

// Adds gradient * (1 - hidden^2) to `sums`, and gradient * hidden to `of_score` where that is wanted.
template <typename Number>
static void add_slopes(float gradient, const Number* query, const Number* key, std::int64_t dim, float* sums,
                       float* of_score) {
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const Vec hidden = hidden_layer(query, key, d, dim - d);
        store(load(sums + d) + gradient * (1.0f - hidden * hidden), sums + d);
        if (of_score) store(load(of_score + d) + gradient * hidden, of_score + d);
    }
}

template <typename Number>
static void store_scaled(const float* sums, const float* score, std::int64_t dim, Number* result) {
    for (std::int64_t d = 0; d < dim; d += kLanes)
        store_left(load(sums + d) * load_left(score + d, dim - d), result + d, dim - d);
}

template <typename Number>
static void look_backward_row(const Number* given, const Number* product, const Number* query, const Number* key,
                              const Number* value, const float* score, const Shape& shape, std::int64_t seen,
                              const float* weights, Number* to_context, float* to_scores, Number* to_query,
                              float* room) {
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
    std::fill_n(room, shape.dim + kLanes, 0.0f);
    for (std::int64_t i = 0; i < seen; ++i)
        add_slopes<Number>(to_scores[i], query, key + i * shape.dim, shape.dim, room, nullptr);
    store_scaled(room, score, shape.dim, to_query);
}

// Of all steps together.
template <typename Number>
static void memory_gradients_row(const Number* queries, const Number* to_contexts, const Number* key,
                                 const float* score, const Shape& shape, std::int64_t seen, const float* weights,
                                 const float* to_scores, Number* to_key, Number* to_value, float* to_score,
                                 float* room) {
    const std::int64_t weights_step = shape.rows * shape.keys, dim = shape.dim;
    float* const of_score = room + shape.room();
    std::fill_n(of_score, dim + kLanes, 0.0f);
    for (std::int64_t i = 0; i < shape.keys; ++i) {
        const std::int64_t steps = i < seen ? shape.steps : 0;
        std::fill_n(room, dim + kLanes, 0.0f);
        for (std::int64_t t = 0; t < steps; ++t)
            add_slopes(to_scores[t * weights_step + i], queries + t * shape.rows * dim, key + i * dim, dim, room,
                       of_score);
        store_scaled(room, score, dim, to_key + i * dim);
        weighted_sum(to_contexts, shape.rows * shape.memory_dim, weights + i, weights_step, steps, shape.memory_dim,
                     room, to_value + i * shape.memory_dim);
    }
    std::copy_n(of_score, dim, to_score);
}
