// The body of text_attention.cpp, for each width.

#include "softmax.h"

// Rows at a time, and the vectors of columns that they meet: as many as there are registers for their products.
constexpr int kRows = kLanes == 16 ? 8 : 4;
constexpr int kColumns = 3;

// c = scale a b, of some rows and vectors of columns; rows lie `a_step`, `b_step`, `c_step` numbers apart. Turned, a
// row of `a` is a column of what is given. What adds, adds that to what is there.
template <int Rows, int Columns, bool Turned, bool Adds, typename Number>
static inline void tile(const float* a, std::int64_t a_step, const float* b, std::int64_t b_step, std::int64_t depth,
                        float scale, Number* c, std::int64_t c_step) {
    Vec sum[Rows][Columns];
    // Unrolled early, so that the sums stand in registers from the first on.
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < Columns; ++n) sum[r][n] = Vec{};
    for (std::int64_t k = 0; k < depth; ++k, b += b_step) {
        Vec right[Columns];
        for (int n = 0; n < Columns; ++n) right[n] = load(b + n * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const Vec left = spread(Turned ? a[k * a_step + r] : a[r * a_step + k]);
#pragma GCC unroll 8
            for (int n = 0; n < Columns; ++n) sum[r][n] += left * right[n];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < Columns; ++n) {
            Number* const to = c + r * c_step + n * kLanes;
            store(Adds ? load(to) + sum[r][n] * scale : sum[r][n] * scale, to);
        }
}

template <int Columns, bool Turned, bool Adds, int Rows = kRows, typename... Given>
static inline void tile_of(std::int64_t rows, Given... given) {
    if (rows == Rows)
        tile<Rows, Columns, Turned, Adds>(given...);
    else if constexpr (Rows > 1)
        tile_of<Columns, Turned, Adds, Rows - 1>(rows, given...);
}

// The same for at most kRows rows, and any number of vectors.
template <bool Turned, bool Adds = false, typename Number>
static void product(std::int64_t rows, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
                    std::int64_t depth, float scale, Number* c, std::int64_t c_step, std::int64_t vectors) {
    while (vectors > 0) {
        // Four are two and two.
        const std::int64_t now = vectors == 4 ? 2 : std::min<std::int64_t>(kColumns, vectors);
        if (now == 3)
            tile_of<3, Turned, Adds>(rows, a, a_step, b, b_step, depth, scale, c, c_step);
        else if (now == 2)
            tile_of<2, Turned, Adds>(rows, a, a_step, b, b_step, depth, scale, c, c_step);
        else
            tile_of<1, Turned, Adds>(rows, a, a_step, b, b_step, depth, scale, c, c_step);
        b += now * kLanes, c += now * kLanes, vectors -= now;
    }
}

// Calls f(first, rows) for at most kRows rows at a time, as equally many as can be.
template <typename Work>
static inline void in_blocks(std::int64_t count, Work f) {
    const std::int64_t blocks = (count + kRows - 1) / kRows;
    for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t first = block * count / blocks;
        f(first, (block + 1) * count / blocks - first);
    }
}

// Turns over a square of numbers: four (or three) times, rows of the upper and the lower half are shuffled like cards.
static inline void turn(Bits* rows) {
    for (int done = 1; done < kLanes; done *= 2) {
        Bits next[kLanes];
        for (int i = 0; i < kLanes / 2; ++i) {
            next[2 * i] = __builtin_shuffle(rows[i], rows[i + kLanes / 2], kLowHalves);
            next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + kLanes / 2], kHighHalves);
        }
        for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
    }
}

// Rows as floats in columns, `padded` apart; behind the last stand zeros.
template <typename Number>
static void turned(Numbers<const Number> from, std::int64_t count, std::int64_t dim, float* to, std::int64_t padded) {
    static const Number kNothing[2 * kLanes] = {};
    for (std::int64_t first = 0; first < padded; first += kLanes) {
        Bits rows[kLanes];
        const std::int64_t there = std::min<std::int64_t>(kLanes, count - first);
        const auto row = [&](int i, std::int64_t d) {
            return i < there ? from.at + (first + i) * from.step + d : kNothing;
        };
        float* out = to + first;
        std::int64_t d = 0;
        if constexpr (sizeof(Number) == 2)
            for (; d + 2 * kLanes <= dim; d += 2 * kLanes) {
                // Two numbers side by side are turned over as one.
                for (int i = 0; i < kLanes; ++i) std::memcpy(&rows[i], row(i, d), sizeof(Bits));
                turn(rows);
                for (int i = 0; i < kLanes; ++i, out += 2 * padded) {
                    store((Vec)(rows[i] << 16), out);
                    store((Vec)(rows[i] & 0xffff0000), out + padded);
                }
            }
        for (; d < dim; d += kLanes) {
            for (int i = 0; i < kLanes; ++i) rows[i] = (Bits)load(row(i, d));
            turn(rows);
            for (int i = 0; i < kLanes; ++i, out += padded) store((Vec)rows[i], out);
        }
    }
}

template <typename Number>
static inline void floats(Numbers<const Number> from, std::int64_t count, std::int64_t dim, float scale, float* to) {
    for (std::int64_t row = 0; row < count; ++row, from.at += from.step, to += dim)
        for (std::int64_t d = 0; d < dim; d += kLanes) store(load(from.at + d) * scale, to + d);
}

// Asks for what the next head has at these positions, beside this one's: in time, and while products are made.
template <typename Number>
static inline void expect(Numbers<const Number> from, std::int64_t first, std::int64_t rows, std::int64_t dim) {
    constexpr std::int64_t kLine = 64 / sizeof(Number);
    const Number* at = from.from(first).at + dim;
    for (std::int64_t row = 0; row < rows; ++row, at += from.step)
        for (std::int64_t d = 0; d < dim; d += kLine) __builtin_prefetch(at + d);
}

// The weights of some queries; `looking` and `scores` are those of the first of them.
template <typename Number>
static inline void weigh(const HeadOfText<Number>& head, std::int64_t first, std::int64_t rows, const float* looking,
                         const float* keys, float* scores, std::int64_t padded) {
    const std::int64_t vectors = vectors_of(head.seen(first + rows - 1));
    product<false>(rows, looking, head.dim, keys, padded, head.dim, 1.0f, scores, padded, vectors);
    // One step after the other for all rows: the processor need not wait for what each one finds.
    float of_row[kRows];
    for (std::int64_t row = 0; row < rows; ++row) of_row[row] = greatest(scores + row * padded, head.seen(first + row));
    for (std::int64_t row = 0; row < rows; ++row)
        of_row[row] = exponentials(scores + row * padded, head.seen(first + row), padded, of_row[row]);
    for (std::int64_t row = 0; row < rows; ++row) {
        const Vec share = spread(1.0f / of_row[row]);
        for (std::int64_t n = 0; n < head.seen(first + row); n += kLanes)
            store(load(scores + row * padded + n) * share, scores + row * padded + n);
    }
}

template <typename Number>
static void context_of_head(const HeadOfText<Number>& head, const Dropout dropout, Numbers<Number> context,
                            std::vector<float>& room) {
    const std::int64_t dim = head.dim, padded = vectors_of(head.keys) * kLanes;
    room.resize(static_cast<std::size_t>(2 * dim * padded + kRows * (dim + padded)));
    float *const keys = room.data(), *const values = keys + dim * padded;
    float *const looking = values + dim * padded, *const weights = looking + kRows * dim;
    turned(head.key, head.keys, dim, keys, padded);
    floats(head.value, head.keys, dim, 1.0f, values);
    in_blocks(head.queries, [&](std::int64_t first, std::int64_t rows) {
        floats(head.query.from(first), rows, dim, score_scale(dim), looking);
        if (!first) expect(head.key, 0, head.keys, dim), expect(head.value, 0, head.keys, dim);
        weigh(head, first, rows, looking, keys, weights, padded);
        if (dropout.dropped)
            for (std::int64_t row = 0; row < rows; ++row)
                for (std::int64_t n = 0; n < head.seen(first + row); n += kLanes) {
                    float* const x = weights + row * padded + n;
                    store(kept(load(x), dropout.seed, head.place(first + row) + n, dropout.dropped, dropout.scale), x);
                }
        expect(head.query, first, rows, dim);
        product<false>(rows, weights, padded, values, dim, head.seen(first + rows - 1), 1.0f,
                       context.from(first).at, context.step, dim / kLanes);
    });
}

// Makes of the weights of some queries those that are left by dropout, and of their gradients those of the scores.
template <typename Number>
static inline void softmax_gradients(const HeadOfText<Number>& head, std::int64_t first, std::int64_t rows,
                                     const Dropout dropout, float* weights, float* gradients, float* factors,
                                     std::int64_t padded) {
    float means[kRows];
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t begin = row * padded, seen = head.seen(first + row), place = head.place(first + row);
        Vec sum = {};
        for (std::int64_t n = 0; n < seen; n += kLanes) {
            Vec gradient = load(gradients + begin + n);
            if (dropout.dropped) {
                const Vec factor = kept(spread(1.0f), dropout.seed, place + n, dropout.dropped, dropout.scale);
                store(factor, factors + begin + n);
                store(gradient *= factor, gradients + begin + n);
            }
            sum += load(weights + begin + n) * gradient;
        }
        means[row] = total(sum);
    }
    for (std::int64_t row = 0; row < rows; ++row, weights += padded, gradients += padded, factors += padded) {
        const Vec mean = spread(means[row]);
        std::int64_t n = 0;
        for (; n < head.seen(first + row); n += kLanes) {
            const Vec weight = load(weights + n);
            store(weight * (load(gradients + n) - mean), gradients + n);
            if (dropout.dropped) store(weight * load(factors + n), weights + n);
        }
        for (; n < padded; n += kLanes) store(Vec{}, gradients + n);
    }
}

// Queries whose weights and gradients are held at once: so many that both stay in the second cache.
static inline std::int64_t queries_together(const std::int64_t padded) {
    constexpr std::int64_t kWeights = 1 << 15;
    return std::max<std::int64_t>(kRows, kWeights / std::max<std::int64_t>(padded, 1));
}

template <typename Number>
static void gradients_of_head(const HeadOfText<Number>& head, const Dropout dropout, Numbers<const Number> gradient,
                              const Gradients<Number>& wanted, std::vector<float>& room) {
    const std::int64_t dim = head.dim, parts = dim / kLanes, padded = vectors_of(head.keys) * kLanes;
    const std::int64_t together = std::min(head.queries, queries_together(padded));
    // Of a long text, what the keys and values get is summed up over the queries here: zeros where there are none.
    const bool sums = together < head.queries || !head.queries;
    room.resize(static_cast<std::size_t>((3 * padded + 2 * together + 2 * padded * sums) * dim +
                                         (2 * together + kRows) * padded));
    float *const keys = room.data(), *const turned_keys = keys + dim * padded;
    float *const turned_values = turned_keys + dim * padded, *const looking = turned_values + dim * padded;
    float *const given = looking + dim * together, *const weights = given + dim * together;
    float *const gradients = weights + padded * together, *const factors = gradients + padded * together;
    float *const key_sums = factors + padded * kRows, *const value_sums = key_sums + dim * padded;
    if (sums) std::fill_n(key_sums, 2 * dim * padded, 0.0f);
    floats(head.key, head.keys, dim, 1.0f, keys);
    turned(head.key, head.keys, dim, turned_keys, padded);
    turned(head.value, head.keys, dim, turned_values, padded);
    // log(2): the queries were scaled for powers of two.
    const float of_keys = 0.693147181f, of_queries = 1.0f / std::sqrt(static_cast<float>(dim));
    for (std::int64_t begin = 0; begin < head.queries; begin += together) {
        const std::int64_t end = std::min(head.queries, begin + together);
        floats(head.query.from(begin), end - begin, dim, score_scale(dim), looking);
        floats(gradient.from(begin), end - begin, dim, 1.0f, given);
        in_blocks(end - begin, [&](std::int64_t nth, std::int64_t rows) {
            float *const mine = weights + nth * padded, *const my_gradients = gradients + nth * padded;
            const std::int64_t first = begin + nth, seen = head.seen(first + rows - 1);
            expect(head.query, first, rows, dim);
            weigh(head, first, rows, looking + nth * dim, turned_keys, mine, padded);
            product<false>(rows, given + nth * dim, dim, turned_values, padded, dim, 1.0f, my_gradients, padded,
                           vectors_of(seen));
            expect(gradient, first, rows, dim);
            softmax_gradients(head, first, rows, dropout, mine, my_gradients, factors, padded);
            product<false>(rows, my_gradients, padded, keys, dim, seen, of_queries, wanted.query.from(first).at,
                           wanted.query.step, parts);
        });
        in_blocks(head.keys, [&](std::int64_t first, std::int64_t rows) {
            const std::int64_t query = std::max(begin, head.first_looking_at(first)) - begin;
            const std::int64_t depth = std::max<std::int64_t>(0, end - begin - query);
            const float *const left = weights + query * padded + first, *const right = given + query * dim;
            const float *const left_too = gradients + query * padded + first, *const right_too = looking + query * dim;
            if (sums) {
                product<true, true>(rows, left, padded, right, dim, depth, 1.0f, value_sums + first * dim, dim, parts);
                product<true, true>(rows, left_too, padded, right_too, dim, depth, of_keys, key_sums + first * dim, dim,
                                    parts);
                return;
            }
            expect(head.key, first, rows, dim);
            product<true>(rows, left, padded, right, dim, depth, 1.0f, wanted.value.from(first).at, wanted.value.step,
                          parts);
            expect(head.value, first, rows, dim);
            product<true>(rows, left_too, padded, right_too, dim, depth, of_keys, wanted.key.from(first).at,
                          wanted.key.step, parts);
        });
    }
    if (!sums) return;
    for (std::int64_t row = 0; row < head.keys; ++row)
        for (std::int64_t d = 0; d < dim; d += kLanes) {
            store(load(key_sums + row * dim + d), wanted.key.from(row, d).at);
            store(load(value_sums + row * dim + d), wanted.value.from(row, d).at);
        }
}
