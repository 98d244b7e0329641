// What do all kernels share: vectors of floats, the two number types, and the pool of threads.
//
// The vectors are the compiler's own (GCC and Clang) and as wide as a register: the same source is
// compiled once for AVX2 and once for AVX-512. Every sum runs over the same
// elements in the same order whatever else is in the batch, so a row's answer does not depend, to
// the bit, on its neighbours.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define INLINE inline __attribute__((always_inline))
// Before a loop over registers: only unrolled do arrays of vectors become registers.
#define UNROLLED _Pragma("GCC unroll 16")

namespace anzoth {

#ifdef __AVX512F__
constexpr int LANES = 16, NUM_REGISTERS = 32;
#else
constexpr int LANES = 8, NUM_REGISTERS = 16;
#endif

using Floats = float __attribute__((vector_size(4 * LANES)));
using Ints = int32_t __attribute__((vector_size(4 * LANES)));
using Words = uint32_t __attribute__((vector_size(4 * LANES)));
using Halves = uint16_t __attribute__((vector_size(2 * LANES)));

struct bf16 {
    uint16_t bits;
};

INLINE Floats splat(float x) { return Floats{} + x; }

INLINE Floats load(const float* p) {
    Floats v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE Floats load(const bf16* p) {
    Halves h;
    memcpy(&h, p, sizeof h);
    return (Floats)(__builtin_convertvector(h, Words) << 16);
}

INLINE void store(float* p, Floats v) { memcpy(p, &v, sizeof v); }

// Rounds to nearest, ties to even; what is not a number stays that.
INLINE void store(bf16* p, Floats v) {
    Words w = (Words)v;
    Words rounded = (w + 0x7fff + ((w >> 16) & 1)) >> 16;
    Words nan = (w >> 16) | 0x40;
    Halves h = __builtin_convertvector((Words)((v == v) ? (Ints)rounded : (Ints)nan), Halves);
    memcpy(p, &h, sizeof h);
}

INLINE float to_float(float x) { return x; }

INLINE float to_float(bf16 x) {
    uint32_t w = uint32_t(x.bits) << 16;
    float f;
    memcpy(&f, &w, sizeof f);
    return f;
}

INLINE void put(float* p, float x) { *p = x; }

INLINE void put(bf16* p, float x) {
    uint32_t w;
    memcpy(&w, &x, sizeof w);
    p->bits = uint16_t(x == x ? (w + 0x7fff + ((w >> 16) & 1)) >> 16 : (w >> 16) | 0x40);
}

// The lanes of a vector joined into one, halves with halves: always in the same order.
template <typename F>
INLINE float across(Floats v, const F& join) {
    using Four = float __attribute__((vector_size(16)));
    Four parts[LANES / 4];
    memcpy(parts, &v, sizeof v);
    UNROLLED
    for (int width = LANES / 8; width; width /= 2)
        UNROLLED
        for (int i = 0; i < width; ++i) parts[i] = join(parts[i], parts[i + width]);
    Four turned = {parts[0][2], parts[0][3], 0, 0};
    Four two = join(parts[0], turned);
    Four last = {two[1], 0, 0, 0};
    return join(two, last)[0];
}

INLINE float sum(Floats v) {
    return across(v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}

INLINE float largest(Floats v) {
    return across(v, [](auto a, auto b) __attribute__((always_inline)) { return a < b ? b : a; });
}

INLINE Floats maximum(Floats a, Floats b) { return a < b ? b : a; }

// exp(x): x = n·ln 2 + r, a polynomial of degree 6 for exp(r) on |r| ≤ ln(2)/2 (the coefficients are
// those of Cephes' expf; relative error below 2⁻²²), 2ⁿ by its bits. Zero below -87.3, and above 88
// it stays at exp(88); what is not a number stays that.
INLINE Floats exponential(Floats x) {
    const Floats lowest = splat(-87.3f), highest = splat(88.0f);
    Floats clamped = maximum(x, lowest);
    clamped = clamped < highest ? clamped : highest;
    const Floats magic = splat(12582912.0f);  // 1.5 · 2²³: adding it rounds to a whole number
    Floats shifted = clamped * 1.44269504089f + magic;
    Floats n = shifted - magic;
    Floats r = clamped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    Floats p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Ints bits = ((Ints)shifted - (Ints)magic + 127) << 23;
    Floats y = p * (Floats)bits;
    y = x < lowest ? Floats{} : y;
    return x == x ? y : x;
}

INLINE Floats hyperbolic_tangent(Floats x) {
    // 1 - 2 / (exp(2|x|) + 1), with the sign put back; past 20 it is 1 in float.
    Floats a = x < 0.0f ? -x : x;
    Floats capped = a < 20.0f ? a : splat(20.0f);
    Floats t = 1.0f - 2.0f / (exponential(2.0f * capped) + 1.0f);
    t = a < 0.02f ? a - a * a * a * 0.33333334f : t;  // where 1 - 2/(…) would cancel
    t = x < 0.0f ? -t : t;
    return x == x ? t : x;
}

// --- threads --------------------------------------------------------------------------------

using Task = void (*)(void* context, int64_t item);

// Runs task(context, 0 … num_items - 1) on this thread and the pool's; returns when all are done.
// Items are handed out as threads become free, so they should be many or equal. `work`: about how
// many multiplications it is; below a threshold waking another thread costs more than it saves.
void parallel(int64_t num_items, double work, Task task, void* context);

template <typename F>
INLINE void for_each(int64_t num_items, double work, const F& body) {
    parallel(num_items, work, [](void* f, int64_t item) { (*static_cast<const F*>(f))(item); },
             const_cast<F*>(&body));
}

}  // namespace anzoth
