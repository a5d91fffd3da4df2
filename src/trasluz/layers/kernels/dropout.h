// The body of dropout.cpp, for each width.

template <typename Number>
static void drop_out(const Number* x, std::int64_t begin, std::int64_t end, std::uint64_t seed, std::uint32_t dropped,
                     float scale, const Number* beside, Number* y) {
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
        Vec left = kept(load(x + i), seed, static_cast<std::uint64_t>(i), dropped, scale);
        if (beside) left += load(beside + i);
        store(left, y + i);
    }
    if (i == end) return;
    Vec left = kept(load_some(x + i, end - i), seed, static_cast<std::uint64_t>(i), dropped, scale);
    if (beside) left += load_some(beside + i, end - i);
    store_some(left, y + i, end - i);
}
