"""Embeddings in two dimensions, to be looked at."""

import torch
from sklearn.decomposition import PCA


def in_two_dimensions(embeddings: torch.Tensor) -> list[list[float]]:
    """Return the two principal components of embeddings (texts × width), rounded; the same for the same embeddings."""
    found = PCA(n_components=2, svd_solver="full").fit_transform(embeddings.float().numpy())
    return [[round(float(value), 3) for value in point] for point in found]
