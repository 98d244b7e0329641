// The best documents of a BM25 query, and the scores of given documents: what index/bm25.py computes, which
// explains the method and is the reference. Both do the same operations in the same order on doubles, so they
// agree to the last bit (the compiler must not fuse multiply and add: -ffp-contract=off).
//
// Nothing is checked here: ids ascend strictly and are below num_documents, rows ascend.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "search.h"

namespace {

constexpr int64_t BLOCK = 64;
// Where rows are fewer than one in so many of a term's documents, seeking beats looking at all of them.
constexpr int64_t SCAN = 64;
constexpr double ROUNDING = 1e-9, NARROWING = 1e-6;

struct Query {
    const Posting* postings;
    const double* weights;
    int64_t num_postings;
    int64_t frequency_bytes;
    const uint32_t* lengths;
    double k1, b, average_length;
};

struct Hit {
    float score;
    uint32_t row;
};

bool better(const Hit& x, const Hit& y) { return x.score != y.score ? x.score > y.score : x.row < y.row; }

// The first position at or behind `from` whose id is at least `row`: by doubling steps up or down from where it would
// be if there were an id in every 1 / density documents, then by bisection.
int64_t seek(const uint32_t* ids, int64_t from, int64_t count, uint32_t row, double density) {
    if (from == count || ids[from] >= row) return from;
    int64_t low = from + 1, high = std::min(count, from + int64_t(density * double(row - ids[from]))), step = 1;
    high = std::max(low, high);
    if (high < count && ids[high] < row) {
        for (; high < count && ids[high] < row; step *= 2) {
            low = high + 1;
            high = std::min(count, high + step);
        }
    } else {
        for (; high - step >= low && ids[high - step] >= row; step *= 2) high -= step;
        if (high - step >= low) low = high - step + 1;
    }
    return std::lower_bound(ids + low, ids + high, row) - ids;
}

// Where among the rows a document stands, from 1; 0: it is not among them. All 0 between calls.
class Slots {
  public:
    Slots(uint32_t* slots, const uint32_t* rows, int64_t num_rows) : slots(slots), rows(rows), num_rows(num_rows) {
        if (slots)
            for (int64_t r = 0; r < num_rows; ++r) slots[rows[r]] = uint32_t(r + 1);
    }
    ~Slots() {
        if (slots)
            for (int64_t r = 0; r < num_rows; ++r) slots[rows[r]] = 0;
    }
    Slots(const Slots&) = delete;

    uint32_t* const slots;
    const uint32_t* const rows;
    const int64_t num_rows;
};

template <typename F>
void add_posting(const Query& query, int64_t t, const Slots& among, double* scores) {
    const Posting& posting = query.postings[t];
    const F* frequencies = static_cast<const F*>(posting.frequencies);
    const double weight = query.weights[t];
    const auto add = [&](int64_t at, int64_t r) {
        double tf = double(frequencies[at]);
        double norm = query.k1 * ((1.0 - query.b) + query.b * (double(query.lengths[posting.ids[at]]) / query.average_length));
        scores[r] += weight * (tf / (tf + norm));
    };
    if (among.slots && posting.count < SCAN * among.num_rows) {
        for (int64_t at = 0; at < posting.count; ++at)
            if (uint32_t slot = among.slots[posting.ids[at]]) add(at, slot - 1);
        return;
    }
    const uint32_t* rows = among.rows;
    const double density = double(posting.count) / (double(posting.ids[posting.count - 1]) + 1);
    int64_t at = 0, r = 0;
    while (r < among.num_rows) {
        at = seek(posting.ids, at, posting.count, rows[r], density);
        if (at == posting.count) return;
        if (posting.ids[at] == rows[r])
            add(at, r++);
        else
            r = seek(rows, r, among.num_rows, posting.ids[at], 0);
    }
}

void exact(const Query& query, const Slots& among, double* scores) {
    std::fill(scores, scores + among.num_rows, 0.0);
    for (int64_t t = 0; t < query.num_postings; ++t) {
        if (query.frequency_bytes == 1)
            add_posting<uint8_t>(query, t, among, scores);
        else if (query.frequency_bytes == 2)
            add_posting<uint16_t>(query, t, among, scores);
        else
            add_posting<uint32_t>(query, t, among, scores);
    }
}

void add_hits(const Query& query, const std::vector<uint32_t>& rows, std::vector<double>& scores, std::vector<Hit>& hits) {
    scores.resize(rows.size());
    exact(query, Slots(nullptr, rows.data(), int64_t(rows.size())), scores.data());
    for (size_t r = 0; r < rows.size(); ++r)
        if (scores[r] > 0.0) hits.push_back({float(scores[r]), rows[r]});
}

// Adds to each document the upper bounds of what its terms give it.
void accumulate(const Query& query, double scale, double loosening, const Slots& allowed, uint16_t* sums) {
    double saturations[256];
    uint16_t bounds[256];
    for (int q = 0; q < 256; ++q) {
        double x = q / 255.0;
        saturations[q] = x / (x + loosening * (1.0 - x));
    }
    for (int64_t t = 0; t < query.num_postings; ++t) {
        const Posting& posting = query.postings[t];
        const double unit = scale * query.weights[t] * (1.0 + ROUNDING);
        for (int q = 0; q < 256; ++q) bounds[q] = uint16_t(int32_t(unit * saturations[q]) + 1);
        const uint32_t* ids = posting.ids;
        const uint8_t* impacts = posting.impacts;
        if (allowed.slots)
            for (int64_t i = 0; i < posting.count; ++i)
                sums[ids[i]] += uint16_t(bounds[impacts[i]] & -int(allowed.slots[ids[i]] != 0));
        else
            for (int64_t i = 0; i < posting.count; ++i) sums[ids[i]] += bounds[impacts[i]];
    }
}

// Documents with low ≤ sum < high, in order, out of the blocks that hold a sum of `low`.
template <typename Take>
void between(const uint16_t* sums, const std::vector<uint16_t>& maxima, uint32_t low, uint32_t high, const Take& take) {
    for (size_t block = 0; block < maxima.size(); ++block) {
        if (maxima[block] < low) continue;
        for (int64_t i = block * BLOCK; i < int64_t(block + 1) * BLOCK; ++i)
            if (sums[i] >= low && sums[i] < high) take(uint32_t(i));
    }
}

int64_t give(std::vector<Hit>& hits, int64_t k, uint32_t* rows, float* scores) {
    int64_t count = std::min(k, int64_t(hits.size()));
    std::partial_sort(hits.begin(), hits.begin() + count, hits.end(), better);
    for (int64_t i = 0; i < count; ++i) {
        rows[i] = hits[i].row;
        scores[i] = hits[i].score;
    }
    return count;
}

uint16_t kth_largest(std::vector<uint16_t> values, int64_t k) {
    std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<>());
    return values[k - 1];
}

int64_t pruned(const Query& query, int64_t num_documents, double scale, double loosening, const Slots& allowed,
               uint16_t* sums, int64_t k, uint32_t* rows_out, float* scores_out) {
    const int64_t num_blocks = (num_documents + BLOCK - 1) / BLOCK;
    memset(sums, 0, size_t(num_blocks * BLOCK) * sizeof *sums);
    accumulate(query, scale, loosening, allowed, sums);

    std::vector<uint16_t> maxima(num_blocks);
    for (int64_t block = 0; block < num_blocks; ++block) {
        uint16_t most = 0;
        for (int64_t i = 0; i < BLOCK; ++i) most = std::max(most, sums[block * BLOCK + i]);
        maxima[block] = most;
    }
    // k blocks reach `low`, so k documents do; among those the k-th largest sum itself is found.
    uint32_t low = k <= num_blocks ? std::max<uint32_t>(1, kth_largest(maxima, k)) : 1;
    std::vector<uint16_t> reached;
    between(sums, maxima, low, 65536, [&](uint32_t row) { reached.push_back(sums[row]); });
    if (int64_t(reached.size()) > k) low = kth_largest(std::move(reached), k);

    std::vector<uint32_t> rows;
    std::vector<double> scores;
    std::vector<Hit> hits;
    between(sums, maxima, low, 65536, [&](uint32_t row) { rows.push_back(row); });
    add_hits(query, rows, scores, hits);
    // Whoever is to reach the k-th score must have at least its sum.
    uint32_t cut = 1;
    if (int64_t(hits.size()) >= k) {
        std::nth_element(hits.begin(), hits.begin() + (k - 1), hits.end(), better);
        cut = std::max(1u, uint32_t(std::floor(scale * double(hits[k - 1].score) * (1.0 - NARROWING))));
    }
    if (cut < low) {
        rows.clear();
        between(sums, maxima, cut, low, [&](uint32_t row) { rows.push_back(row); });
        add_hits(query, rows, scores, hits);
    }
    return give(hits, k, rows_out, scores_out);
}

}  // namespace

EXPORT void anzoth_bm25_scores(const Posting* postings, const double* weights, int64_t num_postings,
                               int64_t frequency_bytes, const uint32_t* lengths, double k1, double b,
                               double average_length, const uint32_t* rows, int64_t num_rows, double* scores) {
    exact({postings, weights, num_postings, frequency_bytes, lengths, k1, b, average_length},
          Slots(nullptr, rows, num_rows), scores);
}

// `allowed` lists the rows that may be found, and `slots` is a zero for each document; both null: all may.
// `scale` 0: every allowed row is scored exactly. Returns how many rows it gave, at most k.
EXPORT int64_t anzoth_bm25_top_k(const Posting* postings, const double* weights, int64_t num_postings,
                                 int64_t frequency_bytes, const uint32_t* lengths, double k1, double b,
                                 double average_length, int64_t num_documents, double scale, double loosening,
                                 uint16_t* sums, uint32_t* slots, const uint32_t* allowed, int64_t num_allowed,
                                 int64_t k, uint32_t* rows_out, float* scores_out) {
    Query query{postings, weights, num_postings, frequency_bytes, lengths, k1, b, average_length};
    Slots among(slots, allowed, num_allowed);
    if (scale != 0.0) return pruned(query, num_documents, scale, loosening, among, sums, k, rows_out, scores_out);
    std::vector<double> scores(num_allowed);
    std::vector<Hit> hits;
    exact(query, among, scores.data());
    for (int64_t r = 0; r < num_allowed; ++r)
        if (scores[r] > 0.0) hits.push_back({float(scores[r]), allowed[r]});
    return give(hits, k, rows_out, scores_out);
}
