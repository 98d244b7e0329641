"""Batches: requests in a file that are answered in the background, each once."""
