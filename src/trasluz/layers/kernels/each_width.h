// Includes EACH_WIDTH, the body of a kernel, twice: for eight floats at a time (AVX2), as `eight::...`, and for sixteen
// (AVX-512), as `sixteen::...`. `has_sixteen` says which of them this processor can run.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "avx2.h"

// Rows that one thread sums up into a part: the parts, and so the sum, do not depend on how many threads there are.
constexpr std::int64_t kRowsTogether = 256;

// What a softmax must not see.
constexpr float kHidden = -1e30f;

// What is dropped out: nothing where `dropped` is 0. See random.h.
struct Dropout {
    std::uint64_t seed;
    std::uint32_t dropped;
    float scale;
};

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace eight {
constexpr int kLanes = 8;
typedef float Vec __attribute__((vector_size(32)));
typedef std::uint32_t Bits __attribute__((vector_size(32)));
typedef std::uint16_t Halves __attribute__((vector_size(16)));
constexpr Bits kCounting = {0, 1, 2, 3, 4, 5, 6, 7};
static inline Vec spread(float x) { return (Vec)_mm256_set1_ps(x); }
static inline Vec lesser(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
static inline Vec greater(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
static inline Vec gather(const float* from, int step) {
    const __m256i indices =
        _mm256_mullo_epi32(_mm256_set1_epi32(step), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return (Vec)_mm256_i32gather_ps(from, indices, 4);
}
static inline Bits widened(Halves x) { return (Bits)_mm256_cvtepu16_epi32((__m128i)x); }
static inline Halves narrowed(Bits x) {
    const __m256i packed = _mm256_packus_epi32((__m256i)x, (__m256i)x);
    return (Halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xd8));
}
static inline float largest(Vec x) { return max8((__m256)x); }
static inline float total(Vec x) { return sum8((__m256)x); }
// The totals of four vectors.
static inline void totals(const Vec* x, float* to) {
    const __m256 ab = _mm256_hadd_ps((__m256)x[0], (__m256)x[1]), cd = _mm256_hadd_ps((__m256)x[2], (__m256)x[3]);
    const __m256 all = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}
#include "lanes.h"
#include "random.h"
#include EACH_WIDTH
}  // namespace eight
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
namespace sixteen {
constexpr int kLanes = 16;
typedef float Vec __attribute__((vector_size(64)));
typedef std::uint32_t Bits __attribute__((vector_size(64)));
typedef std::uint16_t Halves __attribute__((vector_size(32)));
constexpr Bits kCounting = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static inline Vec spread(float x) { return (Vec)_mm512_set1_ps(x); }
static inline Vec lesser(Vec a, Vec b) { return (Vec)_mm512_min_ps((__m512)a, (__m512)b); }
static inline Vec greater(Vec a, Vec b) { return (Vec)_mm512_max_ps((__m512)a, (__m512)b); }
static inline Vec gather(const float* from, int step) {
    const __m512i indices =
        _mm512_mullo_epi32(_mm512_set1_epi32(step), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    return (Vec)_mm512_i32gather_ps(indices, from, 4);
}
static inline Bits widened(Halves x) { return (Bits)_mm512_cvtepu16_epi32((__m256i)x); }
static inline Halves narrowed(Bits x) { return (Halves)_mm512_cvtepi32_epi16((__m512i)x); }
static inline float largest(Vec x) { return _mm512_reduce_max_ps((__m512)x); }
static inline float total(Vec x) { return _mm512_reduce_add_ps((__m512)x); }
static inline __m256 halved(Vec x) {
    return _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
}
static inline void totals(const Vec* x, float* to) {
    const __m256 ab = _mm256_hadd_ps(halved(x[0]), halved(x[1])), cd = _mm256_hadd_ps(halved(x[2]), halved(x[3]));
    const __m256 all = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}
#include "lanes.h"
#include "random.h"
#include EACH_WIDTH
}  // namespace sixteen
#pragma GCC pop_options

static inline bool has_sixteen() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
