#!/usr/bin/env python3
"""Reads safetensors files that octet wrote with the `safetensors` package of PyPI (and numpy),
writes the tensors again with that package, and compares. Optional; octet itself needs no Python.

    check-safetensors.py FILE...      checks files of octet, leaves FILE.py beside each

BF16 tensors are compared but not written again: numpy has no such type.
"""
import json
import struct
import sys

import numpy as np
from safetensors import deserialize
from safetensors.numpy import save_file

NUMPY = {"F32": "<f4", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8", "F64": "<f8"}


def parse(path):
    """Header and data by hand, straight from the format's description."""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(length)), f.read()
    metadata = header.pop("__metadata__", {})
    return length, metadata, {
        name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])])
        for name, t in header.items()}


def read(path):
    with open(path, "rb") as f:
        entries = deserialize(f.read())
    return {name: (t["dtype"], list(t["shape"]), bytes(t["data"])) for name, t in entries}


def main():
    for path in sys.argv[1:]:
        length, metadata, mine = parse(path)
        assert (8 + length) % 64 == 0, f"{path}: data starts at byte {8 + length}"
        assert mine == read(path), f"{path}: the Python package reads something else"
        known = {name: t for name, t in mine.items() if t[0] in NUMPY}
        save_file({name: np.frombuffer(data, NUMPY[dtype]).reshape(shape)
                   for name, (dtype, shape, data) in known.items()}, path + ".py",
                  {k: v for k, v in metadata.items() if k != "octet.checksum"})
        assert known == read(path + ".py"), f"{path}: changed on the way through Python"
        print(f"{path}: {len(mine)} tensors, {len(metadata)} metadata entries: equal")


if __name__ == "__main__":
    main()
