// The body of attention_step.cpp, for each width.

#include "softmax.h"

// Numbers of two vectors: those at even places, then those at odd ones, as bfloat16 is widened with the fewest steps; or
// floats as they stand. What meets them is sorted alike.
struct Pair {
    Vec first, second;
};

static inline Pair load_pair(const float* from) { return {load(from), load(from + kLanes)}; }
static inline Pair load_pair(const Bfloat* from) {
    Bits both;
    std::memcpy(&both, from, sizeof both);
    return {(Vec)(both << 16), (Vec)(both & 0xffff0000)};
}

// A row's numbers in the order in which `load_pair` brings those they meet, or back again.
static inline void sort_row(const float* from, std::int64_t size, float, float* to) {
    std::memcpy(to, from, static_cast<std::size_t>(size) * sizeof(float));
}
static inline void sort_row(const float* from, std::int64_t size, Bfloat, float* to) {
    std::int64_t d = 0;
    for (; d + 2 * kLanes <= size; d += 2 * kLanes) {
        const Vec a = load(from + d), b = load(from + d + kLanes);
        store(__builtin_shuffle(a, b, kCounting * 2), to + d);
        store(__builtin_shuffle(a, b, kCounting * 2 + 1), to + d + kLanes);
    }
    if (d < size) store(load(from + d), to + d);
}
static inline void sort_back(float*, std::int64_t, float) {}
static inline void sort_back(float* row, std::int64_t size, Bfloat) {
    for (std::int64_t d = 0; d + 2 * kLanes <= size; d += 2 * kLanes) {
        const Vec even = load(row + d), odd = load(row + d + kLanes);
        store(__builtin_shuffle(even, odd, kLowHalves), row + d);
        store(__builtin_shuffle(even, odd, kHighHalves), row + d + kLanes);
    }
}

// Makes the scores of a head, powers of two, into weights.
static inline void softmax(float* scores, std::int64_t count) {
    const std::int64_t padded = vectors_of(count) * kLanes;
    const Vec by = spread(1.0f / exponentials(scores, count, padded, greatest(scores, count)));
    for (std::int64_t t = 0; t < padded; t += kLanes) store(load(scores + t) * by, scores + t);
}

// Positions that are read side by side: as many as there are registers for.
constexpr std::int64_t kPositions = kLanes / 4;

// q . k, of some positions and rows, for the heads of one slot.
template <int Rows, int Positions, typename Number>
static inline void score(const Step<Number>& s, const float* query, const Number* const* key, std::int64_t begin,
                         std::int64_t end, float* scores, std::int64_t padded) {
    const std::int64_t size = s.heads * s.head_dim;
    const float scale = score_scale(s.head_dim);
    for (std::int64_t h = begin; h < end; ++h) {
        const std::int64_t at = s.memory_head(h) * s.head_dim;
        const float* const q = query + h * s.head_dim;
        Vec sums[Rows][4] = {};
        std::int64_t d = 0;
        for (; d + 2 * kLanes <= s.head_dim; d += 2 * kLanes)
            for (int p = 0; p < Positions; ++p) {
                const Pair k = load_pair(key[p] + at + d);
                for (int r = 0; r < Rows; ++r) {
                    sums[r][p] += k.first * load(q + r * size + d);
                    sums[r][p] += k.second * load(q + r * size + d + kLanes);
                }
            }
        if (d < s.head_dim)
            for (int p = 0; p < Positions; ++p) {
                const Vec k = load(key[p] + at + d);
                for (int r = 0; r < Rows; ++r) sums[r][p] += k * load(q + r * size + d);
            }
        for (int r = 0; r < Rows; ++r) {
            float found[4] = {};
            Positions > 1 ? totals(sums[r], found) : void(found[0] = total(sums[r][0]));
            for (int p = 0; p < Positions; ++p) scores[(r * s.heads + h) * padded + p] = found[p] * scale;
        }
    }
}

// Adds weights * v, of some positions and rows, to the contexts.
template <int Rows, int Positions, typename Number>
static inline void gather_values(const Step<Number>& s, const Number* const* value, std::int64_t begin, std::int64_t end,
                                 const float* weights, std::int64_t padded, float* context) {
    const std::int64_t size = s.heads * s.head_dim;
    for (std::int64_t h = begin; h < end; ++h) {
        const std::int64_t at = s.memory_head(h) * s.head_dim;
        float* const to = context + h * s.head_dim;
        Vec weight[Rows][Positions];
        for (int r = 0; r < Rows; ++r)
            for (int p = 0; p < Positions; ++p) weight[r][p] = spread(weights[(r * s.heads + h) * padded + p]);
        std::int64_t d = 0;
        for (; d + 2 * kLanes <= s.head_dim; d += 2 * kLanes) {
            Pair sums[Rows];
            for (int r = 0; r < Rows; ++r) sums[r] = load_pair(to + r * size + d);
            for (int p = 0; p < Positions; ++p) {
                const Pair v = load_pair(value[p] + at + d);
                for (int r = 0; r < Rows; ++r) {
                    sums[r].first += weight[r][p] * v.first;
                    sums[r].second += weight[r][p] * v.second;
                }
            }
            for (int r = 0; r < Rows; ++r) {
                store(sums[r].first, to + r * size + d);
                store(sums[r].second, to + r * size + d + kLanes);
            }
        }
        if (d < s.head_dim)
            for (int r = 0; r < Rows; ++r) {
                Vec sum = load(to + r * size + d);
                for (int p = 0; p < Positions; ++p) sum += weight[r][p] * load(value[p] + at + d);
                store(sum, to + r * size + d);
            }
    }
}

// The heads from `begin` up to `end` of rows that see the same positions; in `room` there is place for queries and scores.
template <int Rows, typename Number>
static void attend(const Step<Number>& s, std::int64_t row, std::int64_t begin, std::int64_t end, float* room) {
    const std::int64_t size = s.heads * s.head_dim, slot_size = s.memory_heads * s.head_dim, count = s.count[row];
    const std::int64_t padded = vectors_of(count) * kLanes;
    const std::int64_t first = begin * s.head_dim, some = (end - begin) * s.head_dim;
    float* const context = s.context + row * size;
    float* const query = room;
    float* const scores = room + Rows * size;
    for (int r = 0; r < Rows; ++r) {
        std::fill_n(context + r * size + first, some, 0.0f);
        for (std::int64_t h = begin; h < end; ++h)
            sort_row(s.query + (row + r) * size + h * s.head_dim, s.head_dim, Number{}, query + r * size + h * s.head_dim);
    }
    if (count <= 0) return;
    // Not where threads share the heads: each would read the others' part, too.
    const bool in_a_row = !s.table && s.step == 1 && end - begin == s.heads;
    const auto places = [&](const Number* from, std::int64_t t, std::int64_t positions, const Number** to) {
        for (std::int64_t p = 0; p < positions; ++p) to[p] = from + s.slot(row, t + p) * slot_size;
        // Read once from the beginning to the end: as several streams side by side they would come half as fast.
        constexpr std::int64_t kLine = 64 / sizeof(Number);
        for (std::int64_t d = 0; in_a_row && d < positions * slot_size; d += kLine)
            static_cast<void>(*reinterpret_cast<const volatile char*>(to[0] + d));
    };
    const Number* at[kPositions];
    std::int64_t t = 0;
    for (; t + kPositions <= count; t += kPositions) {
        places(s.key, t, kPositions, at);
        score<Rows, kPositions>(s, query, at, begin, end, scores + t, padded);
    }
    for (; t < count; ++t) {
        places(s.key, t, 1, at);
        score<Rows, 1>(s, query, at, begin, end, scores + t, padded);
    }
    for (int r = 0; r < Rows; ++r)
        for (std::int64_t h = begin; h < end; ++h) softmax(scores + (r * s.heads + h) * padded, count);
    for (t = 0; t + kPositions <= count; t += kPositions) {
        places(s.value, t, kPositions, at);
        gather_values<Rows, kPositions>(s, at, begin, end, scores + t, padded, context);
    }
    for (; t < count; ++t) {
        places(s.value, t, 1, at);
        gather_values<Rows, 1>(s, at, begin, end, scores + t, padded, context);
    }
    for (int r = 0; r < Rows; ++r)
        for (std::int64_t h = begin; h < end; ++h) sort_back(context + r * size + h * s.head_dim, s.head_dim, Number{});
}
