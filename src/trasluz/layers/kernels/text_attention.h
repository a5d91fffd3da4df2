// The body of text_attention.cpp, for each width.

// Queries at a time, and the vectors of keys that they meet: as many as there are registers for their products.
constexpr int kRows = kLanes == 16 ? 8 : 4;
constexpr int kColumns = 3;

// c = a b, of kRows rows and so many vectors of columns; rows lie `a_step`, `b_step`, `c_step` floats apart.
template <int Columns>
static inline void tile(const float* a, std::int64_t a_step, const float* b, std::int64_t b_step, std::int64_t depth,
                        float* c, std::int64_t c_step) {
    Vec sum[kRows][Columns] = {};
    for (std::int64_t k = 0; k < depth; ++k, b += b_step) {
        Vec right[Columns];
        for (int n = 0; n < Columns; ++n) right[n] = load(b + n * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const Vec left = spread(a[r * a_step + k]);
            for (int n = 0; n < Columns; ++n) sum[r][n] += left * right[n];
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int n = 0; n < Columns; ++n) store(sum[r][n], c + r * c_step + n * kLanes);
}

static inline void product(const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
                           std::int64_t depth, float* c, std::int64_t c_step, std::int64_t vectors) {
    std::int64_t n = 0;
    for (; n + kColumns <= vectors; n += kColumns)
        tile<kColumns>(a, a_step, b + n * kLanes, b_step, depth, c + n * kLanes, c_step);
    for (; n + 2 <= vectors; n += 2) tile<2>(a, a_step, b + n * kLanes, b_step, depth, c + n * kLanes, c_step);
    for (; n < vectors; ++n) tile<1>(a, a_step, b + n * kLanes, b_step, depth, c + n * kLanes, c_step);
}

// Makes of a row of scores, as powers of two, weights that sum to what is returned.
static inline float exponentials(float* scores, std::int64_t vectors) {
    Vec top = load(scores);
    for (std::int64_t n = 1; n < vectors; ++n) {
        const Vec x = load(scores + n * kLanes);
        top = greater(top, x);
    }
    const Vec lowest = spread(-126.0f), highest = spread(largest(top));
    Vec sum = {};
    const auto some = [&](auto count, std::int64_t n) {
        constexpr int kCount = decltype(count)::value;
        Vec weights[kCount];
        // Below the lowest a weight is as good as zero, and 2^x no number of full precision; NaN stays what it is.
        for (int v = 0; v < kCount; ++v) weights[v] = greater(lowest, load(scores + (n + v) * kLanes) - highest);
        powers_of_two<kCount>(weights);
        for (int v = 0; v < kCount; ++v) store(weights[v], scores + (n + v) * kLanes), sum += weights[v];
    };
    std::int64_t n = 0;
    for (; n + 3 <= vectors; n += 3) some(std::integral_constant<int, 3>{}, n);
    for (; n < vectors; ++n) some(std::integral_constant<int, 1>{}, n);
    return total(sum);
}

// One head of one text; `query` and the others point to its first position, and have `step` numbers to the next.
template <typename Number>
static void head_of_text(const Number* query, std::int64_t queries, const Number* key, const Number* value,
                         std::int64_t length, std::int64_t head_dim, std::int64_t step, Number* context,
                         std::vector<float>& room) {
    const std::int64_t vectors = (length + kLanes - 1) / kLanes, padded = vectors * kLanes;
    const std::int64_t parts = head_dim / kLanes;
    if (!length) {
        for (std::int64_t row = 0; row < queries; ++row) std::fill_n(context + row * step, head_dim, Number{});
        return;
    }
    // A whole vector is stored behind the last key of a row, in vain but for hiding what is not there.
    const std::int64_t score_step = padded + kLanes;
    room.resize(static_cast<std::size_t>(3 * head_dim * padded + kRows * (2 * head_dim + score_step)));
    float *const rows_of_keys = room.data(), *const keys = rows_of_keys + head_dim * padded;
    float *const values = keys + head_dim * padded, *const looking = values + head_dim * padded;
    float *const contexts = looking + kRows * head_dim, *const scores = contexts + kRows * head_dim;
    for (std::int64_t place = 0; place < length; ++place)
        for (std::int64_t d = 0; d < head_dim; d += kLanes) {
            store(load(key + place * step + d), rows_of_keys + place * head_dim + d);
            store(load(value + place * step + d), values + place * head_dim + d);
        }
    for (std::int64_t place = 0; place < padded; place += kLanes)
        for (std::int64_t d = 0; d < head_dim; ++d)
            store(gather(rows_of_keys + place * head_dim + d, static_cast<int>(head_dim)), keys + d * padded + place);
    // log2(e): weights are powers of two.
    const float scale = 1.44269504f / std::sqrt(static_cast<float>(head_dim));
    for (std::int64_t first = 0; first < queries; first += kRows) {
        const std::int64_t rows = std::min<std::int64_t>(kRows, queries - first);
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t part = 0; part < parts; ++part)
                store(load(query + (first + row) * step + part * kLanes) * scale,
                      looking + row * head_dim + part * kLanes);
        product(looking, head_dim, keys, padded, head_dim, scores, score_step, vectors);
        float sums[kRows];
        for (std::int64_t row = 0; row < rows; ++row) {
            store(spread(kHidden), scores + row * score_step + length);
            sums[row] = exponentials(scores + row * score_step, vectors);
        }
        product(scores, score_step, values, head_dim, length, contexts, head_dim, parts);
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t part = 0; part < parts; ++part)
                store(load(contexts + row * head_dim + part * kLanes) * (1.0f / sums[row]),
                      context + (first + row) * step + part * kLanes);
    }
}
