// Norm, rotary embedding, gated activations, masked logits. Inputs and outputs are bf16 or float32, everything in
// between is float32 and rounded once. A row's sum of squares adds 16 partial sums, each over every
// sixteenth element: the same for a row alone and in a batch.

#include "common.h"

namespace anzoth {
namespace {

template <typename F>
INLINE void by_type(int is_bf16, const F& body) {
    if (is_bf16)
        body(bf16{});
    else
        body(float{});
}

// y[t] = x[t] / sqrt(mean(x[t]²) + eps) · weight
template <typename T, typename W>
void rms_norm(const T* x, int64_t stride, const W* weight, T* y, int64_t rows, int64_t E,
              float eps) {
    for_each(rows, 4.0 * double(rows * E), [&](int64_t row) {
        const T* in = x + row * stride;
        T* out = y + row * E;
        Floats squares{};
        int64_t e = 0;
        for (; e + LANES <= E; e += LANES) squares += load(in + e) * load(in + e);
        float total = sum(squares);
        for (int64_t i = e; i < E; ++i) total += to_float(in[i]) * to_float(in[i]);
        float scale = 1.0f / std::sqrt(total / float(E) + eps);
        for (e = 0; e + LANES <= E; e += LANES) {
            Floats v = load(in + e) * scale;
            store(out + e, weight ? v * load(weight + e) : v);
        }
        for (; e < E; ++e) put(out + e, to_float(in[e]) * scale * (weight ? to_float(weight[e]) : 1.0f));
    });
}

// (a, b) -> (a·cos - b·sin, b·cos + a·sin) for the pairs (x[c], x[c + C]); the rest is copied.
template <typename T>
void rope(const T* x, int64_t stride, const float* cos, const float* sin, T* y, int64_t rows,
          int64_t heads, int64_t D, int64_t C) {
    for_each(rows, 6.0 * double(rows * heads * D), [&](int64_t row) {
        const float *c = cos + row * C, *s = sin + row * C;
        for (int64_t head = 0; head < heads; ++head) {
            const T* in = x + row * stride + head * D;
            T* out = y + (row * heads + head) * D;
            int64_t i = 0;
            for (; i + LANES <= C; i += LANES) {
                Floats a = load(in + i), b = load(in + C + i);
                store(out + i, a * load(c + i) - b * load(s + i));
                store(out + C + i, b * load(c + i) + a * load(s + i));
            }
            for (; i < C; ++i) {
                float a = to_float(in[i]), b = to_float(in[C + i]);
                put(out + i, a * c[i] - b * s[i]);
                put(out + C + i, b * c[i] + a * s[i]);
            }
            for (i = 2 * C; i < D; ++i) out[i] = in[i];
        }
    });
}

INLINE Floats silu(Floats x) { return x / (1.0f + exponential(-x)); }

INLINE Floats gelu_tanh(Floats x) {
    Floats bent = hyperbolic_tangent(0.7978845608028654f * (x + 0.044715f * x * x * x));
    return 0.5f * x * (1.0f + bent);
}

// y = activation(gate) · up, where a row holds gate, then up.
template <typename T, typename F>
void gated(const T* x, int64_t stride, T* y, int64_t rows, int64_t I, const F& activation) {
    for_each(rows, 30.0 * double(rows * I), [&](int64_t row) {
        const T *gate = x + row * stride, *up = gate + I;
        T* out = y + row * I;
        int64_t i = 0;
        for (; i + LANES <= I; i += LANES)
            store(out + i, activation(load(gate + i)) * load(up + i));
        if (i < I) {
            float g[LANES] = {}, lanes[LANES];
            for (int64_t j = i; j < I; ++j) g[j - i] = to_float(gate[j]);
            store(lanes, activation(load(g)));
            for (int64_t j = i; j < I; ++j) put(out + j, lanes[j - i] * to_float(up[j]));
        }
    });
}

// logits[v] = -inf where bit v is 0. Whole words of 32 are mostly one or the other.
void forbid(float* logits, const uint32_t* allowed, int64_t V) {
    const Floats never = splat(-std::numeric_limits<float>::infinity());
    Words bit;
    UNROLLED
    for (int i = 0; i < LANES; ++i) bit[i] = 1u << i;
    for (int64_t first = 0; first < V; first += 32) {
        uint32_t word = allowed[first / 32];
        if (word == 0xffffffffu) continue;
        if (first + 32 > V) {
            for (int64_t v = first; v < V; ++v)
                if (!(word >> (v - first) & 1)) logits[v] = never[0];
            return;
        }
        UNROLLED
        for (int i = 0; i < 32; i += LANES) {
            float* at = logits + first + i;
            store(at, word == 0 ? never : (((word >> i) & bit) != 0) ? load(at) : never);
        }
    }
}

}  // namespace
}  // namespace anzoth

EXPORT void anzoth_rms_norm(int is_bf16, int weight_is_bf16, const void* x, int64_t stride,
                            const void* weight, void* y, int64_t rows, int64_t E, float eps) {
    using namespace anzoth;
    by_type(is_bf16, [&](auto type) {
        by_type(weight_is_bf16, [&](auto weight_type) {
            using T = decltype(type);
            using W = decltype(weight_type);
            rms_norm(static_cast<const T*>(x), stride, static_cast<const W*>(weight),
                     static_cast<T*>(y), rows, E, eps);
        });
    });
}

EXPORT void anzoth_rope(int is_bf16, const void* x, int64_t stride, const float* cos,
                        const float* sin, void* y, int64_t rows, int64_t heads, int64_t D,
                        int64_t C) {
    using namespace anzoth;
    by_type(is_bf16, [&](auto type) {
        using T = decltype(type);
        rope(static_cast<const T*>(x), stride, cos, sin, static_cast<T*>(y), rows, heads, D, C);
    });
}

EXPORT void anzoth_gated(int is_bf16, int is_gelu, const void* x, int64_t stride, void* y,
                         int64_t rows, int64_t I) {
    using namespace anzoth;
    by_type(is_bf16, [&](auto type) {
        using T = decltype(type);
        auto in = static_cast<const T*>(x);
        auto out = static_cast<T*>(y);
        if (is_gelu)
            gated(in, stride, out, rows, I, [](Floats v) __attribute__((always_inline)) { return gelu_tanh(v); });
        else
            gated(in, stride, out, rows, I, [](Floats v) __attribute__((always_inline)) { return silu(v); });
    });
}

// For each of M rows of logits, named by its number: -inf where its mask [words] has a 0.
EXPORT void anzoth_forbid(float* logits, int64_t stride, int64_t V, const int64_t* rows,
                          const uint32_t* allowed, int64_t num_words, int64_t M) {
    using namespace anzoth;
    for_each(M, double(M * V), [&](int64_t m) {
        forbid(logits + rows[m] * stride, allowed + m * num_words, V);
    });
}
