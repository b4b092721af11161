"""Embeddings in two dimensions, to be looked at."""

import torch
from sklearn.decomposition import PCA


def in_two_dimensions(embeddings: torch.Tensor) -> list[list[float]]:
    """Return the two principal components of embeddings (texts × width), rounded; the same for the same embeddings."""
    if min(embeddings.shape) < 2:
        return [[0.0, 0.0] for _ in embeddings]
    found = PCA(n_components=2, svd_solver="full").fit_transform(embeddings.float().numpy())
    return [[round(float(value), 3) for value in point] for point in found]
