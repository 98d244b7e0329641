// y = x Wᵀ + b, with the weight packed once and read in one stream.
//
//     y[m, n] = bias[n] + Σ_k x[m, k] · w[n, k]      sums in float32, k ascending
//
// Weights lie in panels of two registers of outputs: [panel][k][PANEL]. In bf16 two neighbours in k share a 32-bit
// word (the even one below), so that one load and one shift or mask each give two vectors of
// floats. The rows of x are widened to float32 and turned into tiles [k][rows], of as many rows as
// the registers hold sums for. Each sum is one chain of fused multiply-adds: the same for any
// number of rows, which is why padding is not needed for equal answers.
//
// The work is cut into (block of rows, panel). A panel stays in the second-level cache while the
// tiles of a block pass by it; the tiles stay in the third.

#include <algorithm>
#include <utility>
#include <vector>

#include "common.h"

namespace anzoth {
namespace {

constexpr int PANEL = 2 * LANES;
// Two sums for each row, the two registers of weights in both halves, a mask, a broadcast.
constexpr int MAX_ROWS = NUM_REGISTERS == 32 ? 12 : 5;
constexpr int TILES = 16;  // in a block of rows
constexpr double MIN_ITEM = 1 << 16;

int64_t even(int64_t k) { return k + (k & 1); }

template <int ROWS>
INLINE void multiply_add(Floats (&sums)[ROWS][2], Floats w0, Floats w1, const float* x) {
    UNROLLED
    for (int r = 0; r < ROWS; ++r) {
        sums[r][0] += w0 * x[r];
        sums[r][1] += w1 * x[r];
    }
}

template <int ROWS>
INLINE void accumulate(Floats (&sums)[ROWS][2], const bf16* panel, const float* x, int64_t K) {
    const Words high = Words{} + 0xffff0000u;
    for (int64_t k = 0; k < K; k += 2, panel += 2 * PANEL, x += 2 * ROWS) {
        Words a, b;
        memcpy(&a, panel, sizeof a);
        memcpy(&b, panel + 2 * LANES, sizeof b);
        multiply_add<ROWS>(sums, (Floats)(a << 16), (Floats)(b << 16), x);
        multiply_add<ROWS>(sums, (Floats)(a & high), (Floats)(b & high), x + ROWS);
    }
}

template <int ROWS>
INLINE void accumulate(Floats (&sums)[ROWS][2], const float* panel, const float* x, int64_t K) {
    for (int64_t k = 0; k < K; ++k, panel += PANEL, x += ROWS)
        multiply_add<ROWS>(sums, load(panel), load(panel + LANES), x);
}

struct Output {
    void* rows;
    bool is_bf16;
    int64_t stride;
    const float* bias;  // or null
    int64_t N;
};

template <typename T>
INLINE void write(T* out, const Floats (&sums)[2], const float* bias, int64_t num) {
    if (num >= PANEL) {
        for (int v = 0; v < 2; ++v)
            store(out + v * LANES, bias ? sums[v] + load(bias + v * LANES) : sums[v]);
        return;
    }
    float lanes[PANEL];
    store(lanes, sums[0]);
    store(lanes + LANES, sums[1]);
    for (int64_t n = 0; n < num; ++n) put(out + n, bias ? lanes[n] + bias[n] : lanes[n]);
}

template <typename W, int ROWS>
void tile(const W* panel, const float* x, int64_t K, const Output& out, int64_t row, int64_t n) {
    Floats sums[ROWS][2] = {};
    accumulate<ROWS>(sums, panel, x, K);
    UNROLLED
    for (int r = 0; r < ROWS; ++r) {
        const float* bias = out.bias ? out.bias + n : nullptr;
        int64_t at = (row + r) * out.stride + n;
        if (out.is_bf16)
            write(static_cast<bf16*>(out.rows) + at, sums[r], bias, out.N - n);
        else
            write(static_cast<float*>(out.rows) + at, sums[r], bias, out.N - n);
    }
}

template <typename W>
using Tile = void (*)(const W*, const float*, int64_t, const Output&, int64_t, int64_t);

template <typename W, int... I>
Tile<W> tile_of(int rows, std::integer_sequence<int, I...>) {
    static constexpr Tile<W> table[] = {tile<W, I + 1>...};
    return table[rows - 1];
}

template <typename X>
void turn(const X* x, int64_t stride, int64_t rows, int64_t K, float* tile) {
    for (int64_t k = 0; k < K; ++k)
        for (int64_t r = 0; r < rows; ++r) tile[k * rows + r] = to_float(x[r * stride + k]);
    if (K & 1) std::fill_n(tile + K * rows, rows, 0.0f);
}

template <typename W>
void linear(const void* x, bool x_is_bf16, int64_t M, int64_t K, int64_t x_stride, const W* packed,
            const Output& out) {
    static thread_local std::vector<float> tiles;  // kept: a step must not allocate
    tiles.resize(size_t(M * even(K)));
    int64_t num_tiles = (M + MAX_ROWS - 1) / MAX_ROWS;
    float* all_tiles = tiles.data();
    auto rows_of = [&](int64_t t) { return std::min<int64_t>(MAX_ROWS, M - t * MAX_ROWS); };
    for_each(num_tiles, double(M * K), [&](int64_t t) {
        int64_t first = t * MAX_ROWS;
        float* to = all_tiles + first * even(K);
        if (x_is_bf16)
            turn(static_cast<const bf16*>(x) + first * x_stride, x_stride, rows_of(t), K, to);
        else
            turn(static_cast<const float*>(x) + first * x_stride, x_stride, rows_of(t), K, to);
    });

    int64_t num_panels = (out.N + PANEL - 1) / PANEL;
    int64_t num_blocks = (num_tiles + TILES - 1) / TILES;
    double work = double(M) * double(K) * double(out.N);
    // Several panels to an item where one is too little to be handed out.
    int64_t at_once = std::max<int64_t>(1, int64_t(MIN_ITEM / (double(M) * double(K) * PANEL)));
    int64_t num_groups = (num_panels + at_once - 1) / at_once;
    for_each(num_blocks * num_groups, work, [&](int64_t item) {
        int64_t block = item / num_groups, group = item % num_groups;
        int64_t last_panel = std::min(num_panels, (group + 1) * at_once);
        int64_t last_tile = std::min<int64_t>(num_tiles, (block + 1) * TILES);
        for (int64_t p = group * at_once; p < last_panel; ++p)
            for (int64_t t = block * TILES; t < last_tile; ++t) {
                auto multiply =
                    tile_of<W>(int(rows_of(t)), std::make_integer_sequence<int, MAX_ROWS>{});
                int64_t depth = sizeof(W) == 2 ? even(K) : K;
                multiply(packed + p * depth * PANEL, all_tiles + t * MAX_ROWS * even(K), K, out,
                         t * MAX_ROWS, p * PANEL);
            }
    });
}

}  // namespace
}  // namespace anzoth

// How many elements (of the weight's own type) the packed form of a [N, K] weight has.
EXPORT int64_t anzoth_packed_size(int is_bf16, int64_t N, int64_t K) {
    using namespace anzoth;
    return (N + PANEL - 1) / PANEL * PANEL * (is_bf16 ? even(K) : K);
}

// weight [N, K], contiguous -> packed; outputs past N are zero.
EXPORT void anzoth_pack(int is_bf16, const void* weight, int64_t N, int64_t K, void* packed) {
    using namespace anzoth;
    int64_t num_panels = (N + PANEL - 1) / PANEL;
    for_each(num_panels, double(N * K), [&](int64_t p) {
        int64_t num = std::min<int64_t>(PANEL, N - p * PANEL);
        if (is_bf16) {
            bf16* to = static_cast<bf16*>(packed) + p * PANEL * even(K);
            memset(to, 0, size_t(PANEL * even(K)) * sizeof *to);
            const bf16* from = static_cast<const bf16*>(weight) + p * PANEL * K;
            for (int64_t n = 0; n < num; ++n)
                for (int64_t k = 0; k < K; ++k)
                    to[(k / 2 * PANEL + n) * 2 + (k & 1)] = from[n * K + k];
        } else {
            float* to = static_cast<float*>(packed) + p * PANEL * K;
            memset(to, 0, size_t(PANEL * K) * sizeof *to);
            const float* from = static_cast<const float*>(weight) + p * PANEL * K;
            for (int64_t n = 0; n < num; ++n)
                for (int64_t k = 0; k < K; ++k) to[k * PANEL + n] = from[n * K + k];
        }
    });
}

// out [M, N] = x [M, K] · weightᵀ + bias. Strides are in elements; bias is float32 or null. x and
// out may each be bf16 or float32, whatever the weight is.
EXPORT void anzoth_linear(int weight_is_bf16, const void* packed, const float* bias, int64_t N,
                          int64_t K, int x_is_bf16, const void* x, int64_t x_stride, int64_t M,
                          int out_is_bf16, void* out, int64_t out_stride) {
    using namespace anzoth;
    Output output{out, out_is_bf16 != 0, out_stride, bias, N};
    if (weight_is_bf16)
        linear(x, x_is_bf16 != 0, M, K, x_stride, static_cast<const bf16*>(packed), output);
    else
        linear(x, x_is_bf16 != 0, M, K, x_stride, static_cast<const float*>(packed), output);
}
