#!/usr/bin/env python3
"""Records what NestedRoundingTests compares with: nested rounding by numpy, written from its definition.

    python3 record_rounding.py    # prints the numbers of the test; needs numpy, nothing else
"""
import numpy as np

def weights(count, factor):
    """The weights of the test: fractions that repeat after 257 columns, with exact ties among them."""
    i = np.arange(count, dtype=np.int64)
    return ((i * i * 37 + i * 11 + 5) % 257 - 128).astype(np.float32) / np.float32(64) * np.float32(factor)

def round_row(row):
    q8, scales = [], []
    for start in range(0, len(row), 32):
        group = row[start:start + 32]
        positive, negative = np.float32(max(0, group.max())), np.float32(max(0, (-group).max()))
        with np.errstate(over="ignore"):
            scale = max(positive / np.float32(119), negative / np.float32(128)).astype(np.float16)
        if np.isinf(scale): scale = np.float16(65504)
        scales.append(scale)
        if scale == 0: q8 += [0] * len(group)
        else: q8 += list(np.clip(np.rint(group / scale.astype(np.float32)), -128, 119).astype(int))
    q8 = np.array(q8)
    per_weight = np.repeat(np.array(scales, dtype=np.float32), 32)[:len(row)]
    q4 = (q8 + 8) >> 4
    q2 = q4 >> 2
    values = {8: q8 * per_weight, 4: q4 * np.float32(16) * per_weight, 2: (4 * q2 + np.float32(1.5)) * np.float32(16) * per_weight}
    return q8, scales, {bits: v.astype(np.float32) for bits, v in values.items()}

if __name__ == "__main__":
    for factor in (1.0, 1e-3, 1e-6, 3e7, 0.0):
        q8, scales, values = round_row(weights(75, factor))
        print(f"factor {factor}")
        print("  scales", ", ".join(f"0x{int(s.view(np.uint16)):04x}" for s in scales))
        print("  q8", ", ".join(str(q) for q in q8))
        for bits, v in values.items():
            print(f"  {bits} bits", ", ".join(f"0x{int(x):08x}" for x in v.view(np.uint32)[::9]))
