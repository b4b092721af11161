"""The compiled parts of comparing texts: numba kernels over UTF-8 bytes and 64-bit fingerprints."""
