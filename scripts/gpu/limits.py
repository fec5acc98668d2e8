"""How far a kernel's float32 result may be from the equations. Derived, not fitted, as in packages/native/test/cuda-test.cc.

A transform of length d in float32 loses about 2^-24 log2(d) of its input's norm. A result has four such losses: two transforms, the sparse step and
the addition. Each addition to an output of 16 or 32 bits rounds once more.
"""

import math

import torch

# Half the distance between 1 and the next number, and half the smallest number.
UNIT = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SMALLEST = {torch.float32: 2.0**-150, torch.float16: 2.0**-25, torch.bfloat16: 2.0**-134}


def loss(shape):
    """The relative loss of a result for a layer of shape (d1, d2)."""
    return 4 * 2.0**-24 * max(1.0, math.log2(shape[0] * shape[1]))


def norm_of_delta(coefficients, scalings, shape):
    """A bound of ΔW's norm, by Parseval's equation: alpha |c| / sqrt(d1 d2), summed over adapters."""
    return float((coefficients.double().norm(dim=1) * scalings.double()).sum()) / math.sqrt(shape[0] * shape[1])


def compare(findings, found, base, changes, bound, relative, name, kind):
    """Compares in two ways. Each number: its error is at most `bound` (no single number can take more than the whole loss), and the roundings of the
    output. All together: the norm of the error is at most `relative` of the norms of the changes, and the roundings.

    `base`: what the output contained before, in its format; None if it is only written. `changes`: what is added to it, in float64. They may be added
    one after another, each sum rounded to the format of the output.
    """
    unit, smallest = UNIT[found.dtype], SMALLEST[found.dtype]
    expected = torch.zeros_like(found, dtype=torch.float64) if base is None else base.double()
    rounded = torch.zeros_like(expected)
    for change in changes:
        expected = expected + change
        rounded += unit * (expected.abs() + bound) + smallest
    error = (found.double() - expected).abs()
    limit = bound + rounded
    part = (error / limit).max() if error.numel() > 0 else torch.zeros(())
    # A NaN anywhere has to be seen: maximum of PyTorch propagates it.
    findings.within(float(part), 1.0, f"{name}, largest error as a part of its limit", kind)
    norm_limit = relative * sum(float(change.norm()) for change in changes) + float((rounded - len(changes) * unit * bound).norm())
    findings.within(float(error.norm()), norm_limit, f"{name}, norm of the error", f"{kind}, norm")
