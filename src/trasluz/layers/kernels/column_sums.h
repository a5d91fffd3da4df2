// The body of column_sums.cpp, for each width.

template <typename Number>
static void add_row(const Number* x, std::int64_t dim, float* sums) {
    std::int64_t d = 0;
    for (; d + kLanes <= dim; d += kLanes) store(load(sums + d) + load(x + d), sums + d);
    if (d < dim) store_some(load_some(sums + d, dim - d) + load_some(x + d, dim - d), sums + d, dim - d);
}
