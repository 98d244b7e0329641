// The pool of threads. One thread of the engine drives it; the others wait here.
//
// A waiting thread first spins for a moment, because the next kernel of a step comes within
// microseconds and waking a sleeping thread takes tens of them, and then sleeps, so that an idle
// engine, or one that waits for its gateway, leaves its cores to others.

#include <atomic>
#include <thread>
#include <vector>

#include <immintrin.h>

#include "common.h"

namespace anzoth {
namespace {

constexpr double MIN_WORK = 1 << 18;
constexpr int SPINS = 2000;  // of `pause`, 40 to 140 cycles each: 30 to 100 µs

struct Job {
    Task task;
    void* context;
    int64_t num_items;
};

struct Pool {
    Job job{};
    std::atomic<int64_t> next{0};
    std::atomic<uint32_t> generation{0};
    std::atomic<int> busy{0};
    std::vector<std::thread> threads;

    void take_part() {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < job.num_items;)
            job.task(job.context, i);
    }

    // `seen`: the generation before the first one that counts on this thread.
    void serve(uint32_t seen) {
        for (;;) {
            for (int i = 0; i < SPINS && generation.load(std::memory_order_acquire) == seen; ++i)
                _mm_pause();
            generation.wait(seen, std::memory_order_acquire);
            seen = generation.load(std::memory_order_acquire);
            take_part();
            if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
        }
    }
};

// Never destroyed: its threads wait in it until the process ends.
Pool* pool = nullptr;

}  // namespace

void parallel(int64_t num_items, double work, Task task, void* context) {
    if (pool == nullptr || pool->threads.empty() || num_items == 1 || work < MIN_WORK) {
        for (int64_t i = 0; i < num_items; ++i) task(context, i);
        return;
    }
    pool->job = {task, context, num_items};
    pool->next.store(0, std::memory_order_relaxed);
    pool->busy.store(int(pool->threads.size()), std::memory_order_relaxed);
    pool->generation.fetch_add(1, std::memory_order_release);
    pool->generation.notify_all();
    pool->take_part();
    for (int i = 0; i < SPINS && pool->busy.load(std::memory_order_acquire); ++i) _mm_pause();
    for (int left; (left = pool->busy.load(std::memory_order_acquire)) != 0;)
        pool->busy.wait(left, std::memory_order_acquire);
}

}  // namespace anzoth

// How many threads compute, the caller's own included. To be called once, before any kernel;
// later calls only ever add threads.
EXPORT void anzoth_set_num_threads(int num_threads) {
    using namespace anzoth;
    if (pool == nullptr) pool = new Pool;
    while (int(pool->threads.size()) < num_threads - 1) {
        pool->threads.emplace_back([seen = pool->generation.load()] { pool->serve(seen); });
        pool->threads.back().detach();
    }
}
