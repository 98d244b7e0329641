"""Kernels for CPU tensors."""
