// The inner products of given vectors, and the nearest vectors by way of their codes: index/coded.py explains
// codes, and what an estimate is worth.
//
// A row's inner product has the same bits whatever else is asked for. Needs AVX2, for which it asks; without it
// nothing here may be called but `anzoth_dense_usable`. Nothing is checked: rows are below the number of rows.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "search.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))

namespace {

constexpr int64_t BLOCK = 32;        // rows whose codes lie side by side: one a byte of a register
constexpr int64_t ROWS_AHEAD = 8;    // asked of memory before they are needed
constexpr int64_t BYTES_AHEAD = 4096;
constexpr int LARGEST = 63;          // of a table: four together stay in a byte
constexpr int64_t MIXED = 64;
constexpr int64_t NUM_TURNS = 3;
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

struct Codes {
    const uint8_t* bits;  // (blocks, num_bytes, BLOCK)
    const float* factors;
    const float* offsets;
    int64_t num_blocks;
    int64_t num_bytes;  // of a row
    const float* matrix;
    int64_t dimensions;
    const float* centre;
    const int64_t* orders;  // (NUM_TURNS, 8 · num_bytes)
    const float* signs;
};

struct Hit {
    float score;
    uint32_t row;
};

bool better(const Hit& x, const Hit& y) { return x.score != y.score ? x.score > y.score : x.row < y.row; }

AVX2 float sum(__m256 x) {
    float lanes[8];
    _mm256_storeu_ps(lanes, x);
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

AVX2 float product(const float* x, const float* y, int64_t dimensions) {
    __m256 sums[4] = {};
    int64_t i = 0;
    for (; i + 32 <= dimensions; i += 32)
        for (int part = 0; part < 4; ++part)
            sums[part] = _mm256_fmadd_ps(_mm256_loadu_ps(x + i + 8 * part), _mm256_loadu_ps(y + i + 8 * part), sums[part]);
    float result = sum(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
    for (; i < dimensions; ++i) result += x[i] * y[i];
    return result;
}

void fetch(const float* vector, int64_t dimensions) {
    for (int64_t i = 0; i < dimensions; i += 16) __builtin_prefetch(vector + i);
}

// The query as codes are compared with it.
struct Turned {
    std::vector<float> direction;  // as index/coded.py turns it
    float base;                    // the same for all rows
    float length;

    AVX2 Turned(const Codes& codes, const float* query) : direction(8 * codes.num_bytes) {
        std::vector<float> before(direction.size());
        for (int64_t i = 0; i < codes.dimensions; ++i) direction[i] = query[i] - codes.centre[i];
        base = product(direction.data(), codes.centre, codes.dimensions);
        length = std::sqrt(product(direction.data(), direction.data(), codes.dimensions));
        const int64_t num_bits = int64_t(direction.size());
        for (int64_t turn = 0; turn < NUM_TURNS; ++turn) {
            before.swap(direction);
            const int64_t* order = codes.orders + turn * num_bits;
            const float* signs = codes.signs + turn * num_bits;
            for (int64_t i = 0; i < num_bits; ++i) direction[i] = before[order[i]] * signs[i];
            for (int64_t start = 0; start < num_bits; start += MIXED) mix(direction.data() + start);
        }
    }

    // The product with a Hadamard matrix of length-one rows.
    AVX2 static void mix(float* x) {
        for (int64_t half = 1; half < MIXED; half *= 2)
            for (int64_t start = 0; start < MIXED; start += 2 * half)
                for (int64_t i = start; i < start + half; ++i) {
                    const float first = x[i], second = x[i + half];
                    x[i] = first + second;
                    x[i + half] = first - second;
                }
        for (int64_t i = 0; i < MIXED; ++i) x[i] /= 8;
    }
};

// What each four bits of a code say about the inner product with the query, in steps of `step` above `least`.
struct Tables {
    std::vector<uint8_t> entries;  // 16 for each four bits
    float step, least;

    Tables(const float* turned, int64_t num_bytes) : entries(32 * num_bytes), step(0), least(0) {
        for (int64_t four = 0; four < 2 * num_bytes; ++four) {
            float reach = 0;
            for (int i = 0; i < 4; ++i) reach += std::abs(turned[4 * four + i]);
            least -= reach;
            step = std::max(step, 2 * reach / LARGEST);
        }
        if (step == 0) return;
        for (int64_t four = 0; four < 2 * num_bytes; ++four) {
            const float* x = turned + 4 * four;
            for (int code = 0; code < 16; ++code) {
                float above = 0;
                for (int i = 0; i < 4; ++i) above += (code >> i & 1) ? x[i] + std::abs(x[i]) : std::abs(x[i]) - x[i];
                entries[16 * four + code] = uint8_t(above / step + 0.5f);
            }
        }
    }
};

AVX2 __m256i looked_up(const __m128i* table, __m256i fours) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table)), fours);
}

// Estimates of all rows of a block; of those whose bit is not in `mask`, NOTHING. Returns the largest.
AVX2 float estimate(const Codes& codes, int64_t block, const Tables& tables, float base, uint32_t mask, float* estimates) {
    const __m256i low_four = _mm256_set1_epi8(15), low_byte = _mm256_set1_epi16(255);
    const uint8_t* bits = codes.bits + block * codes.num_bytes * BLOCK;
    __m256i even = _mm256_setzero_si256(), odd = even;  // rows
    for (int64_t at = 0; at < codes.num_bytes; at += 2) {
        const auto* table = reinterpret_cast<const __m128i*>(tables.entries.data() + 32 * at);
        _mm_prefetch(reinterpret_cast<const char*>(bits + at * BLOCK + BYTES_AHEAD), _MM_HINT_T0);
        __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits + at * BLOCK));
        __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits + (at + 1) * BLOCK));
        __m256i together = looked_up(table, _mm256_and_si256(x, low_four));
        together = _mm256_add_epi8(together, looked_up(table + 1, _mm256_and_si256(_mm256_srli_epi16(x, 4), low_four)));
        together = _mm256_add_epi8(together, looked_up(table + 2, _mm256_and_si256(y, low_four)));
        together = _mm256_add_epi8(together, looked_up(table + 3, _mm256_and_si256(_mm256_srli_epi16(y, 4), low_four)));
        even = _mm256_add_epi16(even, _mm256_and_si256(together, low_byte));
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(together, 8));
    }
    const __m256i first = _mm256_unpacklo_epi16(even, odd), second = _mm256_unpackhi_epi16(even, odd);
    const __m128i eights[4] = {_mm256_castsi256_si128(first), _mm256_castsi256_si128(second),
                               _mm256_extracti128_si256(first, 1), _mm256_extracti128_si256(second, 1)};
    const __m256i each_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256 largest = _mm256_set1_ps(NOTHING);
    for (int eight = 0; eight < 4; ++eight) {
        const int64_t row = block * BLOCK + 8 * eight;
        __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eights[eight]));
        x = _mm256_fmadd_ps(x, _mm256_set1_ps(tables.step), _mm256_set1_ps(tables.least));
        x = _mm256_fmadd_ps(x, _mm256_loadu_ps(codes.factors + row), _mm256_loadu_ps(codes.offsets + row));
        x = _mm256_add_ps(x, _mm256_set1_ps(base));
        __m256i own = _mm256_and_si256(_mm256_set1_epi32(int(mask >> 8 * eight & 255)), each_bit);
        x = _mm256_blendv_ps(_mm256_set1_ps(NOTHING), x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(own, each_bit)));
        _mm256_storeu_ps(estimates + row, x);
        largest = _mm256_max_ps(largest, x);
    }
    float lanes[8];
    _mm256_storeu_ps(lanes, largest);
    return *std::max_element(lanes, lanes + 8);
}

// The estimates of one query.
class Estimates {
  public:
    // `room`: BLOCK + 2 numbers of four bytes for each block.
    AVX2 Estimates(const Codes& codes, const Turned& turned, int64_t num_rows, const uint32_t* allowed,
                   int64_t num_allowed, float* room)
        : num_blocks(codes.num_blocks), maxima(room), values(room + 2 * num_blocks) {
        auto* masks = reinterpret_cast<uint32_t*>(room + num_blocks);
        std::fill(masks, masks + num_blocks, allowed ? 0 : ~0u);
        if (allowed)
            for (int64_t i = 0; i < num_allowed; ++i) masks[allowed[i] / BLOCK] |= 1u << allowed[i] % BLOCK;
        else if (num_rows % BLOCK)
            masks[num_blocks - 1] = (1u << num_rows % BLOCK) - 1;
        const Tables tables(turned.direction.data(), codes.num_bytes);
        for (int64_t block = 0; block < num_blocks; ++block)
            maxima[block] = masks[block] ? estimate(codes, block, tables, turned.base, masks[block], values) : NOTHING;
    }

    // The rows with the `count` best, in any order; all, where there are fewer.
    std::vector<Hit> best(int64_t count) const {
        float low = std::numeric_limits<float>::lowest();
        if (count <= num_blocks) {
            // As many blocks reach `low`, so as many rows do.
            std::vector<float> sorted(maxima, maxima + num_blocks);
            std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(), std::greater<>());
            low = std::max(low, sorted[count - 1]);
        }
        std::vector<Hit> hits = from(low);
        if (int64_t(hits.size()) > count) {
            std::nth_element(hits.begin(), hits.begin() + (count - 1), hits.end(), better);
            hits.resize(count);
        }
        return hits;
    }

    std::vector<Hit> from(float low) const {
        std::vector<Hit> hits;
        for (int64_t block = 0; block < num_blocks; ++block) {
            if (!(maxima[block] >= low)) continue;
            for (int64_t row = block * BLOCK; row < (block + 1) * BLOCK; ++row)
                if (values[row] >= low) hits.push_back({values[row], uint32_t(row)});
        }
        return hits;
    }

  private:
    const int64_t num_blocks;
    float* const maxima;
    float* const values;
};

// The best of the rows that were looked at.
class Best {
  public:
    explicit Best(int64_t k) : k(size_t(k)) {}

    void add(Hit hit) {
        if (hits.size() == k) {
            if (!better(hit, hits.front())) return;
            std::pop_heap(hits.begin(), hits.end(), better);
            hits.pop_back();
        }
        hits.push_back(hit);
        std::push_heap(hits.begin(), hits.end(), better);
    }

    // What a row must reach to be of them.
    float least() const { return hits.size() == k ? hits.front().score : NOTHING; }

    int64_t give(uint32_t* rows, float* scores) {
        std::sort(hits.begin(), hits.end(), better);
        for (size_t i = 0; i < hits.size(); ++i) {
            rows[i] = hits[i].row;
            scores[i] = hits[i].score;
        }
        return int64_t(hits.size());
    }

  private:
    const size_t k;
    std::vector<Hit> hits;
};

}  // namespace

EXPORT int64_t anzoth_dense_usable() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// `rows` null: all, in order.
EXPORT AVX2 void anzoth_dense_scores(const float* matrix, int64_t dimensions, const float* query, const uint32_t* rows,
                                     int64_t num_rows, float* scores) {
    const auto vector = [&](int64_t i) { return matrix + (rows ? int64_t(rows[i]) : i) * dimensions; };
    for (int64_t i = 0; i < std::min(num_rows, ROWS_AHEAD); ++i) fetch(vector(i), dimensions);
    for (int64_t i = 0; i < num_rows; ++i) {
        if (i + ROWS_AHEAD < num_rows) fetch(vector(i + ROWS_AHEAD), dimensions);
        scores[i] = product(vector(i), query, dimensions);
    }
}

AVX2 void inner_products(const float* const* vectors, int64_t num_vectors, int64_t dimensions, float* products) {
    constexpr int64_t WIDE = 3, HIGH = 4;
    const int64_t stride = (dimensions + 7) / 8 * 8, last = num_vectors - 1;
    std::vector<float> packed(num_vectors * stride);
    for (int64_t i = 0; i < num_vectors; ++i) {
        if (i + ROWS_AHEAD < num_vectors) fetch(vectors[i + ROWS_AHEAD], dimensions);
        std::copy(vectors[i], vectors[i] + dimensions, packed.data() + i * stride);
    }
    const auto row = [&](int64_t i) { return packed.data() + std::min(i, last) * stride; };
    for (int64_t i = 0; i < num_vectors; i += HIGH)
        for (int64_t j = 0; j < i + HIGH; j += WIDE) {
            const float *high[HIGH], *wide[WIDE];
            for (int64_t a = 0; a < HIGH; ++a) high[a] = row(i + a);
            for (int64_t b = 0; b < WIDE; ++b) wide[b] = row(j + b);
            __m256 sums[HIGH][WIDE] = {};
            for (int64_t at = 0; at < stride; at += 8) {
                __m256 theirs[WIDE];
#pragma GCC unroll 3
                for (int64_t b = 0; b < WIDE; ++b) theirs[b] = _mm256_loadu_ps(wide[b] + at);
#pragma GCC unroll 4
                for (int64_t a = 0; a < HIGH; ++a) {
                    const __m256 own = _mm256_loadu_ps(high[a] + at);
#pragma GCC unroll 3
                    for (int64_t b = 0; b < WIDE; ++b) sums[a][b] = _mm256_fmadd_ps(own, theirs[b], sums[a][b]);
                }
            }
#pragma GCC unroll 4
            for (int64_t a = 0; a < HIGH; ++a)
#pragma GCC unroll 3
                for (int64_t b = 0; b < WIDE; ++b)
                    if (i + a <= last && j + b <= i + a)
                        products[(i + a) * num_vectors + j + b] = products[(j + b) * num_vectors + i + a] = sum(sums[a][b]);
        }
}

EXPORT AVX2 void anzoth_dense_estimates(const Codes* codes, const float* query, int64_t num_rows, float* room) {
    Estimates(*codes, Turned(*codes, query), num_rows, nullptr, 0, room);
}

// The k ≥ 1 nearest rows but for those whose estimate is below by more than `deviation` of their factor and of the
// query's distance from the centre. `allowed` lists the rows that may be found, ascending; null: all. Returns how many rows it gave, at most k.
EXPORT AVX2 int64_t anzoth_dense_nearest(const Codes* codes, const float* query, float deviation, float rounding,
                                         float largest_factor, int64_t num_rows, const uint32_t* allowed,
                                         int64_t num_allowed, int64_t k, float* room, uint32_t* rows_out,
                                         float* scores_out) {
    const Turned turned(*codes, query);
    const float margin = deviation * turned.length;
    const Estimates estimates(*codes, turned, num_rows, allowed, num_allowed, room);
    const float* matrix = codes->matrix;
    const int64_t dimensions = codes->dimensions;
    const auto vector = [&](const Hit& hit) { return matrix + int64_t(hit.row) * dimensions; };
    Best found(k);
    std::vector<Hit> first = estimates.best(2 * k);
    for (const Hit& hit : first) fetch(vector(hit), dimensions);
    for (const Hit& hit : first) found.add({product(vector(hit), query, dimensions), hit.row});
    if (int64_t(first.size()) < 2 * k) return found.give(rows_out, scores_out);

    const float widest = margin * largest_factor + rounding;
    const Hit worst = *std::max_element(first.begin(), first.end(), better);
    std::vector<Hit> others = estimates.from(found.least() - widest);
    std::erase_if(others, [&](const Hit& hit) { return !better(worst, hit); });
    std::sort(others.begin(), others.end(), better);
    const int64_t count = int64_t(others.size());
    for (int64_t i = 0; i < std::min(count, ROWS_AHEAD); ++i) fetch(vector(others[i]), dimensions);
    for (int64_t i = 0; i < count && others[i].score >= found.least() - widest; ++i) {
        if (i + ROWS_AHEAD < count) fetch(vector(others[i + ROWS_AHEAD]), dimensions);
        const float reach = others[i].score + margin * codes->factors[others[i].row] + rounding;
        if (reach >= found.least()) found.add({product(vector(others[i]), query, dimensions), others[i].row});
    }
    return found.give(rows_out, scores_out);
}

#else

EXPORT int64_t anzoth_dense_usable() { return 0; }
EXPORT void anzoth_dense_scores(const float*, int64_t, const float*, const uint32_t*, int64_t, float*) {}
void inner_products(const float* const*, int64_t, int64_t, float*) {}
EXPORT void anzoth_dense_estimates() {}
EXPORT void anzoth_dense_nearest() {}

#endif
