// Attention of many texts at once, each over keys of its own, wherever among those of all they lie, and its gradients:
//
//     P = softmax(Q K^T / sqrt(head_dim))      D(P) = P, of which dropout leaves some      context = D(P) V
//
//     dV = D(P)^T dcontext        dP = D(dcontext V^T)        dS = P * (dP - rowsum(P * dP))
//     dQ = dS K / sqrt(head_dim)        dK = dS^T Q / sqrt(head_dim)
//
// The keys of a text's head, turned over, and its values are laid out side by side in the cache; then a few queries at
// a time meet them all: memory is linear in the length. The backward pass finds the weights anew, and draws again what
// was dropped out from its seed and its place. Sums are in float32 whatever the numbers are, and their order depends on
// nothing but the text's length: its result is the same to the bit whatever its neighbours are.

#include <algorithm>
#include <cstdint>

#include "shares.h"

namespace {

// Heads of short texts that are worth another thread, and what is no short text.
constexpr std::int64_t kWorthThreads = 16, kLong = 128;

// Laid out as (positions, heads, head_dim), `step` numbers from one position to the next.
template <typename Number>
struct Numbers {
    Number* at;
    std::int64_t step;
    Numbers from(std::int64_t position, std::int64_t column = 0) const { return {at + position * step + column, step}; }
};

// One head of one text. Its first query sees so many keys, and each one more than that before it.
template <typename Number>
struct HeadOfText {
    Numbers<const Number> query, key, value;
    std::int64_t queries, keys, dim, first_sees;
    std::uint64_t first_place, place_step;

    std::int64_t seen(std::int64_t row) const {
        return std::max<std::int64_t>(0, std::min(keys, first_sees + row));
    }
    std::int64_t first_looking_at(std::int64_t key_row) const {
        return std::max<std::int64_t>(0, std::min(queries, key_row + 1 - first_sees));
    }
    // Where the weights of a query are counted for dropout.
    std::uint64_t place(std::int64_t row) const { return first_place + static_cast<std::uint64_t>(row) * place_step; }
};

template <typename Number>
struct Gradients {
    Numbers<Number> query, key, value;
};

}  // namespace

#define EACH_WIDTH "text_attention.h"
#include "each_width.h"

namespace {

// Where each text begins among all positions, in their order, and how many it has.
struct Stretches {
    const std::int64_t *first, *count;
    std::int64_t texts, positions;

    // Zeros at the positions that belong to no text and stand before the first or behind a given one.
    template <typename Number>
    void clear_around(std::int64_t text, Numbers<Number> x, std::int64_t dim) const {
        const auto clear = [&](std::int64_t begin, std::int64_t end) {
            for (; begin < end; ++begin) std::fill_n(x.from(begin).at, dim, Number{});
        };
        if (!text) clear(0, first[0]);
        clear(first[text] + count[text], text + 1 < texts ? first[text + 1] : positions);
    }
};

// Everything that both passes are given.
struct Call {
    const void *query, *key, *value;
    std::int64_t query_step, key_step, value_step;
    Stretches queries, keys;
    std::int64_t heads, head_dim, first_sees;
    Dropout dropout;
    int threads;

    // Calls f(head of a text, text, first column of the head) for all of them.
    template <typename Number, typename Work>
    void each_head(Work f) const {
        const std::int64_t works = queries.texts * heads;
        const std::int64_t most = works ? *std::max_element(keys.count, keys.count + keys.texts) : 0;
        const auto whole = [](const void* x, std::int64_t step) {
            return Numbers<const Number>{static_cast<const Number*>(x), step};
        };
        const bool worth = threads > 1 && (works > kWorthThreads || most > kLong);
        const std::int64_t at_once = most > kLong ? 1 : 4;
#pragma omp parallel for schedule(dynamic, at_once) num_threads(threads) if (worth)
        for (std::int64_t work = 0; work < works; ++work) {
            const std::int64_t text = work / heads, head = work % heads, column = head * head_dim;
            const std::int64_t mine = queries.first[text], seen = keys.first[text];
            const HeadOfText<Number> given{whole(query, query_step).from(mine, column),
                                           whole(key, key_step).from(seen, column),
                                           whole(value, value_step).from(seen, column),
                                           queries.count[text],
                                           keys.count[text],
                                           head_dim,
                                           first_sees,
                                           static_cast<std::uint64_t>((mine * heads + head) * most),
                                           static_cast<std::uint64_t>(heads * most)};
            f(given, text, column);
        }
    }

    bool in_sixteens() const { return has_sixteen() && head_dim % sixteen::kLanes == 0; }
};

Call call_of(const void* query, std::int64_t query_step, const void* key, std::int64_t key_step, const void* value,
             std::int64_t value_step, std::int64_t texts, const std::int64_t* first_query, const std::int64_t* queries,
             std::int64_t query_positions, const std::int64_t* first_key, const std::int64_t* keys,
             std::int64_t key_positions, std::int64_t heads, std::int64_t head_dim, std::int64_t first_sees,
             std::uint64_t seed, double dropout, int threads) {
    const Dropout drops{seed, static_cast<std::uint32_t>(dropout * 4294967296.0),
                        static_cast<float>(1.0 / (1.0 - dropout))};
    return {query,
            key,
            value,
            query_step,
            key_step,
            value_step,
            {first_query, queries, texts, query_positions},
            {first_key, keys, texts, key_positions},
            heads,
            head_dim,
            first_sees,
            drops,
            threads};
}

template <typename Number>
void contexts(const Call& call, Numbers<Number> context) {
    const auto one = call.in_sixteens() ? sixteen::context_of_head<Number> : eight::context_of_head<Number>;
    call.each_head<Number>([&](const HeadOfText<Number>& head, std::int64_t text, std::int64_t column) {
        static thread_local std::vector<float> room;
        one(head, call.dropout, context.from(call.queries.first[text], column), room);
        call.queries.clear_around(text, context.from(0, column), call.head_dim);
    });
}

template <typename Number>
void all_gradients(const Call& call, Numbers<const Number> gradient, const Gradients<Number>& wanted) {
    const auto one = call.in_sixteens() ? sixteen::gradients_of_head<Number> : eight::gradients_of_head<Number>;
    call.each_head<Number>([&](const HeadOfText<Number>& head, std::int64_t text, std::int64_t column) {
        static thread_local std::vector<float> room;
        const std::int64_t mine = call.queries.first[text], seen = call.keys.first[text];
        const Gradients<Number> own{wanted.query.from(mine, column), wanted.key.from(seen, column),
                                    wanted.value.from(seen, column)};
        one(head, call.dropout, gradient.from(mine, column), own, room);
        call.queries.clear_around(text, wanted.query.from(0, column), call.head_dim);
        call.keys.clear_around(text, wanted.key.from(0, column), call.head_dim);
        call.keys.clear_around(text, wanted.value.from(0, column), call.head_dim);
    });
}

}  // namespace

void text_attention_heads(const float* query, const float* key, const float* value, std::int64_t step,
                          std::int64_t texts, const std::int64_t* first, const std::int64_t* count,
                          std::int64_t positions, std::int64_t heads, std::int64_t head_dim, float* context) {
    constexpr std::int64_t kAll = std::int64_t{1} << 40;
    contexts<float>(call_of(query, step, key, step, value, step, texts, first, count, positions, first, count, positions,
                            heads, head_dim, kAll, 0, 0.0, 1),
                    {context, step});
}

#define TEXTS                                                                                                         \
    const void *query, std::int64_t query_step, const void *key, std::int64_t key_step, const void *value,            \
        std::int64_t value_step, std::int64_t texts, const std::int64_t *first_query, const std::int64_t *queries,    \
        std::int64_t query_positions, const std::int64_t *first_key, const std::int64_t *keys,                        \
        std::int64_t key_positions, std::int64_t heads, std::int64_t head_dim, std::int64_t first_sees,               \
        std::uint64_t seed, double dropout, int threads, int is_bfloat
#define CALL                                                                                                          \
    call_of(query, query_step, key, key_step, value, value_step, texts, first_query, queries, query_positions,        \
            first_key, keys, key_positions, heads, head_dim, first_sees, seed, dropout, threads)

// All: (positions, heads, head_dim), floats or bfloat16, the context and its gradient without gaps, the gradients of
// the rest with steps of their own; head_dim is a multiple of eight here.
extern "C" void trasluz_text_attention(TEXTS, void* context) {
    const auto as = [&](auto number) {
        using Number = decltype(number);
        contexts<Number>(CALL, {static_cast<Number*>(context), heads * head_dim});
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}

extern "C" void trasluz_text_attention_gradients(TEXTS, const void* gradient, void* of_query,
                                                 std::int64_t of_query_step, void* of_key, std::int64_t of_key_step,
                                                 void* of_value, std::int64_t of_value_step) {
    const auto as = [&](auto number) {
        using Number = decltype(number);
        const Gradients<Number> wanted{{static_cast<Number*>(of_query), of_query_step},
                                       {static_cast<Number*>(of_key), of_key_step},
                                       {static_cast<Number*>(of_value), of_value_step}};
        all_gradients<Number>(CALL, {static_cast<const Number*>(gradient), heads * head_dim}, wanted);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}
