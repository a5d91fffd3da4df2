// Scores into weights, of whichever width `each_width.h` includes this for. There is room for whole vectors.

// Vectors that hold so many numbers.
static inline std::int64_t vectors_of(std::int64_t count) { return (count + kLanes - 1) / kLanes; }

// The first so many numbers of a vector, others behind them.
static inline Vec first_of(Vec x, std::int64_t count, Vec others = Vec{}) {
    return kCounting < static_cast<std::uint32_t>(count) ? x : others;
}

// log2(e) / sqrt(head_dim): weights are powers of two.
static inline float score_scale(std::int64_t head_dim) {
    return kLog2OfE / std::sqrt(static_cast<float>(head_dim));
}

// Makes of a row of scores, as powers of two, what sums to the number that is returned, zeros behind the first `seen`;
// the greatest of them is given.
static inline float exponentials(float* scores, std::int64_t seen, std::int64_t padded, float greatest) {
    const std::int64_t vectors = vectors_of(seen);
    // Below the lowest a weight is as good as zero, and the processor would be slow with what comes of it; NaN stays
    // what it is.
    const Vec lowest = spread(-100.0f), highest = spread(greatest);
    Vec sum = {};
    const auto some = [&](auto count, std::int64_t n) {
        constexpr int kCount = decltype(count)::value;
        Vec weights[kCount];
        for (int v = 0; v < kCount; ++v) weights[v] = greater(lowest, load(scores + (n + v) * kLanes) - highest);
        powers_of_two<kCount>(weights);
        if (n + kCount == vectors) weights[kCount - 1] = first_of(weights[kCount - 1], seen - (vectors - 1) * kLanes);
        for (int v = 0; v < kCount; ++v) store(weights[v], scores + (n + v) * kLanes), sum += weights[v];
    };
    std::int64_t n = 0;
    for (; n + 3 <= vectors; n += 3) some(std::integral_constant<int, 3>{}, n);
    for (; n < vectors; ++n) some(std::integral_constant<int, 1>{}, n);
    for (n = vectors * kLanes; n < padded; n += kLanes) store(Vec{}, scores + n);
    return total(sum);
}

static inline float greatest(const float* scores, std::int64_t seen) {
    Vec top = spread(kHidden);
    std::int64_t n = 0;
    for (; n + kLanes <= seen; n += kLanes) {
        const Vec x = load(scores + n);
        top = greater(top, x);
    }
    if (n < seen) {
        const Vec x = first_of(load(scores + n), seen - n, spread(kHidden));
        top = greater(top, x);
    }
    return largest(top);
}
