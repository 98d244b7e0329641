// The calibrated fusion of two rankings: what index/fusion.py computes, which explains it and is the reference.
// Sums are of doubles and in its order, so that evidence agrees to the last bit, and ties with it.
//
// Between the two halves the caller multiplies the vectors of the best rows with each other. Nothing is checked.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Positions in the order of falling values, equal ones by position; of the first `count` of them.
template <typename T>
void order(const T* values, int64_t num_values, int64_t count, int32_t* positions) {
    std::vector<int32_t> all(num_values);
    std::iota(all.begin(), all.end(), 0);
    std::partial_sort(all.begin(), all.begin() + count, all.end(), [&](int32_t x, int32_t y) {
        return values[x] != values[y] ? values[x] > values[y] : x < y;
    });
    std::copy(all.begin(), all.begin() + count, positions);
}

// What a row's nearest among the others add to its evidence: a part of the way to their mean, weighted by similarity,
// which is less where they are less alike than `alike` on average.
double pull(const float* similarities, const double* evidence, int64_t num_rows, int64_t own, int64_t num_neighbours,
            double neighbours_part, double alike, double least_weight) {
    int32_t nearest[16];
    int64_t count = 0;
    for (int64_t row = 0; row < num_rows; ++row) {
        if (row == own || (count == num_neighbours && similarities[row] <= similarities[nearest[count - 1]])) continue;
        int64_t at = count < num_neighbours ? count++ : count - 1;
        for (; at > 0 && similarities[nearest[at - 1]] < similarities[row]; --at) nearest[at] = nearest[at - 1];
        nearest[at] = int32_t(row);
    }
    double sum = 0, weights = 0;
    for (int64_t i = 0; i < count; ++i) {
        double weight = std::max(similarities[nearest[i]], float(least_weight));
        sum += weight * evidence[nearest[i]];
        weights += weight;
    }
    double part = neighbours_part * std::min(1.0, weights / (double(num_neighbours) * alike));
    return part * (sum / weights - evidence[own]);
}

}  // namespace

// Of the rows of either list, ascending: the evidence, and the position in each list or -1; and the positions of the
// best, `num_smoothed` or as many as there are. A leg whose `unit` is 0 has no say. Returns how many rows there are.
EXPORT int64_t anzoth_fusion_evidence(const uint32_t* dense_rows, const float* dense_scores, int64_t num_dense,
                                      const uint32_t* sparse_rows, const float* sparse_scores, int64_t num_sparse,
                                      double background, double dense_range, double sparse_unit, int64_t num_smoothed,
                                      uint32_t* rows, double* evidence, int32_t* in_dense, int32_t* in_sparse,
                                      int32_t* best) {
    std::vector<uint32_t> both(dense_rows, dense_rows + num_dense);
    both.insert(both.end(), sparse_rows, sparse_rows + num_sparse);
    std::sort(both.begin(), both.end());
    both.erase(std::unique(both.begin(), both.end()), both.end());
    const int64_t num_rows = int64_t(both.size());
    std::copy(both.begin(), both.end(), rows);
    std::fill(in_dense, in_dense + num_rows, -1);
    std::fill(in_sparse, in_sparse + num_rows, -1);
    const auto at = [&](uint32_t row) { return std::lower_bound(both.begin(), both.end(), row) - both.begin(); };
    for (int64_t i = 0; i < num_dense; ++i) in_dense[at(dense_rows[i])] = int32_t(i);
    for (int64_t i = 0; i < num_sparse; ++i) in_sparse[at(sparse_rows[i])] = int32_t(i);

    const int num_legs = (num_dense > 0) + (sparse_unit != 0);
    for (int64_t i = 0; i < num_rows; ++i) {
        double sum = 0;
        if (num_dense) sum += ((in_dense[i] < 0 ? background : double(dense_scores[in_dense[i]])) - background) / dense_range;
        if (sparse_unit != 0) sum += (in_sparse[i] < 0 ? 0.0 : double(sparse_scores[in_sparse[i]])) * sparse_unit;
        evidence[i] = sum / std::max(1, num_legs);
    }
    order(evidence, num_rows, std::min(num_rows, num_smoothed), best);
    return num_rows;
}

// The k best by probability: their positions among the rows. `probabilities` is of all rows. `similarities`
// is (num_best, num_best), or null: nothing is smoothed. num_neighbours ≤ 16.
EXPORT void anzoth_fusion_best(const double* evidence, int64_t num_rows, const int32_t* best, int64_t num_best,
                               const float* similarities, int64_t num_neighbours, double neighbours_part,
                               double alike, double least_weight, double slope, double centre, double* probabilities,
                               int64_t k, int32_t* positions) {
    std::copy(evidence, evidence + num_rows, probabilities);
    if (similarities) {
        std::vector<double> own(num_best);
        for (int64_t i = 0; i < num_best; ++i) own[i] = evidence[best[i]];
        for (int64_t i = 0; i < num_best; ++i) {
            probabilities[best[i]] += pull(similarities + i * num_best, own.data(), num_best, i, num_neighbours,
                                           neighbours_part, alike, least_weight);
        }
    }
    for (int64_t i = 0; i < num_rows; ++i) probabilities[i] = 1 / (1 + std::exp(-slope * (probabilities[i] - centre)));
    order(probabilities, num_rows, k, positions);
}
