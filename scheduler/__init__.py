"""The engine process: continuous batching over a paged KV cache. Knows no HTTP, no SQL, no keys."""
