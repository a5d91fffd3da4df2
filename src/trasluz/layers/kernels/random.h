// What is dropped out, of whichever width `each_width.h` includes this for: a function of a seed and of the place, so
// that the backward pass drops the same without having kept it, and whoever shares the work.

// So many numbers below 2^32, one a place from `place` on: the finalizer of MurmurHash3 (Appleby 2011), the seed's upper
// half entering between its two rounds.
static inline Bits random_bits(std::uint64_t seed, std::uint64_t place) {
    Bits x = kCounting + static_cast<std::uint32_t>(place) + static_cast<std::uint32_t>(seed);
    x = (x ^ (x >> 16)) * 0x85ebca6b;
    x ^= static_cast<std::uint32_t>(seed >> 32);
    x = (x ^ (x >> 13)) * 0xc2b2ae35;
    return x ^ (x >> 16);
}

// x where a place's number is at least `dropped`, scaled up by `scale`; else 0.
static inline Vec kept(Vec x, std::uint64_t seed, std::uint64_t place, std::uint32_t dropped, float scale) {
    return (Vec)((Bits)(x * scale) & (Bits)(random_bits(seed, place) >= dropped));
}
