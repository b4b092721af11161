"""Models in the forms of other runtimes: plain transformers folders, ONNX, GGUF."""
