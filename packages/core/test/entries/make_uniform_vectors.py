"""Makes uniform-vectors.json, the integers that `uniformEntries` must reproduce.

    python make_uniform_vectors.py > uniform-vectors.json

Needs torch and numpy, 5 GB of memory and two minutes. The oracle is `torch.randperm`. The `legacy` algorithm is that of PyTorch before it
had 64-bit draws. No current PyTorch runs it for large sizes, so its vectors come from numpy's Mersenne Twister and a Fisher-Yates shuffle
over a dictionary. This is checked here against torch for small sizes, for which both algorithms are the same.
"""

import hashlib
import json
import platform
from itertools import product

import numpy
import torch

SEEDS = [0, 1, 42, 777, 2024, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 777, 2**53 + 1, 2**63, 2**64 - 1]
SEEDS += [-1, -2, -777, -(2**31), -(2**53) - 1, -(2**63)]
SHAPES = [(1, 1), (1, 2), (2, 1), (3, 5), (1, 97), (127, 131), (64, 64), (768, 768), (3072, 768), (1024, 4096)]

MODEL_CASES = [((768, 3072), 1000, 777), ((4096, 4096), 1000, 2024), ((4096, 11008), 1000, 777), ((768, 768), 400000, -5)]
LAST_NARROW = [((1, 214748363), 1000, 777), ((14653, 14655), 64, 2**40 + 3)]
WIDE_CASES = [((2, 107374182), 1000, 777), ((14336, 16384), 1000, -(2**40) - 3)]
LEGACY_CASES = [((64, 64), 100, 7), ((2, 107374182), 1000, 777), ((14336, 16384), 1000, -3), ((32768, 131072), 1000, 2024)]


def torch_values(length, n, seed):
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:n].numpy()


def legacy_values(length, n, seed):
    bits = numpy.random.MT19937()
    bits._legacy_seeding(seed % 2**32)
    displaced = {}
    values = []
    for i in range(n):
        other = i + int(bits.random_raw()) % (length - i)
        values.append(displaced.get(other, other))
        displaced[other] = displaced.get(i, i)
    return numpy.array(values, dtype=numpy.int64)


def case(values_of, shape, n, seed, **more):
    values = values_of(shape[0] * shape[1], n, seed)
    entries = numpy.stack([values // shape[1], values % shape[1]]).astype("<u4")
    return {
        "shape": list(shape),
        "n": n,
        "seed": str(seed),
        **more,
        "first": entries[:, 0].tolist(),
        "last": entries[:, -1].tolist(),
        "sha256": hashlib.sha256(entries.tobytes()).hexdigest(),
    }


def small_cases():
    for (d1, d2), (index, seed) in product(SHAPES, enumerate(SEEDS)):
        length = d1 * d2
        if length > 20000 and index % 4:
            continue
        yield (d1, d2), [1, min(length, 16), max(1, length // 2), length, min(length, 1000)][index % 5], seed


cases = [case(torch_values, *arguments) for arguments in [*small_cases(), *MODEL_CASES, *LAST_NARROW, *WIDE_CASES]]
assert numpy.array_equal(legacy_values(9973, 9973, -8), torch_values(9973, 9973, -8))
cases += [case(legacy_values, *arguments, algorithm="legacy") for arguments in LEGACY_CASES]

print('{"versions": ' + json.dumps({"torch": torch.__version__, "numpy": numpy.__version__, "python": platform.python_version()}) + ",")
print('"cases": [')
print(",\n".join(json.dumps(one) for one in cases))
print("]}")
