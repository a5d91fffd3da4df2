// Blocks, one after the other, by what the kernels beside this one are made of: a step of a decoder's, of which to call
// every part from outside would take longer than some of the parts do, or all positions of texts through an encoder's in
// eight bits, where what lies between two products never leaves a core's own memory.
//
//     attend      W_o attention(W_q n, W_k n, W_v n)         over what is remembered and the new position, or the text
//     look        W_o attention(W_q n, memory)               over the source, where there is one
//     feed        W_2 activation(W_1 n)
//
// each on a residual path: x + f(norm(x)), norm first, or norm(x + f(x)).
//
// Matrices are of floats (few_rows.cpp) or of eight bits (int8_product.cpp).
//
// Threads share the work in one of two ways. Of many rows each takes some, and goes through all blocks with them,
// undisturbed. Of few rows they are a team: norms and rounding go by rows, products by outputs, attention by heads, and
// they meet wherever one needs what another has done, some ten times a block; so each reads its part of the weights alone.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "avx2.h"
#include "shares.h"

extern "C" {
void trasluz_sum_norm(const void*, const void*, std::uint64_t, std::uint32_t, float, std::int64_t, std::int64_t,
                      const void*, const void*, float, int, int, void*, float*, void*, int);
void trasluz_gelu(const void*, std::int64_t, std::int64_t, const void*, int, void*, int);
}

namespace {

// The same, field by field, as the structures in block_step.py.
struct Matrix {
    const void* weight;
    const std::int32_t* offset;  // null: weights are floats, and there is no scale
    const float* scale;
    const float* bias;  // or null
    std::int64_t inputs, depth, outputs;
};

struct Norm {
    const float* weight;
    const float* bias;
    float epsilon;
};

enum Activation : std::int64_t { kRelu = 0, kGeluTanh = 1, kSwish = 2, kGelu = 3 };

struct Block {
    Norm attention_norm;
    Matrix query, key, value, output;
    Norm cross_norm;
    Matrix cross_query, cross_output;
    Norm feed_forward_norm;
    Matrix expand, contract;
    std::int64_t heads, activation, norm_first;
    std::int64_t remembers_bfloat;  // what is remembered, of the past and of the source, is bfloat16, not floats
    std::int64_t past;              // which of the pasts is its own: blocks may look back more or less far
    void* keys;                     // (slots, dim)
    void* values;                   // (slots, dim)
};

// Where each row's past lies, as attention_step.cpp has it; the new position is the last of it.
struct Past {
    std::int64_t written;  // the slot of the first row's new position; those of the others follow
    const std::int32_t* table;
    std::int64_t table_width;
    const std::int64_t* first;
    std::int64_t step;
    const std::int64_t* count;
};

// What the encoder left for this block: of each row, where its source's positions begin, and how many there are.
struct Memory {
    const void* keys;    // (positions, dim)
    const void* values;  // (positions, dim)
    const std::int64_t* first;
    const std::int64_t* count;
};

// Texts among some rows: where each begins, and how many positions it has.
struct Texts {
    const std::int64_t *first, *count;
    std::int64_t number;
};

// Sizes are multiples of eight here.
AVX2 void add(const float* a, const float* b, std::int64_t size, float* y) {
    for (std::int64_t d = 0; d < size; d += 8)
        _mm256_storeu_ps(y + d, _mm256_add_ps(_mm256_loadu_ps(a + d), _mm256_loadu_ps(b + d)));
}

// x / (1 + exp(-s)), s = x for Swish; GELU in its tanh form is the same with s = sqrt(8 / pi) (x + 0.044715 x^3).
AVX2 void activate(Activation kind, std::int64_t size, float* x) {
    if (kind == kGelu) return trasluz_gelu(x, 1, size, nullptr, 0, x, 1);
    const __m256 one = _mm256_set1_ps(1.0f), by = _mm256_set1_ps(-1.5957691216057308f);
    for (std::int64_t d = 0; d < size; d += 8) {
        const __m256 v = _mm256_loadu_ps(x + d);
        __m256 y;
        if (kind == kRelu) {
            // In this order NaN stays what it is.
            y = _mm256_max_ps(_mm256_setzero_ps(), v);
        } else {
            const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(v, v), _mm256_set1_ps(0.044715f), one);
            const __m256 away = kind == kSwish ? _mm256_sub_ps(_mm256_setzero_ps(), v)
                                               : _mm256_mul_ps(_mm256_mul_ps(v, by), cubic);
            y = _mm256_div_ps(v, _mm256_add_ps(one, exp8(away)));
        }
        _mm256_storeu_ps(x + d, y);
    }
}

// Which of a team's threads this is. What is shared is shared evenly, in whole units.
struct Team {
    std::int64_t number, size;

    void meet() const {
        if (size > 1) {
#pragma omp barrier
        }
    }
    std::int64_t begin(std::int64_t count, std::int64_t unit = 1) const {
        return std::min(count, number * ((count + unit - 1) / unit) / size * unit);
    }
    std::int64_t end(std::int64_t count, std::int64_t unit = 1) const {
        return Team{number + 1, size}.begin(count, unit);
    }
};

// What lies between the parts of a block; a team has one for all.
struct Room {
    std::vector<float> floats;
    std::vector<std::uint8_t> bytes;
    float *normed, *one, *other, *result, *key, *value, *wide, *scale;
    std::uint8_t* rounded;

    void make(const Block* blocks, std::int64_t count, std::int64_t rows) {
        std::int64_t dim = 0, hidden = 0, depth = 0;
        for (const Block* b = blocks; b < blocks + count; ++b) {
            dim = std::max(dim, b->query.inputs), hidden = std::max(hidden, b->expand.outputs);
            depth = std::max({depth, b->query.depth, b->contract.depth});
        }
        const std::int64_t size = rows * dim;
        // Never smaller: what is made larger again is filled with zeros.
        floats.resize(std::max(floats.size(), static_cast<std::size_t>(6 * size + rows * hidden + rows)));
        bytes.resize(std::max(bytes.size(), static_cast<std::size_t>(bytes_of_rounded(rows, depth))));
        normed = floats.data(), one = normed + size, other = one + size, result = other + size;
        key = result + size, value = key + size, wide = value + size;
        scale = wide + rows * hidden, rounded = bytes.data();
    }
};

// Outputs of a product that one thread computes are a multiple of this: the lots and blocks of the kernels.
constexpr std::int64_t kUnit = 32;

// A thread that takes some rows, alone or in a team, through a block.
struct Walker {
    const Block& block;
    std::int64_t rows;
    const Room& room;
    const Team& team;

    std::int64_t dim() const { return block.query.inputs; }
    std::int64_t head_dim() const { return dim() / block.heads; }
    // Whole heads, and whole units.
    std::int64_t unit_of_heads() const { return std::lcm(head_dim(), kUnit); }
    // Where this thread's heads begin and end, in numbers of a row.
    std::int64_t first_of_heads() const { return team.begin(dim(), unit_of_heads()); }
    std::int64_t end_of_heads() const { return team.end(dim(), unit_of_heads()); }

    // norm(a + b), or norm(a) where `b` is null, of this thread's rows.
    void norm(const Norm& n, const float* a, const float* b, float* y) const {
        const std::int64_t begin = team.begin(rows), at = begin * dim();
        trasluz_sum_norm(a + at, b ? b + at : nullptr, 0, 0, 1.0f, team.end(rows) - begin, dim(), n.weight, n.bias,
                         n.epsilon, 0, 1, nullptr, nullptr, y + at, 1);
    }

    // Waits until all of x is there, which was written `by_rows` or by outputs, as these matrices want it.
    void bring(const Matrix& m, const float* x, bool by_rows) const {
        if (!by_rows) team.meet();
        if (m.offset) round_rows(x, rows, m.inputs, m.depth, team.begin(rows), team.end(rows), room.rounded, room.scale);
        if (m.offset || by_rows) team.meet();
    }

    // This thread's outputs of what was brought.
    void multiply(const Matrix& m, const float* x, float* y, std::int64_t unit = kUnit) const {
        const std::int64_t begin = team.begin(m.outputs, unit), end = team.end(m.outputs, unit);
        if (m.offset)
            int8_outputs(room.rounded, room.scale, rows, m.depth, static_cast<const std::int8_t*>(m.weight), m.offset,
                         m.scale, m.bias, m.outputs, begin, end, y);
        else
            few_rows_outputs(x, rows, m.inputs, static_cast<const float*>(m.weight), m.bias, m.outputs, begin, end, y);
    }

    // y = what the residual path makes of `from` and of a sublayer, which turns what it gets into `room.result`.
    template <typename Sublayer>
    void residual(const Norm& n, const float* from, float* y, const Sublayer& sublayer) const {
        if (block.norm_first) norm(n, from, nullptr, room.normed);
        sublayer(block.norm_first ? room.normed : from);
        team.meet();
        const std::int64_t at = team.begin(rows) * dim(), size = team.end(rows) * dim() - at;
        block.norm_first ? add(from + at, room.result + at, size, y + at) : norm(n, from, room.result, y);
    }

    // The feed-forward network, on its residual path.
    void feed(float* y) const {
        residual(block.feed_forward_norm, y, y, [&](const float* n) {
            bring(block.expand, n, true);
            multiply(block.expand, n, room.wide);
            const std::int64_t hidden = block.expand.outputs, begin = team.begin(hidden, kUnit);
            for (std::int64_t row = 0; row < rows; ++row)
                activate(static_cast<Activation>(block.activation), team.end(hidden, kUnit) - begin,
                         room.wide + row * hidden + begin);
            bring(block.contract, room.wide, false);
            multiply(block.contract, room.wide, room.result);
        });
    }
};

// One new position a row of a decoder.
struct Step : Walker {
    const Past& past;
    const Memory* memory;  // null for a block that stands alone

    // Projects new positions into what is remembered, as far as they are this thread's.
    AVX2 void remember(const Matrix& m, const float* x, void* to) const {
        const std::int64_t first = past.written * dim();
        if (!block.remembers_bfloat) return multiply(m, x, static_cast<float*>(to) + first, unit_of_heads());
        multiply(m, x, room.one, unit_of_heads());
        const std::int64_t begin = first_of_heads(), end = end_of_heads();
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t d = row * dim() + begin; d < row * dim() + end; d += 8)
                store8(load8(room.one + d), static_cast<Bfloat*>(to) + first + d);
    }

    // The contexts of this thread's heads.
    void attend(const void* keys, const void* values, const Past& seen) const {
        attention_step_heads(room.one, rows, block.heads, head_dim(), keys, values, block.remembers_bfloat != 0,
                             seen.table, seen.table_width, seen.first, seen.step, seen.count,
                             first_of_heads() / head_dim(), end_of_heads() / head_dim(), room.other);
    }

    void go(const float* x, float* y) const {
        residual(block.attention_norm, x, y, [&](const float* n) {
            bring(block.query, n, true);
            remember(block.key, n, block.keys);
            remember(block.value, n, block.values);
            multiply(block.query, n, room.one, unit_of_heads());
            attend(block.keys, block.values, past);
            bring(block.output, room.other, false);
            multiply(block.output, room.other, room.result);
        });
        if (memory) {
            residual(block.cross_norm, y, y, [&](const float* n) {
                bring(block.cross_query, n, true);
                multiply(block.cross_query, n, room.one, unit_of_heads());
                attend(memory->keys, memory->values, {0, nullptr, 0, memory->first, 1, memory->count});
                bring(block.cross_output, room.other, false);
                multiply(block.cross_output, room.other, room.result);
            });
        }
        feed(y);
    }
};

// All positions of some texts, none of which sees another.
struct Reading : Walker {
    const Texts& texts;

    void go(const float* x, float* y) const {
        residual(block.attention_norm, x, y, [&](const float* n) {
            bring(block.query, n, true);
            multiply(block.query, n, room.one, unit_of_heads());
            multiply(block.key, n, room.key, unit_of_heads());
            multiply(block.value, n, room.value, unit_of_heads());
            const std::int64_t column = first_of_heads(), heads = (end_of_heads() - column) / head_dim();
            if (heads)
                text_attention_heads(room.one + column, room.key + column, room.value + column, dim(), texts.number,
                                     texts.first, texts.count, rows, heads, head_dim(), room.other + column);
            bring(block.output, room.other, false);
            multiply(block.output, room.other, room.result);
        });
        feed(y);
    }
};

// Products of a block below which a second thread costs more than it brings.
constexpr std::int64_t kWorthThreads = 1 << 19;
// From so many rows on for each of them, threads take rows: fewer of eight bits, of which each can as well read all; but
// tiles hold twice as many. And so many at a time, of which a core's own memory holds what lies between two products.
constexpr std::int64_t kRowsOfThread = 16, kInt8RowsOfThread = 8, kMostRows = 64;

bool by_rows(const Block& b, std::int64_t rows, int threads) {
    const bool few_are_enough = b.query.offset && !int8_takes_tiles(rows, b.query.depth);
    return threads > 1 && rows >= (few_are_enough ? kInt8RowsOfThread : kRowsOfThread) * threads;
}

std::int64_t products_of(const Block& b, std::int64_t rows) {
    return rows * b.query.inputs * (4 * b.query.inputs + 2 * b.expand.outputs);
}

}  // namespace

// Each block has a past among `pasts`; `memories`, one a block, is null for blocks that stand alone.
extern "C" void trasluz_blocks_step(const Block* blocks, std::int64_t count, const Past* pasts, const Memory* memories,
                                    const float* x, std::int64_t rows, float* y, int threads) {
    if (!by_rows(blocks[0], rows, threads)) {
        static thread_local Room room;
        Room* const shared = &room;
        shared->make(blocks, count, rows);
#pragma omp parallel num_threads(threads) if (threads > 1 && products_of(blocks[0], rows) > kWorthThreads)
        {
            const Team team{omp_get_thread_num(), omp_get_num_threads()};
            for (std::int64_t n = 0; n < count; ++n)
                Step{{blocks[n], rows, *shared, team}, pasts[blocks[n].past], memories ? memories + n : nullptr}.go(
                    n ? y : x, y);
        }
        return;
    }
    const std::int64_t parts = (rows + kMostRows * threads - 1) / (kMostRows * threads) * threads;
#pragma omp parallel num_threads(threads)
    {
        static thread_local Room room;
        room.make(blocks, count, (rows + parts - 1) / parts);
        const Team alone{0, 1}, threads_of_all{omp_get_thread_num(), omp_get_num_threads()};
        for (std::int64_t n = 0; n < count; ++n)
            for (std::int64_t part = threads_of_all.begin(parts); part < threads_of_all.end(parts); ++part) {
                const std::int64_t begin = part * rows / parts, some = (part + 1) * rows / parts - begin;
                Past past = pasts[blocks[n].past];
                past.written += begin;
                if (past.table) past.table += begin * past.table_width;
                past.first += begin;
                past.count += begin;
                Memory memory{};
                if (memories) {
                    memory = memories[n];
                    memory.first += begin;
                    memory.count += begin;
                }
                const std::int64_t at = begin * blocks[n].query.inputs;
                Step{{blocks[n], some, room, alone}, past, memories ? &memory : nullptr}.go((n ? y : x) + at, y + at);
            }
    }
}

// Rows go through all blocks in lots of whole texts: about as many as a core's own memory holds, and no fewer than these,
// unless there are none. Of fewer lots than threads these are a team, over all of them.
static constexpr std::int64_t kLeastRowsOfLot = 16;

// Where lots of texts begin, by their number among all, and how many texts there are.
static std::vector<std::int64_t> lots_of(const Texts& texts, std::int64_t rows, int threads) {
    const std::int64_t wanted = std::clamp((rows + threads - 1) / threads, kLeastRowsOfLot, kMostRows);
    std::vector<std::int64_t> lots{0};
    for (std::int64_t text = 1; text < texts.number; ++text)
        if (texts.first[text] - texts.first[lots.back()] >= wanted) lots.push_back(text);
    lots.push_back(texts.number);
    return lots;
}

// Texts stand in the order of their positions, and there is one at least. What is between them means nothing.
extern "C" void trasluz_blocks_read(const Block* blocks, std::int64_t count, const std::int64_t* first,
                                    const std::int64_t* counts, std::int64_t number, const float* x, std::int64_t rows,
                                    float* y, int threads) {
    const Texts texts{first, counts, number};
    const std::vector<std::int64_t> lots = lots_of(texts, rows, threads);
    const std::int64_t parts = static_cast<std::int64_t>(lots.size()) - 1;
    if (parts < threads) {
        // Given back at once: it may be large.
        Room room;
        room.make(blocks, count, rows);
#pragma omp parallel num_threads(threads) if (products_of(blocks[0], rows) > kWorthThreads)
        {
            const Team team{omp_get_thread_num(), omp_get_num_threads()};
            for (std::int64_t n = 0; n < count; ++n) Reading{{blocks[n], rows, room, team}, texts}.go(n ? y : x, y);
        }
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (std::int64_t part = 0; part < parts; ++part) {
        static thread_local Room room;
        static thread_local std::vector<std::int64_t> own;
        const std::int64_t text = lots[part], some = lots[part + 1] - text;
        const std::int64_t begin = part ? first[text] : 0, end = part + 1 < parts ? first[lots[part + 1]] : rows;
        own.assign(first + text, first + text + some);
        for (std::int64_t& place : own) place -= begin;
        const Texts of_lot{own.data(), counts + text, some};
        room.make(blocks, count, end - begin);
        const Team alone{0, 1};
        const std::int64_t at = begin * blocks[0].query.inputs;
        for (std::int64_t n = 0; n < count; ++n)
            Reading{{blocks[n], end - begin, room, alone}, of_lot}.go((n ? y : x) + at, y + at);
    }
}

// Products of eight bits of the same rows, each rounded to bfloat16 and laid behind the one before: what all blocks will
// look at.
extern "C" AVX2 void trasluz_remember(const Matrix* matrices, std::int64_t count, const float* x, std::int64_t rows,
                                      void* y, int threads) {
    const std::int64_t lots = (rows + kMostRows - 1) / kMostRows;
#pragma omp parallel for schedule(static) num_threads(threads) if (lots > 1)
    for (std::int64_t lot = 0; lot < lots; ++lot) {
        static thread_local std::vector<float> products, scale;
        static thread_local std::vector<std::uint8_t> rounded;
        const std::int64_t begin = lot * kMostRows, some = std::min(rows - begin, kMostRows);
        const std::int64_t inputs = matrices[0].inputs, depth = matrices[0].depth;
        scale.resize(kMostRows);
        rounded.resize(static_cast<std::size_t>(bytes_of_rounded(kMostRows, depth)));
        round_rows(x + begin * inputs, some, inputs, depth, 0, some, rounded.data(), scale.data());
        Bfloat* to = static_cast<Bfloat*>(y);
        for (const Matrix* m = matrices; m < matrices + count; to += rows * m->outputs, ++m) {
            const std::int64_t size = some * m->outputs;
            products.resize(static_cast<std::size_t>(kMostRows * m->outputs));
            int8_outputs(rounded.data(), scale.data(), some, depth, static_cast<const std::int8_t*>(m->weight), m->offset,
                         m->scale, m->bias, m->outputs, 0, m->outputs, products.data());
            for (std::int64_t d = 0; d < size; d += 8)
                store8(load8(products.data() + d), to + begin * m->outputs + d);
        }
    }
}
