// Tiles of the matrix unit (AMX): whether they may be used, and how they are laid out.

#pragma once

#include <cstdint>

#if defined(__linux__) && defined(__x86_64__) && __has_include(<amxint8intrin.h>) && __has_include(<amxbf16intrin.h>)
#define TRASLUZ_AMX 1

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512vnni")))

// Rows of a tile, and its bytes a row.
constexpr std::int64_t kTileRows = 16, kTileBytes = 64;

// The system lends the tiles' registers only to who has asked.
static inline bool asked_for_tiles() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
    if ((d & (kBf16 | kTile | kInt8)) != (kBf16 | kTile | kInt8)) return false;
    constexpr int kAsk = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kAsk, kTileData) == 0 && __builtin_cpu_supports("avx512vnni");
}

static inline bool has_amx() {
    static const bool answer = asked_for_tiles();
    return answer;
}

// All eight tiles whole: sixteen rows of 64 bytes. Each thread sets them up for itself, and lets them go.
struct alignas(64) TileShapes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {};
    std::uint8_t rows[16] = {};
    TileShapes() {
        for (int tile = 0; tile < 8; ++tile) bytes[tile] = kTileBytes, rows[tile] = kTileRows;
    }
};

#endif
