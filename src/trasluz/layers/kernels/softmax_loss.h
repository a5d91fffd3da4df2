// The body of softmax_loss.cpp, for each width.

// One row of logits; `room` is for a row of floats, whole vectors.
template <typename Number>
static void loss_of_row(Number* logits, std::int64_t vocab, const float* bias, std::int64_t target, float smoothing,
                        bool wants_gradient, float* room, double* nll, double* uniform) {
    const std::int64_t whole = vocab / kLanes * kLanes, rest = vocab - whole;
    Vec top = spread(kHidden), sum = {};
    for (std::int64_t v = 0; v < whole; v += kLanes) {
        Vec x = load(logits + v);
        if (bias) x += load(bias + v);
        store(x, room + v);
        top = greater(top, x);
        sum += x;
    }
    if (rest) {
        Vec x = load_some(logits + whole, rest);
        if (bias) x += load_some(bias + whole, rest);
        sum += x;
        const Bits there = (Bits)(kCounting < static_cast<std::uint32_t>(rest));
        x = (Vec)(((Bits)x & there) | ((Bits)spread(kHidden) & ~there));
        store(x, room + whole);
        top = greater(top, x);
    }
    const float highest = largest(top), of_target = room[target];
    // Below the lowest a share is as good as zero; NaN stays what it is.
    const Vec lowest = spread(-126.0f), high = spread(highest), by = spread(kLog2OfE);
    Vec total_of = {};
    const std::int64_t vectors = (vocab + kLanes - 1) / kLanes;
    const auto some = [&](auto count, std::int64_t n) {
        constexpr int kCount = decltype(count)::value;
        Vec power[kCount];
        for (int v = 0; v < kCount; ++v) power[v] = greater(lowest, (load(room + (n + v) * kLanes) - high) * by);
        powers_of_two<kCount>(power);
        for (int v = 0; v < kCount; ++v) store(power[v], room + (n + v) * kLanes), total_of += power[v];
    };
    std::int64_t n = 0;
    for (; n + 4 <= vectors; n += 4) some(std::integral_constant<int, 4>{}, n);
    for (; n < vectors; ++n) some(std::integral_constant<int, 1>{}, n);
    const float all = total(total_of);
    const double normalizer = std::log(static_cast<double>(all)) + highest;
    *nll = normalizer - of_target;
    *uniform = normalizer - static_cast<double>(total(sum)) / static_cast<double>(vocab);
    if (!wants_gradient) return;
    room[target] -= (1.0f - smoothing) * all;
    const Vec share = spread(1.0f / all), spreading = spread(smoothing / static_cast<float>(vocab));
    for (std::int64_t v = 0; v < whole; v += kLanes) store(load(room + v) * share - spreading, logits + v);
    if (rest) store_some(load(room + whole) * share - spreading, logits + whole, rest);
}
