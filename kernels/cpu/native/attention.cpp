// Attention over a paged KV cache, for decodes and prompt chunks alike.
//
//     out[t, h] = Σ_p softmax_p(cap(scale · q[t, h] · k[p, h/G])) v[p, h/G]
//
// over the positions p that token t may see: (position(t) - window, position(t)].
//
// Values lie in the cache as [slot][K][D]. Keys lie in granules of 16 slots, [granule][K][D][16], so
// that the lanes of a register are positions and a dot product needs no sum across them. A block of
// a sequence is a whole number of granules.
//
// One item of work is (sequence, key/value head, some of its queries): the queries of the G heads
// that share the head are rows of one small matrix. It walks the context in runs of 64 positions,
// beginning at a multiple of 64, with a running maximum and sum per row (Milakov and Gimelshein,
// 2018). What happens to a row in a run depends on nothing but the row and the run; runs in which it
// sees nothing leave it as it is. So its answer is the same alone, in a batch, and however its
// prompt was cut, to the bit. Slots past a context are never multiplied with: what lies there cannot
// reach an answer.

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "common.h"

namespace anzoth {
namespace {

constexpr int GRANULE = 16;
constexpr int RUN = 64;
constexpr int VECTORS = RUN / LANES;
constexpr int ROWS_AT_ONCE = NUM_REGISTERS == 32 ? 4 : 1;
constexpr int MAX_ITEM_ROWS = 32;  // keys and values are widened to floats once for so many

struct Layout {
    const int64_t* query_starts;  // [S + 1]
    const int64_t* context_lens;  // [S]
    const int64_t* block_tables;  // [S, table_stride]
    int64_t table_stride;
    int64_t num_sequences;
    int64_t block_size;
};

struct Shape {
    int64_t H, K, D;
    int64_t padded_D;
    float scale, softcap;  // softcap 0: none
    int64_t window;        // 0: none
    int64_t group() const { return H / K; }
};

// What one item works in. Kept per thread: a step must not allocate.
struct Scratch {
    std::vector<float> floats;
    float *q, *k, *v, *scores, *out, *maxima, *sums;

    void fit(int64_t rows, int64_t D) {
        floats.resize(size_t(2 * rows * D + 2 * RUN * D + rows * (RUN + 2)));
        float* next = floats.data();
        auto take = [&](int64_t size) { return std::exchange(next, next + size); };
        q = take(rows * D), out = take(rows * D), k = take(RUN * D), v = take(RUN * D);
        scores = take(rows * RUN), maxima = take(rows), sums = take(rows);
    }
};

// Keys [D][64] and values [64][D] of one run, as floats. Positions past the context are zero.
template <typename T>
void read_run(const T* keys, const T* values, const Layout& layout, const Shape& shape,
              int64_t sequence, int64_t head, int64_t first, int64_t context_len, Scratch& to) {
    const int64_t* table = layout.block_tables + sequence * layout.table_stride;
    for (int64_t g = 0; g < RUN; g += GRANULE) {
        int64_t position = first + g;
        int64_t num = std::clamp<int64_t>(context_len - position, 0, GRANULE);
        if (num == 0) {
            for (int64_t d = 0; d < shape.D; ++d) std::fill_n(to.k + d * RUN + g, GRANULE, 0.0f);
            continue;
        }
        int64_t slot = table[position / layout.block_size] * layout.block_size +
                       position % layout.block_size;
        const T* k = keys + (slot / GRANULE * shape.K + head) * shape.D * GRANULE;
        for (int64_t d = 0; d < shape.D; ++d)
            for (int i = 0; i < GRANULE; i += LANES)
                store(to.k + d * RUN + g + i, load(k + d * GRANULE + i));
        const T* v = values + (slot * shape.K + head) * shape.D;
        for (int64_t i = 0; i < num; ++i, v += shape.K * shape.D) {
            float* row = to.v + (g + i) * shape.padded_D;
            int64_t d = 0;
            for (; d + LANES <= shape.D; d += LANES) store(row + d, load(v + d));
            for (; d < shape.D; ++d) row[d] = to_float(v[d]);
        }
    }
}

// scores[rows][64] = q · k
template <int ROWS>
INLINE void dot(const float* q, const float* k, float* scores, int64_t D, int64_t stride) {
    Floats sums[ROWS][VECTORS] = {};
    for (int64_t d = 0; d < D; ++d)
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) {
            Floats key = load(k + d * RUN + v * LANES);
            UNROLLED
            for (int r = 0; r < ROWS; ++r) sums[r][v] += key * q[r * stride + d];
        }
    UNROLLED
    for (int r = 0; r < ROWS; ++r)
        UNROLLED
        for (int v = 0; v < VECTORS; ++v) store(scores + r * RUN + v * LANES, sums[r][v]);
}

// out[rows][NUM · LANES] += weights[rows][0, last) · values
template <int ROWS, int NUM>
INLINE void add_weighted(const float* weights, const float* values, float* out, int64_t last,
                         int64_t stride) {
    Floats sums[ROWS][NUM];
    UNROLLED
    for (int r = 0; r < ROWS; ++r)
        UNROLLED
        for (int v = 0; v < NUM; ++v) sums[r][v] = load(out + r * stride + v * LANES);
    for (int64_t i = 0; i < last; ++i)
        UNROLLED
        for (int v = 0; v < NUM; ++v) {
            Floats value = load(values + i * stride + v * LANES);
            UNROLLED
            for (int r = 0; r < ROWS; ++r) sums[r][v] += value * weights[r * RUN + i];
        }
    UNROLLED
    for (int r = 0; r < ROWS; ++r)
        UNROLLED
        for (int v = 0; v < NUM; ++v) store(out + r * stride + v * LANES, sums[r][v]);
}

template <int ROWS>
INLINE void add_all(const float* weights, const float* values, float* out, int64_t last,
                    int64_t stride) {
    int64_t d = 0;
    for (; d + 4 * LANES <= stride; d += 4 * LANES)
        add_weighted<ROWS, 4>(weights, values + d, out + d, last, stride);
    for (; d < stride; d += LANES)
        add_weighted<ROWS, 1>(weights, values + d, out + d, last, stride);
}

// Scores of a run become weights: exp(score - maximum), 0 where the row must not look. Whatever the
// row has summed so far is scaled down when the maximum rises.
INLINE void weigh(float* scores, float* out, float& maximum_so_far, float& sum_so_far,
                  int64_t first, int64_t last, float softcap, int64_t stride) {
    Ints lane;
    for (int i = 0; i < LANES; ++i) lane[i] = i;
    const Floats never = splat(-std::numeric_limits<float>::infinity());
    Floats capped[VECTORS], top = never;
    for (int v = 0; v < VECTORS; ++v) {
        Floats s = load(scores + v * LANES);
        if (softcap != 0.0f) s = softcap * hyperbolic_tangent(s / softcap);
        Ints at = lane + v * LANES;
        capped[v] = (at >= int32_t(first)) & (at < int32_t(last)) ? s : never;
        top = maximum(top, capped[v]);
    }
    float new_maximum = std::max(maximum_so_far, largest(top));
    if (new_maximum == -std::numeric_limits<float>::infinity()) {  // it has seen nothing yet
        std::fill_n(scores, RUN, 0.0f);
        return;
    }
    Floats total{};
    for (int v = 0; v < VECTORS; ++v) {
        Floats weight = exponential(capped[v] - new_maximum);
        store(scores + v * LANES, weight);
        total += weight;
    }
    if (new_maximum != maximum_so_far) {
        float factor = std::exp(maximum_so_far - new_maximum);
        sum_so_far *= factor;
        for (int64_t d = 0; d < stride; d += LANES) store(out + d, load(out + d) * factor);
        maximum_so_far = new_maximum;
    }
    sum_so_far += sum(total);
}

// body(number of rows, as a constant)
template <typename F>
INLINE void by_rows(int num, const F& body) {
    if constexpr (ROWS_AT_ONCE == 1) return body(std::integral_constant<int, 1>{});
    switch (num) {
        case 1: return body(std::integral_constant<int, 1>{});
        case 2: return body(std::integral_constant<int, 2>{});
        case 3: return body(std::integral_constant<int, 3>{});
        default: return body(std::integral_constant<int, 4>{});
    }
}

struct Item {
    int64_t sequence, head, first_query, num_queries;
};

template <typename T>
void attend(const Item& item, const T* q, int64_t q_stride, const T* keys, const T* values,
            T* out, const Layout& layout, const Shape& shape) {
    static thread_local Scratch scratch;
    const int64_t G = shape.group(), D = shape.D, stride = shape.padded_D;
    const int64_t num_rows = item.num_queries * G;
    scratch.fit(num_rows, stride);
    int64_t begin = layout.query_starts[item.sequence];
    int64_t num_queries = layout.query_starts[item.sequence + 1] - begin;
    int64_t context_len = layout.context_lens[item.sequence];
    int64_t first_position = context_len - num_queries + item.first_query;
    begin += item.first_query;

    std::fill_n(scratch.out, num_rows * stride, 0.0f);
    std::fill_n(scratch.v, RUN * stride, 0.0f);
    std::fill_n(scratch.maxima, num_rows, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch.sums, num_rows, 0.0f);
    for (int64_t row = 0; row < num_rows; ++row) {
        const T* from = q + (begin + row / G) * q_stride + (item.head * G + row % G) * D;
        for (int64_t d = 0; d < D; ++d)
            scratch.q[row * stride + d] = to_float(from[d]) * shape.scale;
    }
    auto first_visible = [&](int64_t position) {
        return shape.window ? std::max<int64_t>(0, position - shape.window + 1) : 0;
    };
    int64_t last_position = first_position + item.num_queries - 1;
    for (int64_t run = first_visible(first_position) / RUN * RUN; run <= last_position;
         run += RUN) {
        read_run(keys, values, layout, shape, item.sequence, item.head, run, last_position + 1,
                 scratch);
        int64_t seen_by_any = std::min<int64_t>(RUN, last_position + 1 - run);
        for (int64_t row = 0; row < num_rows; row += ROWS_AT_ONCE) {
            int num = int(std::min<int64_t>(ROWS_AT_ONCE, num_rows - row));
            float* scores = scratch.scores + row * RUN;
            by_rows(num, [&](auto rows) {
                dot<rows>(scratch.q + row * stride, scratch.k, scores, D, stride);
            });
            for (int64_t r = row; r < row + num; ++r) {
                int64_t position = first_position + r / G;
                weigh(scratch.scores + r * RUN, scratch.out + r * stride, scratch.maxima[r],
                      scratch.sums[r], first_visible(position) - run, position + 1 - run,
                      shape.softcap, stride);
            }
            by_rows(num, [&](auto rows) {
                add_all<rows>(scores, scratch.v, scratch.out + row * stride, seen_by_any, stride);
            });
        }
    }
    for (int64_t row = 0; row < num_rows; ++row) {
        T* to = out + ((begin + row / G) * shape.H + item.head * G + row % G) * D;
        const float* sums = scratch.out + row * stride;
        float factor = 1.0f / scratch.sums[row];
        for (int64_t d = 0; d < D; ++d) put(to + d, sums[d] * factor);
    }
}

template <typename T>
void attend_all(const void* q, int64_t q_stride, const void* keys, const void* values, void* out,
                const Layout& layout, const Shape& shape) {
    static thread_local std::vector<Item> items;
    items.clear();
    double work = 0;
    // So many queries that their rows fill the registers.
    const int64_t G = shape.group(), whole = ROWS_AT_ONCE / std::gcd(G, int64_t(ROWS_AT_ONCE));
    const int64_t at_once = std::max<int64_t>(1, MAX_ITEM_ROWS / (G * whole)) * whole;
    for (int64_t s = 0; s < layout.num_sequences; ++s) {
        int64_t num_queries = layout.query_starts[s + 1] - layout.query_starts[s];
        work += 2.0 * double(num_queries * layout.context_lens[s] * shape.H * shape.D);
        for (int64_t head = 0; head < shape.K; ++head)
            for (int64_t first = 0; first < num_queries; first += at_once)
                items.push_back({s, head, first, std::min(at_once, num_queries - first)});
    }
    const Item* all = items.data();
    for_each(int64_t(items.size()), work, [&](int64_t i) {
        attend(all[i], static_cast<const T*>(q), q_stride, static_cast<const T*>(keys),
               static_cast<const T*>(values), static_cast<T*>(out), layout, shape);
    });
}

template <typename T>
void write(const T* k, int64_t k_stride, const T* v, int64_t v_stride, const int64_t* slots,
           int64_t num_rows, T* keys, T* values, int64_t K, int64_t D) {
    for (int64_t row = 0; row < num_rows; ++row) {
        int64_t slot = slots[row];
        T* to = keys + slot / GRANULE * K * D * GRANULE + slot % GRANULE;
        for (int64_t i = 0; i < K * D; ++i) to[i * GRANULE] = k[row * k_stride + i];
        memcpy(values + slot * K * D, v + row * v_stride, size_t(K * D) * sizeof *v);
    }
}

}  // namespace
}  // namespace anzoth

// Stores the keys and values [rows, K, D] of some tokens in their slots.
EXPORT void anzoth_write_kv(int is_bf16, const void* k, int64_t k_stride, const void* v,
                            int64_t v_stride, const int64_t* slots, int64_t num_rows, void* keys,
                            void* values, int64_t K, int64_t D) {
    using namespace anzoth;
    if (is_bf16)
        write(static_cast<const bf16*>(k), k_stride, static_cast<const bf16*>(v), v_stride, slots,
              num_rows, static_cast<bf16*>(keys), static_cast<bf16*>(values), K, D);
    else
        write(static_cast<const float*>(k), k_stride, static_cast<const float*>(v), v_stride, slots,
              num_rows, static_cast<float*>(keys), static_cast<float*>(values), K, D);
}

// q [T, H, D] with a stride between tokens, out [T, H, D] contiguous; rows of no sequence are not
// written. block_size is a multiple of 16.
EXPORT void anzoth_paged_attention(int is_bf16, const void* q, int64_t q_stride, const void* keys,
                                   const void* values, void* out, int64_t H, int64_t K, int64_t D,
                                   const int64_t* query_starts, const int64_t* context_lens,
                                   const int64_t* block_tables, int64_t table_stride,
                                   int64_t num_sequences, int64_t block_size, float scale,
                                   float softcap, int64_t window) {
    using namespace anzoth;
    Layout layout{query_starts, context_lens, block_tables, table_stride, num_sequences,
                  block_size};
    Shape shape{H, K, D, (D + LANES - 1) / LANES * LANES, scale, softcap, window};
    if (is_bf16)
        attend_all<bf16>(q, q_stride, keys, values, out, layout, shape);
    else
        attend_all<float>(q, q_stride, keys, values, out, layout, shape);
}
