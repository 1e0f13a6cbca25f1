"""Compression: vectors into fewer bytes, and back.

A compressor is chosen by `kind` and returns a `Payload`. A message carries the payload's encoded bytes,
and a radio is charged for them.
"""

from p2pl_async.compression.operators import (
    AnyCompressor,
    Compressor,
    ErrorFeedback,
    Identity,
    Int8,
    Qsgd,
    RandomK,
    Sign,
    TopK,
)
from p2pl_async.compression.payload import Dense, Levels, Payload, Sparse, decode, encode, total

__all__ = [
    "AnyCompressor",
    "Compressor",
    "Dense",
    "ErrorFeedback",
    "Identity",
    "Int8",
    "Levels",
    "Payload",
    "Qsgd",
    "RandomK",
    "Sign",
    "Sparse",
    "TopK",
    "decode",
    "encode",
    "total",
]
