// Attention of one new position a row over what is remembered, which is read where it lies: nothing is copied, nothing
// is reordered when a search moves its hypotheses about.
//
//     weights[h, t] = softmax over t of q[r, h] . k[slot(r, t), m(h)] / sqrt(head_dim)
//     context[r, h] = sum_t weights[h, t] * v[slot(r, t), m(h)]
//
// A slot holds the keys (or values) of all their heads at one position. Each of them serves a group of the query's heads,
// as large as the others, those of a group side by side: m(h) = h / group. slot(r, t) stands in a table or, without one, is
// first[r] + t * step. Only the first count[r] positions are seen; a row that sees none gets zeros. Rows side by side that
// see the same positions, as a beam's do of its source, read them together; to the bit, a row gets what it would alone.
//
// What is remembered is floats or bfloat16, of which half as much is read; queries and sums are floats either way.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "shares.h"

namespace {

constexpr std::int64_t kWorthThreads = 1 << 15;  // products below which a second thread costs more than it brings
constexpr std::int64_t kRowsOfLot = 4;

template <typename Number>
struct Step {
    const float* query;  // (rows, heads, head_dim)
    std::int64_t rows, heads, head_dim;
    const Number* key;    // (slots, memory_heads, head_dim)
    const Number* value;  // (slots, memory_heads, head_dim)
    std::int64_t memory_heads;
    const std::int32_t* table;  // (rows, table_width) or null
    std::int64_t table_width;
    const std::int64_t* first;  // (rows)
    std::int64_t step;
    const std::int64_t* count;  // (rows)
    float* context;             // (rows, heads, head_dim)

    std::int64_t slot(std::int64_t row, std::int64_t t) const {
        return table ? table[row * table_width + t] : first[row] + t * step;
    }
    // Whole numbers are divided slowly, and mostly every head has its own.
    std::int64_t memory_head(std::int64_t head) const {
        return memory_heads == heads ? head : head / (heads / memory_heads);
    }
    bool sees_the_same(std::int64_t row, std::int64_t other) const {
        return !table && first[row] == first[other] && count[row] == count[other];
    }
};

}  // namespace

#define EACH_WIDTH "attention_step.h"
#include "each_width.h"

namespace {

template <typename Number>
void attend(const Step<Number>& s, std::int64_t row, std::int64_t rows, std::int64_t begin, std::int64_t end,
            float* room) {
    const bool wide = has_sixteen() && s.head_dim % sixteen::kLanes == 0;
    switch (rows) {
        case 1: return (wide ? sixteen::attend<1, Number> : eight::attend<1, Number>)(s, row, begin, end, room);
        case 2: return (wide ? sixteen::attend<2, Number> : eight::attend<2, Number>)(s, row, begin, end, room);
        case 3: return (wide ? sixteen::attend<3, Number> : eight::attend<3, Number>)(s, row, begin, end, room);
        default: return (wide ? sixteen::attend<4, Number> : eight::attend<4, Number>)(s, row, begin, end, room);
    }
}

template <typename Number>
std::int64_t longest_of(const Step<Number>& s) {
    return s.rows ? *std::max_element(s.count, s.count + s.rows) : 0;
}

// Where each lot of rows that are read together begins, and where the last ends.
template <typename Number>
std::vector<std::int64_t> lots_of(const Step<Number>& s) {
    std::vector<std::int64_t> lots;
    for (std::int64_t row = 0; row < s.rows; ++row)
        if (lots.empty() || row - lots.back() == kRowsOfLot || !s.sees_the_same(row, lots.back())) lots.push_back(row);
    lots.push_back(s.rows);
    return lots;
}

// A thread's room for the queries and scores of a lot.
template <typename Number>
float* room_for(const Step<Number>& s, std::int64_t longest) {
    static thread_local std::vector<float> room;
    const std::int64_t padded = (longest + sixteen::kLanes - 1) / sixteen::kLanes * sixteen::kLanes;
    room.resize(static_cast<std::size_t>(kRowsOfLot * s.heads * (s.head_dim + padded)));
    return room.data();
}

template <typename Number>
void attend_all(const Step<Number>& s, int threads) {
    const std::int64_t longest = longest_of(s);
    const bool many = threads > 1 && s.rows * longest * s.heads * s.head_dim > kWorthThreads;
    const std::vector<std::int64_t> lots = lots_of(s);
    const std::int64_t count = static_cast<std::int64_t>(lots.size()) - 1;
    // Where there are fewer of them than threads, threads share the heads of each.
    const std::int64_t parts = many && count < threads ? std::min<std::int64_t>(s.heads, threads) : 1;
#pragma omp parallel num_threads(threads) if (many)
    {
        float* const room = room_for(s, longest);
#pragma omp for schedule(static)
        for (std::int64_t part = 0; part < count * parts; ++part) {
            const std::int64_t lot = part / parts, number = part % parts;
            attend(s, lots[lot], lots[lot + 1] - lots[lot], number * s.heads / parts, (number + 1) * s.heads / parts,
                   room);
        }
    }
}

}  // namespace

void attention_step_heads(const float* query, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
                          const void* key, const void* value, bool is_bfloat, const std::int32_t* table,
                          std::int64_t table_width, const std::int64_t* first, std::int64_t step,
                          const std::int64_t* count, std::int64_t begin, std::int64_t end, float* context) {
    const auto of = [&](auto number) {
        using Number = const decltype(number);
        const Step<decltype(number)> s{query, rows,  heads, head_dim, static_cast<Number*>(key),
                                       static_cast<Number*>(value), heads, table, table_width, first, step, count,
                                       context};
        const std::vector<std::int64_t> lots = lots_of(s);
        float* const room = room_for(s, longest_of(s));
        for (std::size_t lot = 0; lot + 1 < lots.size(); ++lot)
            attend(s, lots[lot], lots[lot + 1] - lots[lot], begin, end, room);
    };
    if (begin < end) is_bfloat ? of(Bfloat{}) : of(float{});
}

extern "C" void trasluz_attention_step(const float* query, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
                                       const void* key, const void* value, int is_bfloat, std::int64_t memory_heads,
                                       const std::int32_t* table, std::int64_t table_width, const std::int64_t* first,
                                       std::int64_t step, const std::int64_t* count, float* context, int threads) {
    const auto of = [&](auto number) {
        using Number = const decltype(number);
        attend_all(Step<decltype(number)>{query, rows, heads, head_dim, static_cast<Number*>(key),
                                          static_cast<Number*>(value), memory_heads, table, table_width, first, step,
                                          count, context},
                   threads);
    };
    is_bfloat ? of(Bfloat{}) : of(float{});
}
