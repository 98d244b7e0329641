// The calibrated fusion of what two legs found in a collection: what index/candidates.py and index/fusion.py compute,
// which explain it and are the reference. Sums are of doubles and in their order, so that evidence agrees to the last
// bit, and ties with it.
//
// One call does it all, because each of many would find its code and data pushed out of the caches by the search
// before. Nothing is checked. Needs what dense.cpp needs.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "search.h"

namespace {

constexpr int64_t MOST_NEIGHBOURS = 16;
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

struct Part {
    int64_t first_row;  // in the numbers of the collection
    const int64_t* numbers;
    const int64_t* files;
    const float* matrix;
    const uint32_t* lengths;
    int64_t frequency_bytes;
};

struct List {
    const uint32_t* rows;
    const float* scores;
    int64_t count;
};

struct Collection {
    const Part* parts;
    int64_t num_parts;
    int64_t dimensions;
};

// What a query is in the parts, one after the other.
struct Query {
    const float* vector;  // null: it has none
    const Posting* postings;
    const double* weights;
    const int64_t* nums_postings;  // of each part; null: it has no words
    double k1, b, average_length;
};

struct Method {
    double background, dense_range, sparse_unit;
    int64_t num_smoothed, num_neighbours;
    double neighbours_part, alike, least_weight, slope, centre;
};

struct Hit {
    int64_t number;
    int64_t file;
    double score;
    int32_t dense_rank;  // from 1; 0: not in that list
    float dense_score;
    int32_t sparse_rank;
    float sparse_score;
};

// The rows of either list, ascending, and their scores by both.
class Candidates {
  public:
    Candidates(const Collection& collection, const Query& query, const List& dense, const List& sparse)
        : collection(collection) {
        rows.assign(dense.rows, dense.rows + dense.count);
        rows.insert(rows.end(), sparse.rows, sparse.rows + sparse.count);
        std::sort(rows.begin(), rows.end());
        rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
        dense_scores.resize(rows.size());
        sparse_scores.resize(rows.size());
        starts.push_back(0);
        for (int64_t part = 1; part < collection.num_parts; ++part)
            starts.push_back(std::lower_bound(rows.begin(), rows.end(), collection.parts[part].first_row) - rows.begin());
        starts.push_back(int64_t(rows.size()));
        if (query.vector)
            complete(dense, dense_scores, [&](int64_t part, const std::vector<uint32_t>& own, float* scores) {
                anzoth_dense_scores(collection.parts[part].matrix, collection.dimensions, query.vector, own.data(),
                                    int64_t(own.size()), scores);
            });
        if (query.nums_postings) score_words(query, sparse);
    }

    int64_t size() const { return int64_t(rows.size()); }

    int64_t dimensions() const { return collection.dimensions; }

    const Part& part(int64_t at) const {
        return collection.parts[std::upper_bound(starts.begin() + 1, starts.end() - 1, at) - starts.begin() - 1];
    }

    int64_t own_row(int64_t at) const { return int64_t(rows[at]) - part(at).first_row; }

    const float* vector(int64_t at) const { return part(at).matrix + own_row(at) * collection.dimensions; }

    std::vector<uint32_t> rows;
    std::vector<float> dense_scores, sparse_scores;

  private:
    // The scores that a list gives, and of the other rows those that `compute` gives them.
    template <typename Compute>
    void complete(const List& list, std::vector<float>& scores, const Compute& compute) {
        std::vector<char> is_known(rows.size());
        for (int64_t i = 0; i < list.count; ++i) {
            const int64_t at = std::lower_bound(rows.begin(), rows.end(), list.rows[i]) - rows.begin();
            scores[at] = list.scores[i];
            is_known[at] = 1;
        }
        std::vector<uint32_t> own;
        std::vector<float> computed;
        for (int64_t part = 0; part < collection.num_parts; ++part) {
            own.clear();
            for (int64_t at = starts[part]; at < starts[part + 1]; ++at)
                if (!is_known[at]) own.push_back(uint32_t(rows[at] - collection.parts[part].first_row));
            computed.resize(own.size());
            compute(part, own, computed.data());
            const float* next = computed.data();
            for (int64_t at = starts[part]; at < starts[part + 1]; ++at)
                if (!is_known[at]) scores[at] = *next++;
        }
    }

    void score_words(const Query& query, const List& sparse) {
        const Posting* postings = query.postings;
        const double* weights = query.weights;
        std::vector<double> exact;
        complete(sparse, sparse_scores, [&](int64_t part, const std::vector<uint32_t>& own, float* scores) {
            const Part& its = collection.parts[part];
            const int64_t num_postings = query.nums_postings[part];
            exact.resize(own.size());
            anzoth_bm25_scores(postings, weights, num_postings, its.frequency_bytes, its.lengths, query.k1, query.b,
                               query.average_length, own.data(), int64_t(own.size()), exact.data());
            std::copy(exact.begin(), exact.end(), scores);
            postings += num_postings;
            weights += num_postings;
        });
    }

    const Collection& collection;
    std::vector<int64_t> starts;  // of each part's among the rows; last, how many there are
};

// The first `count` positions in the order of falling values, equal ones by position.
std::vector<int32_t> order(const std::vector<double>& values, int64_t count) {
    std::vector<int32_t> positions(values.size());
    std::iota(positions.begin(), positions.end(), 0);
    const auto before = [&](int32_t x, int32_t y) { return values[x] != values[y] ? values[x] > values[y] : x < y; };
    std::nth_element(positions.begin(), positions.begin() + count, positions.end(), before);
    positions.resize(count);
    std::sort(positions.begin(), positions.end(), before);
    return positions;
}

// Where in that order a position stands, from 1. Quicker than sorting, for as few as are asked for.
int32_t rank(const std::vector<float>& scores, int64_t at) {
    const float own = scores[at];
    const auto better = std::count_if(scores.begin() + at, scores.end(), [&](float score) { return score > own; });
    return int32_t(1 + better + std::count_if(scores.begin(), scores.begin() + at, [&](float score) { return score >= own; }));
}

// A leg that lists nothing has no say.
std::vector<double> evidence(const Candidates& candidates, bool dense_says, bool sparse_says, const Method& method) {
    const int num_legs = dense_says + sparse_says;
    std::vector<double> evidence(candidates.rows.size());
    for (size_t i = 0; i < evidence.size(); ++i) {
        double sum = 0;
        if (dense_says) sum += (double(candidates.dense_scores[i]) - method.background) / method.dense_range;
        if (sparse_says) sum += double(candidates.sparse_scores[i]) * method.sparse_unit;
        evidence[i] = sum / std::max(1, num_legs);
    }
    return evidence;
}

// What a row's nearest among the others add to its evidence: a part of the way to their mean, weighted by similarity,
// which is less where they are less alike than `alike` on average. The row's similarity to itself is no number.
double pull(const float* similarities, const std::vector<double>& evidence, int64_t own, const Method& method) {
    int32_t nearest[MOST_NEIGHBOURS];
    int64_t count = 0;
    float bar = NOTHING;  // what the next of them must be above
    for (int64_t row = 0; row < int64_t(evidence.size()); ++row) {
        if (!(similarities[row] > bar)) continue;
        int64_t at = count < method.num_neighbours ? count++ : count - 1;
        for (; at > 0 && similarities[nearest[at - 1]] < similarities[row]; --at) nearest[at] = nearest[at - 1];
        nearest[at] = int32_t(row);
        if (count == method.num_neighbours) bar = similarities[nearest[count - 1]];
    }
    double sum = 0, weights = 0;
    for (int64_t i = 0; i < count; ++i) {
        double weight = std::max(similarities[nearest[i]], float(method.least_weight));
        sum += weight * evidence[nearest[i]];
        weights += weight;
    }
    const double part = method.neighbours_part * std::min(1.0, weights / (double(method.num_neighbours) * method.alike));
    return part * (sum / weights - evidence[own]);
}

void smooth(const Candidates& candidates, std::vector<double>& evidence, const Method& method) {
    const int64_t num_best = std::min(candidates.size(), method.num_smoothed);
    if (num_best < 2) return;
    const std::vector<int32_t> best = order(evidence, num_best);
    std::vector<const float*> vectors;
    std::vector<double> own;
    for (int32_t at : best) {
        vectors.push_back(candidates.vector(at));
        own.push_back(evidence[at]);
    }
    std::vector<float> similarities(num_best * num_best);
    inner_products(vectors.data(), num_best, candidates.dimensions(), similarities.data());
    for (int64_t i = 0; i < num_best; ++i) similarities[i * num_best + i] = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < num_best; ++i)
        evidence[best[i]] += pull(similarities.data() + i * num_best, own, i, method);
}

}  // namespace

// The best k of the rows in either list of candidates. num_neighbours ≤ 16. Returns how many it gave.
EXPORT int64_t anzoth_fuse(const Part* parts, int64_t num_parts, int64_t dimensions, const float* vector,
                           const Posting* postings, const double* weights, const int64_t* nums_postings, double k1,
                           double b, double average_length, const uint32_t* dense_rows, const float* dense_scores,
                           int64_t num_dense, const uint32_t* sparse_rows, const float* sparse_scores,
                           int64_t num_sparse, const Method* method, int64_t k, Hit* hits) {
    const Collection collection{parts, num_parts, dimensions};
    const Query query{vector, postings, weights, nums_postings, k1, b, average_length};
    const Candidates candidates(collection, query, {dense_rows, dense_scores, num_dense},
                                {sparse_rows, sparse_scores, num_sparse});
    const std::vector<float>& words = candidates.sparse_scores;
    const bool has_words = std::any_of(words.begin(), words.end(), [](float score) { return score > 0; });
    std::vector<double> scores = evidence(candidates, vector, has_words && method->sparse_unit != 0, *method);
    smooth(candidates, scores, *method);
    for (double& score : scores) score = 1 / (1 + std::exp(-method->slope * (score - method->centre)));

    const std::vector<int32_t> best = order(scores, std::min(k, candidates.size()));
    for (int32_t at : best)
        *hits++ = {candidates.part(at).numbers[candidates.own_row(at)],
                   candidates.part(at).files[candidates.own_row(at)],
                   scores[at],
                   vector ? rank(candidates.dense_scores, at) : 0,
                   candidates.dense_scores[at],
                   words[at] > 0 ? rank(words, at) : 0,
                   words[at]};
    return int64_t(best.size());
}
