// Attention of many texts at once, each over keys of its own, wherever among those of all they lie:
//
//     context[i] = sum_j softmax_j(query[i] . key[j] / sqrt(head_dim)) value[j]        i and j of the same text
//
// A text's head is small: its keys, turned over, and its values are laid out side by side in the cache; then a few
// queries at a time meet them all. Sums are in float32 whatever the numbers are, and their order depends on nothing but
// the text's length: its result is the same to the bit whatever its neighbours are.

#include <cstdint>

namespace {

constexpr float kHidden = -1e30f;
constexpr std::int64_t kWorthThreads = 16;

}  // namespace

#define EACH_WIDTH "text_attention.h"
#include "each_width.h"

namespace {

// Where the queries and the keys of each text begin, and how many there are.
struct Texts {
    std::int64_t count;
    const std::int64_t *first_query, *queries, *first_key, *keys;
};

template <typename Number>
void all_texts(const Number* query, const Number* key, const Number* value, const Texts& texts, std::int64_t heads,
               std::int64_t head_dim, Number* context, int threads) {
    const std::int64_t step = heads * head_dim, works = texts.count * heads;
    const auto one = has_sixteen() && head_dim % sixteen::kLanes == 0 ? sixteen::head_of_text<Number>
                                                                       : eight::head_of_text<Number>;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) if (threads > 1 && works > kWorthThreads)
    for (std::int64_t work = 0; work < works; ++work) {
        static thread_local std::vector<float> room;
        const std::int64_t text = work / heads, head = work % heads * head_dim;
        const std::int64_t mine = texts.first_query[text] * step + head, seen = texts.first_key[text] * step + head;
        one(query + mine, texts.queries[text], key + seen, value + seen, texts.keys[text], head_dim, step,
            context + mine, room);
    }
}

}  // namespace

// query, key, value, context: (positions, heads, head_dim), floats or bfloat16; head_dim is a multiple of eight here.
extern "C" void trasluz_text_attention(const void* query, const void* key, const void* value, std::int64_t count,
                                       const std::int64_t* first_query, const std::int64_t* queries,
                                       const std::int64_t* first_key, const std::int64_t* keys, std::int64_t heads,
                                       std::int64_t head_dim, int is_bfloat, void* context, int threads) {
    const Texts texts{count, first_query, queries, first_key, keys};
    const auto as = [&](auto number) {
        using Number = decltype(number);
        all_texts(static_cast<const Number*>(query), static_cast<const Number*>(key),
                  static_cast<const Number*>(value), texts, heads, head_dim, static_cast<Number*>(context), threads);
    };
    is_bfloat ? as(Bfloat{}) : as(float{});
}
