// Tiles of the matrix unit (AMX): whether they may be used, and how they are laid out.

#pragma once

#include <cstdint>

// Rows of a tile, and its bytes a row.
constexpr std::int64_t kTileRows = 16, kTileBytes = 64;

#if defined(__linux__) && defined(__x86_64__) && __has_include(<amxint8intrin.h>) && __has_include(<amxbf16intrin.h>)
#define TRASLUZ_AMX 1

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512vnni")))

static inline bool may_use_tiles() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kSavesStates = 1u << 27, kBfloat = 1u << 22, kTiles = 1u << 24, kBytes = 1u << 25;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kSavesStates)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (~d & (kBfloat | kTiles | kBytes))) return false;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return false;
    unsigned states, high;
    __asm__("xgetbv" : "=a"(states), "=d"(high) : "c"(0));
    constexpr unsigned kTileStates = 3u << 17;
    if ((states & kTileStates) != kTileStates) return false;
    // Linux keeps room for tiles only for a process that asks for it: ARCH_REQ_XCOMP_PERM, tile data.
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

static inline bool has_amx() {
    static const bool answer = may_use_tiles();
    return answer;
}

// All eight tiles whole: sixteen rows of 64 bytes. Each thread sets them up for itself, and lets them go.
__attribute__((target("amx-tile"))) static inline void set_up_tiles() {
    alignas(64) struct {
        std::uint8_t palette = 1, first_row = 0, reserved[14] = {};
        std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } tiles;
    // GCC believes that only the first eight bytes are read.
    __asm__ volatile("" ::"r"(&tiles) : "memory");
    _tile_loadconfig(&tiles);
}

__attribute__((target("amx-tile"))) static inline void release_tiles() { _tile_release(); }

#endif
