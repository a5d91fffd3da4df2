// A product summed over the rows of two matrices of bfloat16, as the gradient of a layer's weights is, in float32:
//
//     result[i, j] (+)= sum_r x[r, i] * y[r, j]
//
// AMX multiplies tiles: sixteen features of x, 32 rows of each side by side, times sixteen pairs of rows of y, each
// with sixteen features. So y's rows are packed by interleaving two of them, and x's by turning them over:
//
//     y:  packed[r / 2][j][r % 2] = y[r, j]          x:  packed[i][r] = x[r, i]
//
// in panels of 32 features, two tiles side by side, which make 32 x 32 numbers of the result at once. Of some rows, a
// strip, the narrower matrix is packed whole and stays in the second cache; of the wider one, panel by panel meets all
// of it, in runs of steps that stay in the first. Memory is what is waited for most: so the next run is packed while one
// is multiplied, a little after each step, and what will be needed is fetched ahead.
//
// Each number of the result is summed up in the order of the rows, whatever the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "amx.h"

#ifdef TRASLUZ_AMX

#include <omp.h>

namespace {

constexpr std::int64_t kSide = 32;                     // features of a panel, and rows of a step
constexpr std::int64_t kStep = kSide * kSide;          // numbers of a panel that one step multiplies
constexpr std::int64_t kParts = 4;                     // a step is packed in so many parts
constexpr std::int64_t kRunSteps = 16;                 // steps of a panel that stay in the first cache
constexpr std::int64_t kMostResident = 1024;           // features of the narrower matrix that are packed at a time
constexpr std::int64_t kResidentNumbers = 1 << 19;     // numbers of it that are
constexpr std::int64_t kMostSteps = 32;                // of a strip

using Bits = std::uint16_t;

constexpr std::uint32_t first_bits(std::int64_t count) {
    return static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
}

constexpr std::int64_t parts_of(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

struct Matrix {
    const Bits* at;
    std::int64_t step, rows, width;
    bool is_turned;

    std::int64_t panels() const { return parts_of(width, kSide); }
};

template <typename Number>
struct Freed {
    void operator()(Number* at) const { std::free(at); }
};

template <typename Number>
using Buffer = std::unique_ptr<Number[], Freed<Number>>;

template <typename Number>
Buffer<Number> buffer_of(std::int64_t count) {
    const auto bytes = static_cast<std::size_t>(parts_of(count * static_cast<std::int64_t>(sizeof(Number)), 64) * 64);
    void* const at = std::aligned_alloc(64, bytes);
    if (!at) throw std::bad_alloc();
    return Buffer<Number>(static_cast<Number*>(at));
}

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")

// Some rows of one panel, which are packed part by part between other work: one part after each `pause` steps of that.
struct Packing {
    const Bits* at;
    std::int64_t step, rows;
    bool is_turned;
    __mmask32 features;
    Bits* to;
    std::int64_t part, parts, pause, waits;
    alignas(64) Bits as_they_are[kStep];

    void begin(const Matrix& matrix, std::int64_t panel, std::int64_t first_row, std::int64_t steps, Bits* packed) {
        const std::int64_t first = panel * kSide, count = std::min(kSide, matrix.width - first);
        at = matrix.at + first_row * matrix.step + first;
        step = matrix.step;
        rows = std::min(steps * kSide, matrix.rows - first_row);
        is_turned = matrix.is_turned;
        features = first_bits(count);
        to = packed;
        part = 0;
        parts = steps * kParts;
    }

    void spread_over(std::int64_t work_steps) { pause = waits = std::max<std::int64_t>(1, work_steps / (parts + 1)); }

    void after_step() {
        if (part == parts || --waits > 0) return;
        next();
        waits = pause;
    }

    void rest() {
        while (part < parts) next();
    }

    void next() {
        const std::int64_t row = part / kParts * kSide;
        Bits* const there = to + part / kParts * kStep;
        is_turned ? turn(row, part % kParts, there) : pair(row, part % kParts, there);
        ++part;
    }

    // Zeros behind the last row.
    __m512i load(std::int64_t row) const {
        if (row >= rows) return _mm512_setzero_si512();
        const Bits* const from = at + row * step;
        // The next panel's, which is another line of memory.
        _mm_prefetch(reinterpret_cast<const char*>(from + kSide), _MM_HINT_T1);
        return _mm512_maskz_loadu_epi16(features, from);
    }

    // Eight rows. Groups of four features go to the two tiles in turns; `put_in_order` undoes that.
    void pair(std::int64_t row, std::int64_t quarter, Bits* there) const {
        for (std::int64_t p = 4 * quarter; p < 4 * quarter + 4; ++p) {
            const __m512i even = load(row + 2 * p), odd = load(row + 2 * p + 1);
            _mm512_store_si512(there + p * kSide, _mm512_unpacklo_epi16(even, odd));
            _mm512_store_si512(there + kStep / 2 + p * kSide, _mm512_unpackhi_epi16(even, odd));
        }
    }

    // Eight features. Rows a power of two apart would push each other out of the first cache: hence the copy.
    void turn(std::int64_t row, std::int64_t quarter, Bits* there) {
        if (quarter == 0)
            for (std::int64_t r = 0; r < kSide; ++r) _mm512_store_si512(as_they_are + r * kSide, load(row + r));
        const Bits* const from = as_they_are + 8 * quarter;
        const auto eight = [from](std::int64_t r) {
            return _mm_load_si128(reinterpret_cast<const __m128i*>(from + r * kSide));
        };
        __m512i x[8], pairs[8], fours[8];
        for (std::int64_t r = 0; r < 8; ++r) {
            x[r] = _mm512_broadcast_i32x4(eight(r));
            x[r] = _mm512_mask_broadcast_i32x4(x[r], 0x00f0, eight(r + 8));
            x[r] = _mm512_mask_broadcast_i32x4(x[r], 0x0f00, eight(r + 16));
            x[r] = _mm512_mask_broadcast_i32x4(x[r], 0xf000, eight(r + 24));
        }
        // In each quarter of a register, eight rows of eight features become eight features of eight rows.
        for (int r = 0; r < 8; r += 2) {
            pairs[r] = _mm512_unpacklo_epi16(x[r], x[r + 1]);
            pairs[r + 1] = _mm512_unpackhi_epi16(x[r], x[r + 1]);
        }
        for (int r = 0; r < 8; r += 4)
            for (int high = 0; high < 2; ++high) {
                fours[r + 2 * high] = _mm512_unpacklo_epi32(pairs[r + high], pairs[r + 2 + high]);
                fours[r + 2 * high + 1] = _mm512_unpackhi_epi32(pairs[r + high], pairs[r + 2 + high]);
            }
        there += 8 * quarter * kSide;
        for (int f = 0; f < 4; ++f) {
            _mm512_store_si512(there + 2 * f * kSide, _mm512_unpacklo_epi64(fours[f], fours[f + 4]));
            _mm512_store_si512(there + (2 * f + 1) * kSide, _mm512_unpackhi_epi64(fours[f], fours[f + 4]));
        }
    }
};

// The place of 32 x 32 numbers of the result.
struct Place {
    float* at;
    std::int64_t step, rows, columns;

    // Each step fetches two lines of them.
    void fetch(std::int64_t nth) const {
        static_assert(kRunSteps * 2 == kSide);
        for (std::int64_t row = 2 * nth; row < std::min(rows, 2 * nth + 2); ++row) {
            _mm_prefetch(reinterpret_cast<const char*>(at + row * step), _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(at + row * step + 16), _MM_HINT_T0);
        }
    }
};

// 32 x 32 sums, added to those that are there already or not; `goes_to` is where they will be put soon, or null.
void multiply(const Bits* x, const Bits* y, std::int64_t steps, bool adds, float* sums, const Place* goes_to,
              Packing& packing) {
    constexpr int kLine = 64, kSumsLine = kSide * sizeof(float);
    // The compiler does not know that tiles are loaded from what was packed before.
    __asm__ volatile("" ::: "memory");
    if (adds) {
        _tile_loadd(0, sums, kSumsLine);
        _tile_loadd(1, sums + 16, kSumsLine);
        _tile_loadd(2, sums + 16 * kSide, kSumsLine);
        _tile_loadd(3, sums + 16 * kSide + 16, kSumsLine);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (std::int64_t step = 0; step < steps; ++step, x += kStep, y += kStep) {
        if (goes_to) goes_to->fetch(step);
        _tile_loadd(4, x, kLine);
        _tile_loadd(6, y, kLine);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, y + kStep / 2, kLine);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x + kStep / 2, kLine);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        packing.after_step();
    }
    _tile_stored(0, sums, kSumsLine);
    _tile_stored(1, sums + 16, kSumsLine);
    _tile_stored(2, sums + 16 * kSide, kSumsLine);
    _tile_stored(3, sums + 16 * kSide + 16, kSumsLine);
}

// Puts sums where they belong, as many of them as there are numbers in the result; see `Packing::pair`.
void put_in_order(const float* sums, bool adds, const Place& place) {
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const std::uint32_t there = first_bits(place.columns);
    const __mmask16 low = static_cast<__mmask16>(there), high = static_cast<__mmask16>(there >> 16);
    float* to = place.at;
    for (std::int64_t row = 0; row < place.rows; ++row, sums += kSide, to += place.step) {
        const __m512d even = _mm512_castps_pd(_mm512_load_ps(sums)), odd = _mm512_castps_pd(_mm512_load_ps(sums + 16));
        __m512 left = _mm512_castpd_ps(_mm512_permutex2var_pd(even, first, odd));
        __m512 right = _mm512_castpd_ps(_mm512_permutex2var_pd(even, second, odd));
        if (adds) {
            left = _mm512_add_ps(left, _mm512_maskz_loadu_ps(low, to));
            right = _mm512_add_ps(right, _mm512_maskz_loadu_ps(high, to + 16));
        }
        _mm512_mask_storeu_ps(to, low, left);
        _mm512_mask_storeu_ps(to + 16, high, right);
    }
}

struct Result {
    float* at;
    std::int64_t inputs, outputs;

    Place place(std::int64_t input_panel, std::int64_t output_panel) const {
        const std::int64_t input = input_panel * kSide, output = output_panel * kSide;
        return {at + input * outputs + output, outputs, std::min(kSide, inputs - input),
                std::min(kSide, outputs - output)};
    }
};

// Some panels of the narrower matrix, packed, and those rows of the wider one.
struct Strip {
    Matrix resident, streamed;
    Result result;
    bool adds;
    std::int64_t first_row, steps;                // of both
    std::int64_t first_resident, residents;       // panels
    Bits* packed;                                 // (residents, steps, kStep)

    void pack_resident(std::int64_t panel, Packing& packing) const {
        packing.begin(resident, first_resident + panel, first_row, steps, packed + panel * steps * kStep);
        packing.rest();
    }

    // The panels of the wider matrix from one to another; room for two runs of steps, and for all sums of a panel.
    void multiply_panels(std::int64_t from, std::int64_t to, Packing& packing, Bits* const (&room)[2],
                         float* sums) const {
        const std::int64_t runs = parts_of(steps, kRunSteps), last = (to - from) * runs;
        const auto steps_of = [&](std::int64_t run) { return std::min(kRunSteps, steps - run * kRunSteps); };
        const auto begin = [&](std::int64_t at) {
            const std::int64_t run = at % runs;
            packing.begin(streamed, from + at / runs, first_row + run * kRunSteps * kSide, steps_of(run), room[at % 2]);
        };
        if (!last) return;
        begin(0);
        packing.rest();
        for (std::int64_t at = 0; at < last; ++at) {
            if (at + 1 < last) begin(at + 1);
            packing.spread_over(residents * steps_of(at % runs));
            multiply_run(from + at / runs, at % runs, steps_of(at % runs), room[at % 2], packing, sums);
            packing.rest();
        }
    }

    void multiply_run(std::int64_t panel, std::int64_t run, std::int64_t now, const Bits* run_packed, Packing& packing,
                      float* sums) const {
        const bool is_last = run * kRunSteps + now == steps;
        for (std::int64_t n = 0; n < residents; ++n, sums += kStep) {
            const Bits* const other = packed + (n * steps + run * kRunSteps) * kStep;
            const Bits* const x = resident.is_turned ? other : run_packed;
            const Bits* const y = resident.is_turned ? run_packed : other;
            const Place place = resident.is_turned ? result.place(first_resident + n, panel)
                                                   : result.place(panel, first_resident + n);
            multiply(x, y, now, run > 0, sums, is_last ? &place : nullptr, packing);
            if (is_last) put_in_order(sums, adds, place);
        }
    }
};

#pragma GCC pop_options

}  // namespace

extern "C" int trasluz_has_amx() { return has_amx(); }

extern "C" void trasluz_summed_products(const void* x, std::int64_t x_step, const void* y, std::int64_t y_step,
                                        std::int64_t rows, std::int64_t inputs, std::int64_t outputs, int adds,
                                        float* result, int threads) {
    if (!rows && !adds) std::fill_n(result, inputs * outputs, 0.0f);
    if (!rows || !inputs || !outputs) return;
    const Matrix of_x{static_cast<const Bits*>(x), x_step, rows, inputs, true};
    const Matrix of_y{static_cast<const Bits*>(y), y_step, rows, outputs, false};
    const Matrix &resident = inputs < outputs ? of_x : of_y, &streamed = inputs < outputs ? of_y : of_x;

    const std::int64_t residents = std::min(resident.panels(), kMostResident / kSide), panels = streamed.panels();
    const std::int64_t all_steps = parts_of(rows, kSide);
    const std::int64_t steps = std::min({kMostSteps, kResidentNumbers / (residents * kStep), all_steps});
    const auto packed = buffer_of<Bits>(residents * steps * kStep);
#pragma omp parallel num_threads(threads) if (threads > 1 && panels > 1)
    {
        const std::int64_t workers = omp_get_num_threads(), worker = omp_get_thread_num();
        const std::int64_t room_numbers = std::min(kRunSteps, steps) * kStep;
        const auto room = buffer_of<Bits>(2 * room_numbers);
        const auto sums = buffer_of<float>(residents * kStep);
        Packing packing;
        set_up_tiles();
        for (std::int64_t first = 0; first < resident.panels(); first += residents)
            for (std::int64_t step = 0; step < all_steps; step += steps) {
                const Strip strip{resident,
                                  streamed,
                                  {result, inputs, outputs},
                                  adds || step,
                                  step * kSide,
                                  std::min(steps, all_steps - step),
                                  first,
                                  std::min(residents, resident.panels() - first),
                                  packed.get()};
#pragma omp for schedule(static)
                for (std::int64_t panel = 0; panel < strip.residents; ++panel) strip.pack_resident(panel, packing);
                strip.multiply_panels(panels * worker / workers, panels * (worker + 1) / workers, packing,
                                      {room.get(), room.get() + room_numbers}, sums.get());
#pragma omp barrier
            }
        release_tiles();
    }
}

#else

extern "C" int trasluz_has_amx() { return 0; }

extern "C" void trasluz_summed_products(const void*, std::int64_t, const void*, std::int64_t, std::int64_t,
                                        std::int64_t, std::int64_t, int, float*, int) {}

#endif
