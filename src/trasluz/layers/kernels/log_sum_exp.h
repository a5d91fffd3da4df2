// The logarithm of the sum of exponentials of a row, for each width.

static float log_sum_exp(const float* logits, std::int64_t size) {
    constexpr std::int64_t kAtOnce = 4 * kLanes;
    Vec most[4];
    for (Vec& one : most) one = spread(kLowest);
    std::int64_t v = 0;
    for (; v + kAtOnce <= size; v += kAtOnce)
        for (int i = 0; i < 4; ++i) most[i] = greater(most[i], load(logits + v + i * kLanes));
    float away = largest(greater(greater(most[0], most[1]), greater(most[2], most[3])));
    for (; v < size; ++v) away = std::max(away, logits[v]);
    if (away == -kLowest) {
        // Beside it nothing counts but what is no number, which the search for the largest may have passed over.
        const float* const none = std::find_if(logits, logits + size, [](float x) { return std::isnan(x); });
        return none == logits + size ? away : *none;
    }
    if (!(away > kLowest)) return away;
    // Sums of 512, added up in double, so that a large vocabulary loses no digits.
    double sum = 0.0;
    for (v = 0; v + kAtOnce <= size;) {
        Vec some = {};
        for (const std::int64_t end = std::min(v + 512, size); v + kAtOnce <= end; v += kAtOnce) {
            Vec x[4];
            for (int i = 0; i < 4; ++i)
                x[i] = greater(spread(-126.0f), (load(logits + v + i * kLanes) - away) * kLog2OfE);
            powers_of_two<4>(x);
            some += (x[0] + x[1]) + (x[2] + x[3]);
        }
        sum += total(some);
    }
    for (; v < size; ++v) sum += std::exp(static_cast<double>(logits[v] - away));
    return away + static_cast<float>(std::log(sum));
}
