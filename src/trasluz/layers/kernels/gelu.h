// The body of gelu.cpp, for each width.

// log2(Q(z)) = sum of kPower[i] z^i, fitted by least squares with weights that make the greatest error of z Q(z), 4e-8,
// as small as can be.
constexpr float kPower[] = {-0.999998868f,   -1.15112329f,     -0.459115446f,   -0.0527141988f, 0.0073333839f,
                            -0.000323342043f, -0.000114462695f, 2.50833091e-05f, -1.69040175e-06f};

// So many vectors side by side: a processor that waits for the one goes on with the others.
template <int Vectors, typename Number>
static inline void gelu(Number* x, const Number* bias) {
    Vec y[Vectors], z[Vectors], power[Vectors];
    for (int v = 0; v < Vectors; ++v) y[v] = load(x + v * kLanes) + load(bias + v * kLanes);
    // NaN stays what it is.
    for (int v = 0; v < Vectors; ++v) z[v] = lesser(spread(6.0f), greater(y[v], -y[v]));
    for (int v = 0; v < Vectors; ++v) power[v] = spread(kPower[8]);
    for (int i = 7; i >= 0; --i)
        for (int v = 0; v < Vectors; ++v) power[v] = power[v] * z[v] + kPower[i];
    powers_of_two<Vectors>(power);
    for (int v = 0; v < Vectors; ++v) store(greater(Vec{}, y[v]) - z[v] * power[v], x + v * kLanes);
}

template <typename Number>
static void gelu_row(Number* x, const Number* bias, std::int64_t dim) {
    std::int64_t d = 0;
    for (; d + 4 * kLanes <= dim; d += 4 * kLanes) gelu<4>(x + d, bias + d);
    for (; d < dim; d += kLanes) gelu<1>(x + d, bias + d);
}
