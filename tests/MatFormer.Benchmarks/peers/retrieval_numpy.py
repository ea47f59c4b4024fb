"""Exact search as one writes it with numpy: `retrieval_numpy.py FILE OFFSET ROWS WIDTH K`, float32 little-endian at OFFSET of FILE.

Says numpy's version, then answers each line `COUNT` with the seconds that COUNT queries took, one after the other.
"""
import os

# One core, as the side that it is compared with.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import sys
import time

import numpy

path, offset, rows, width, k = sys.argv[1], *map(int, sys.argv[2:])
vectors = numpy.fromfile(path, dtype="<f4", count=rows * width, offset=offset).reshape(rows, width)
queries = vectors[:: rows // 64][:64]


def search(query):
    scores = vectors @ query
    best = numpy.argpartition(scores, -k)[-k:]
    return best[numpy.argsort(-scores[best])]


print(f"numpy {numpy.__version__}", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for i in range(int(line.split()[-1])):
        search(queries[i % len(queries)])
    print(time.perf_counter() - start, flush=True)
