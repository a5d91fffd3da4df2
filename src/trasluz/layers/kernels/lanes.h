// So many floats at a time, of whichever width `each_width.h` includes this for: numbers in and out, and exp.

static inline Vec load(const float* from) {
    Vec x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

static inline Vec load(const Bfloat* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Vec)(widened(halves) << 16);
}

static inline void store(Vec x, float* to) { std::memcpy(to, &x, sizeof x); }

// To the nearest, to the even one of two.
static inline void store(Vec x, Bfloat* to) {
    const Bits bits = (Bits)x;
    const Halves halves = narrowed((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    std::memcpy(to, &halves, sizeof halves);
}

// Fewer numbers than a vector has, and zeros behind them.
template <typename Number>
static inline Vec load_some(const Number* from, std::int64_t count) {
    Number some[kLanes] = {};
    std::memcpy(some, from, static_cast<std::size_t>(count) * sizeof(Number));
    return load(some);
}

template <typename Number>
static inline void store_some(Vec x, Number* to, std::int64_t count) {
    Number some[kLanes];
    store(x, some);
    std::memcpy(to, some, static_cast<std::size_t>(count) * sizeof(Number));
}

// A whole vector, or what is left of a row.
template <typename Number>
static inline Vec load_left(const Number* from, std::int64_t left) {
    return left >= kLanes ? load(from) : load_some(from, left);
}

template <typename Number>
static inline void store_left(Vec x, Number* to, std::int64_t left) {
    left >= kLanes ? store(x, to) : store_some(x, to, left);
}

// Two vectors shuffled like cards: the first half of what comes, and the second.
constexpr Bits kLowHalves = (kCounting >> 1) + (kCounting & 1) * kLanes, kHighHalves = kLowHalves + kLanes / 2;

// Powers of two are at hand: e^x = 2^(kLog2OfE x).
constexpr float kLog2OfE = 1.44269504f;

// 2^f = sum of kPowerOfTwo[i] f^i, |f| <= 1 / 2, fitted by least squares with weights that make the greatest relative
// error, 8e-8, as small as can be.
constexpr float kPowerOfTwo[] = {1.00000007f, 0.693146967f, 0.240221197f, 0.0555071327f, 0.00967554133f, 0.00132764718f};

// x -> 2^x, where that is a number of full precision, of so many vectors side by side.
template <int Vectors>
static inline void powers_of_two(Vec* x) {
    // Beside a number so large nothing is left of what stands behind the point: its last bits are the whole part.
    const Vec large = spread(12582912.0f);
    Vec whole[Vectors], power[Vectors];
    for (int v = 0; v < Vectors; ++v) whole[v] = x[v] + large;
    for (int v = 0; v < Vectors; ++v) x[v] -= whole[v] - large;
    for (int v = 0; v < Vectors; ++v) power[v] = spread(kPowerOfTwo[5]);
    for (int i = 4; i >= 0; --i)
        for (int v = 0; v < Vectors; ++v) power[v] = power[v] * x[v] + kPowerOfTwo[i];
    for (int v = 0; v < Vectors; ++v) x[v] = (Vec)((Bits)power[v] + ((Bits)whole[v] << 23));
}

// 1 / (1 + e^-x), to within 1e-7; NaN stays what it is.
static inline Vec sigmoid(Vec x) {
    // Log2(e): beyond these bounds the result is 0 or 1, and 2^x would leave the range of exponents.
    x = greater(spread(-126.0f), lesser(spread(126.0f), x * -kLog2OfE));
    powers_of_two<1>(&x);
    return 1.0f / (1.0f + x);
}

static inline Vec hyperbolic_tangent(Vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }
