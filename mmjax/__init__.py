"""One JAX/Flax library for multimodal generative models on TPU."""

__version__ = "0.1.0"
