#!/usr/bin/env python3
"""Records one matrix that is rounded to 8 bits whose upper 4 and 2 bits are good too: the values that WeightCalibrationTests compares with.

    python3 record_calibrated.py   # writes CalibratedMatrix.safetensors beside this file; needs torch >= 1.13

Written from the definitions of optimal brain quantization (arXiv 2208.11580, GPTQ: 2210.17323), for several bits at once: each column's
error is taken by the columns after it, by the inverse of what remains of the Hessian, which is computed anew for every column.
"""
import os
import torch
from record import save

SHARES = (1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
BITS = {8: 1.0, 4: 1.0, 2: 0.1}
ENDS = (40, 72)  # a size has 40 of the 72 columns, which end within a group
DAMPING = 0.01


def value(q8, bits):
    q4 = (q8 + 8) // 16
    return {8: q8, 4: 16 * q4, 2: (4 * (q4 // 4) + 1.5) * 16}[bits]


def nearest(wanted, scale):
    """The 8-bit number whose values at all bits are nearest, and the error, over all 248 numbers."""
    def error(q8):
        return sum(factor * (wanted[bits] - scale * value(q8, bits)) ** 2 for bits, factor in BITS.items())
    best = min(range(-128, 120), key=error)
    return best, error(best)


def calibrate_row(row, hessian):
    columns = len(row)
    importance, starts = torch.zeros(columns, dtype=torch.float64), (0, *ENDS[:-1])
    damped = {}
    for start, end in zip(starts, ENDS):
        own = hessian[start:end, start:end]
        damped[start] = own + DAMPING * own.diagonal().mean() * torch.eye(end - start, dtype=torch.float64)
        for i in range(end - start):
            importance[start + i] = 1 / torch.linalg.inv(damped[start][i:, i:])[0, 0]
    wanted = {bits: row.double().clone() for bits in BITS}
    errors = {bits: torch.zeros(columns, dtype=torch.float64) for bits in BITS}
    result, scale, anchor = torch.zeros(columns), 0.0, None
    for start, end in zip(starts, ENDS):
        for bits in BITS:
            wanted[bits][start:end] += torch.linalg.inv(damped[start]) @ hessian[start:end, :start] @ errors[bits][:start]
        for i in range(start, end):
            its = {bits: wanted[bits].tolist() for bits in BITS}
            if i % 32 == 0:
                group = range(i, min(i + 32, columns))
                part = row[i:i + 32]
                plain = torch.maximum(part.max().clamp(min=0) / 119, (-part).max().clamp(min=0) / 128).half().float()
                scales = [float((plain * torch.tensor(share)).half()) for share in SHARES]
                scale = min(scales, key=lambda s: sum(
                    float(importance[j]) * nearest({bits: its[bits][j] for bits in BITS}, s)[1] for j in group))
                anchor = max(group, key=lambda j: its[8][j] / (119 if its[8][j] > 0 else -128))
            q8 = nearest({bits: its[bits][i] for bits in BITS}, scale)[0]
            if i == anchor:
                q8 = 119 if its[8][i] > 0 else -128
            if q8 in (119, -128):
                anchor = None  # the scale follows from this number
            result[i] = scale * q8
            inverse = torch.linalg.inv(damped[start][i - start:, i - start:])
            for bits in BITS:
                rounded = scale * value(q8, bits)
                errors[bits][i] = float(row[i]) - rounded
                wanted[bits][i:end] -= (its[bits][i] - rounded) * inverse[0] / inverse[0, 0]
    return result


def main():
    torch.manual_seed(1)
    inputs = torch.randn(300, 24) @ torch.randn(24, 72) + 0.3 * torch.randn(300, 72)
    inputs[:100, ENDS[0]:] = 0  # the inputs of the smaller size
    weight = torch.randn(6, 72) * torch.tensor([0.3, 1e-3, 5.0, 0.02, 0.3, 0.3])[:, None]
    weight[4] = weight[4].abs()
    hessian = inputs.double().T @ inputs.double()
    rounded = torch.stack([calibrate_row(row, hessian) for row in weight])
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "CalibratedMatrix.safetensors")
    save(path, {"inputs": inputs, "weight": weight, "rounded": rounded})
    print("CalibratedMatrix", os.path.getsize(path), "bytes")


main()
