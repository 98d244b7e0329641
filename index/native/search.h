// What of one file of kernels another one calls.

#pragma once

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

// The documents with one term, ascending, and how often they have it.
struct Posting {
    const uint32_t* ids;
    const uint8_t* impacts;
    const void* frequencies;
    int64_t count;
};

// bm25.cpp
EXPORT void anzoth_bm25_scores(const Posting* postings, const double* weights, int64_t num_postings,
                               int64_t frequency_bytes, const uint32_t* lengths, double k1, double b,
                               double average_length, const uint32_t* rows, int64_t num_rows, double* scores);

// dense.cpp
EXPORT void anzoth_dense_scores(const float* matrix, int64_t dimensions, const float* query, const uint32_t* rows,
                                int64_t num_rows, float* scores);

// The inner products of vectors with each other: (num_vectors, num_vectors).
void inner_products(const float* const* vectors, int64_t num_vectors, int64_t dimensions, float* products);
