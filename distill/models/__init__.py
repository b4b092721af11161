"""Models by name: where they come from, how they are loaded, and what may be cut out of them.

Importing this package is cheap; torch and transformers are imported when a model is touched.
"""

from distill.models.folder import context_length, count_parameters, load_model, load_tokenizer, model_fingerprint
from distill.models.prune import depth_prune
from distill.models.resolve import BUILT_IN, ON_HUB, resolve_model
from distill.models.weights import Weights, weights_of
from distill.resources import default_cache

__all__ = ["BUILT_IN", "ON_HUB", "Weights", "context_length", "count_parameters", "default_cache", "depth_prune",
           "load_model", "load_tokenizer", "model_fingerprint", "resolve_model", "weights_of"]
