// The body of recurrent_cells.cpp, for each width: one row of each.

template <typename Number>
static void gru_gates_row(const Number* projected, const Number* from_context, const Number* from_state,
                          const float* state, std::int64_t dim, float* saved, Number* reset_state) {
    const auto gate = [&](std::int64_t d, std::int64_t left) {
        return sigmoid(load_left(projected + d, left) + load_left(from_context + d, left) +
                       load_left(from_state + d, left));
    };
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec update = gate(d, left), reset = gate(dim + d, left);
        store_left(update, saved + d, left);
        store_left(reset, saved + dim + d, left);
        store_left(reset * load_left(state + d, left), reset_state + d, left);
    }
}

template <typename Number>
static void gru_proposal_row(const Number* projected, const Number* from_context, const Number* from_reset,
                             const float* state, std::int64_t dim, float* saved, float* next, Number* shown) {
    const std::int64_t third = 2 * dim;
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec proposal =
            hyperbolic_tangent(load_left(projected + third + d, left) + load_left(from_context + third + d, left) +
                               load_left(from_reset + d, left));
        const Vec before = load_left(state + d, left);
        const Vec after = before + load_left(saved + d, left) * (proposal - before);
        store_left(proposal, saved + third + d, left);
        store_left(after, next + d, left);
        store_left(after, shown + d, left);
    }
}

template <typename Number>
static void gru_proposal_backward_row(const Number* given, const Number* product, const float* saved, std::int64_t dim,
                                      float* flowing, Number* to_projected) {
    const std::int64_t third = 2 * dim;
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec gradient =
            load_left(flowing + d, left) + load_left(given + d, left) + load_left(product + d, left);
        const Vec update = load_left(saved + d, left), proposal = load_left(saved + third + d, left);
        store_left(gradient, flowing + d, left);
        store_left(gradient * update * (1.0f - proposal * proposal), to_projected + third + d, left);
    }
}

template <typename Number>
static void gru_gates_backward_row(const Number* of_reset, const float* saved, const float* state, std::int64_t dim,
                                   float* flowing, Number* to_projected) {
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec update = load_left(saved + d, left), reset = load_left(saved + dim + d, left);
        const Vec proposal = load_left(saved + 2 * dim + d, left), before = load_left(state + d, left);
        const Vec gradient = load_left(flowing + d, left), through = load_left(of_reset + d, left) * reset;
        store_left(gradient * (proposal - before) * update * (1.0f - update), to_projected + d, left);
        store_left(through * before * (1.0f - reset), to_projected + dim + d, left);
        store_left(gradient * (1.0f - update) + through, flowing + d, left);
    }
}

template <typename Number>
static void lstm_row(const Number* projected, const Number* from_context, const Number* from_state, const float* cell,
                     std::int64_t dim, float* saved, float* next_cell, Number* shown) {
    const auto sum = [&](std::int64_t d, std::int64_t left) {
        return load_left(projected + d, left) + load_left(from_context + d, left) + load_left(from_state + d, left);
    };
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec enter = sigmoid(sum(d, left)), forget = sigmoid(sum(dim + d, left));
        const Vec leave = sigmoid(sum(2 * dim + d, left)), proposal = hyperbolic_tangent(sum(3 * dim + d, left));
        const Vec after = forget * load_left(cell + d, left) + enter * proposal, seen = hyperbolic_tangent(after);
        store_left(enter, saved + d, left);
        store_left(forget, saved + dim + d, left);
        store_left(leave, saved + 2 * dim + d, left);
        store_left(proposal, saved + 3 * dim + d, left);
        store_left(seen, saved + 4 * dim + d, left);
        store_left(after, next_cell + d, left);
        store_left(leave * seen, shown + d, left);
    }
}

template <typename Number>
static void lstm_backward_row(const Number* given, const Number* product, const float* saved, const float* cell,
                              std::int64_t dim, float* flowing_cell, Number* to_projected) {
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec enter = load_left(saved + d, left), forget = load_left(saved + dim + d, left);
        const Vec leave = load_left(saved + 2 * dim + d, left), proposal = load_left(saved + 3 * dim + d, left);
        const Vec seen = load_left(saved + 4 * dim + d, left);
        const Vec gradient = load_left(given + d, left) + load_left(product + d, left);
        const Vec of_cell = load_left(flowing_cell + d, left) + gradient * leave * (1.0f - seen * seen);
        store_left(of_cell * proposal * enter * (1.0f - enter), to_projected + d, left);
        store_left(of_cell * load_left(cell + d, left) * forget * (1.0f - forget), to_projected + dim + d, left);
        store_left(gradient * seen * leave * (1.0f - leave), to_projected + 2 * dim + d, left);
        store_left(of_cell * enter * (1.0f - proposal * proposal), to_projected + 3 * dim + d, left);
        store_left(of_cell * forget, flowing_cell + d, left);
    }
}

// Padding leaves the state as it is, and shows zeros.
template <typename Number>
static void torch_gru_row(const Number* projected, const Number* from_state, const float* bias, const float* state,
                          bool is_real, std::int64_t dim, float* saved, float* next, Number* shown, Number* output) {
    const auto from = [&](std::int64_t d, std::int64_t left) {
        return load_left(from_state + d, left) + load_left(bias + d, left);
    };
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        const Vec before = load_left(state + d, left);
        if (!is_real) {
            store_left(before, next + d, left);
            store_left(before, shown + d, left);
            store_left(Vec{}, output + d, left);
            continue;
        }
        const Vec reset = sigmoid(load_left(projected + d, left) + from(d, left));
        const Vec keep = sigmoid(load_left(projected + dim + d, left) + from(dim + d, left));
        const Vec candidate = from(2 * dim + d, left);
        const Vec proposal = hyperbolic_tangent(load_left(projected + 2 * dim + d, left) + reset * candidate);
        const Vec after = proposal + keep * (before - proposal);
        store_left(reset, saved + d, left);
        store_left(keep, saved + dim + d, left);
        store_left(candidate, saved + 2 * dim + d, left);
        store_left(proposal, saved + 3 * dim + d, left);
        store_left(after, next + d, left);
        store_left(after, shown + d, left);
        store_left(after, output + d, left);
    }
}

template <typename Number>
static void torch_gru_backward_row(const Number* given, const Number* product, const float* saved, const float* state,
                                   bool is_real, std::int64_t dim, float* flowing, Number* to_projected,
                                   Number* to_product) {
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const std::int64_t left = dim - d;
        Vec gradient = load_left(flowing + d, left) + load_left(product + d, left);
        Vec of_reset = {}, of_keep = {}, of_proposal = {}, of_candidate = {};
        if (is_real) {
            const Vec reset = load_left(saved + d, left), keep = load_left(saved + dim + d, left);
            const Vec candidate = load_left(saved + 2 * dim + d, left), proposal = load_left(saved + 3 * dim + d, left);
            gradient += load_left(given + d, left);
            of_proposal = gradient * (1.0f - keep) * (1.0f - proposal * proposal);
            of_candidate = of_proposal * reset;
            of_reset = of_candidate * candidate * (1.0f - reset);
            of_keep = gradient * (load_left(state + d, left) - proposal) * keep * (1.0f - keep);
            gradient *= keep;
        }
        store_left(gradient, flowing + d, left);
        store_left(of_reset, to_projected + d, left);
        store_left(of_keep, to_projected + dim + d, left);
        store_left(of_proposal, to_projected + 2 * dim + d, left);
        store_left(of_reset, to_product + d, left);
        store_left(of_keep, to_product + dim + d, left);
        store_left(of_candidate, to_product + 2 * dim + d, left);
    }
}
