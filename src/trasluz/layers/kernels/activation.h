// The body of activation.cpp, for each width.

// log2(Q(z)) = sum of kPower[i] z^i, fitted by least squares with weights that make the greatest error of z Q(z), 4e-8,
// as small as can be.
constexpr float kPower[] = {-0.999998868f,   -1.15112329f,     -0.459115446f,   -0.0527141988f, 0.0073333839f,
                            -0.000323342043f, -0.000114462695f, 2.50833091e-05f, -1.69040175e-06f};

// z = |y|, at most 6, and Q(z), of so many vectors side by side: a processor that waits for the one goes on with the
// others.
template <int Vectors>
static inline void tails(const Vec* y, Vec* z, Vec* q) {
    // NaN stays what it is.
    for (int v = 0; v < Vectors; ++v) z[v] = lesser(spread(6.0f), greater(y[v], -y[v]));
    for (int v = 0; v < Vectors; ++v) q[v] = spread(kPower[8]);
    for (int i = 7; i >= 0; --i)
        for (int v = 0; v < Vectors; ++v) q[v] = q[v] * z[v] + kPower[i];
    powers_of_two<Vectors>(q);
}

template <int Vectors, typename Number>
static inline void gelu(const Number* x, const Number* bias, Number* result) {
    Vec y[Vectors], z[Vectors], q[Vectors];
    for (int v = 0; v < Vectors; ++v) {
        y[v] = load(x + v * kLanes);
        if (bias) y[v] += load(bias + v * kLanes);
    }
    tails<Vectors>(y, z, q);
    for (int v = 0; v < Vectors; ++v) store(greater(Vec{}, y[v]) - z[v] * q[v], result + v * kLanes);
}

template <typename Number>
static void gelu_row(const Number* x, const Number* bias, std::int64_t dim, Number* result) {
    std::int64_t d = 0;
    for (; d + 4 * kLanes <= dim; d += 4 * kLanes) gelu<4>(x + d, bias ? bias + d : bias, result + d);
    for (; d < dim; d += kLanes) gelu<1>(x + d, bias ? bias + d : bias, result + d);
}

// The derivative of y Phi(y): Phi(y) + y phi(y).
template <int Vectors, typename Number>
static inline void gelu_slope(const Number* gradient, const Number* x, Number* result, float* sums) {
    Vec y[Vectors], z[Vectors], q[Vectors], density[Vectors];
    for (int v = 0; v < Vectors; ++v) y[v] = load(x + v * kLanes);
    tails<Vectors>(y, z, q);
    // log2(e) / 2
    for (int v = 0; v < Vectors; ++v) density[v] = z[v] * z[v] * -0.72134752f;
    powers_of_two<Vectors>(density);
    for (int v = 0; v < Vectors; ++v) {
        // Below zero Q(z) is Phi(y), and above it 1 - Phi(y); the slope at -y is 1 less that at y.
        const Vec below = q[v] - z[v] * density[v] * 0.39894228f;
        const Bits negative = (Bits)(y[v] < Vec{});
        const Vec slope = (Vec)(((Bits)below & negative) | ((Bits)(1.0f - below) & ~negative));
        const Vec g = load(gradient + v * kLanes) * slope;
        store(g, result + v * kLanes);
        store(load(sums + v * kLanes) + g, sums + v * kLanes);
    }
}

template <typename Number>
static void gelu_backward_row(const Number* gradient, const Number* x, std::int64_t dim, Number* result,
                              float* sums) {
    std::int64_t d = 0;
    for (; d + 4 * kLanes <= dim; d += 4 * kLanes) gelu_slope<4>(gradient + d, x + d, result + d, sums + d);
    for (; d < dim; d += kLanes) gelu_slope<1>(gradient + d, x + d, result + d, sums + d);
}

template <typename Number>
static void relu_backward_row(const Number* gradient, const Number* x, std::int64_t dim, Number* result, float* sums) {
    for (std::int64_t d = 0; d < dim; d += kLanes) {
        const Vec g = (Vec)((Bits)(load(x + d) > Vec{}) & (Bits)load(gradient + d));
        store(g, result + d);
        store(load(sums + d) + g, sums + d);
    }
}
