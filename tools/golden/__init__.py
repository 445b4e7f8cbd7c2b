"""Golden files: what the public PyTorch references compute with tiny random weights, forward and backward.

Each module builds one family of references; `make.py` writes their recordings to tests/parity/golden.
"""
