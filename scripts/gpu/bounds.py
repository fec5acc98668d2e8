"""What limits the kernels on a device, for bfloat16 activations: the bytes and operations of a token, from formulas, divided by the rates of the device.
The times are lower bounds of a forward call: launches, latencies and barriers come on top. The model is that of packages/native/cuda/roofline.js."""

import math

ENTRIES = 1000
# kernel: (is it a tile kernel, tokens in a block)
KERNELS = {"token": (False, 1), "tile_1": (True, 1), "tile_2": (True, 2)}
# Instructions of a butterfly without its twiddles.
BUTTERFLY = {2: 4, 3: 16, 4: 16, 5: 40, 6: 52, 8: 56, 16: 168}
# Random addresses of a warp fall into the same bank: the mean of the fullest of 16 (8 bytes) and of 32 (4 bytes).
CONFLICT_8, CONFLICT_4 = 3.1, 3.5
PIPE_BYTES = 128  # of shared memory and the level-1 cache, which are one unit, in a cycle of a multiprocessor


def float32_lanes(architecture):
    """Float32 instructions in a cycle of a multiprocessor."""
    return 64 if architecture in ("70", "72", "75", "80") else 128


def radices(n, is_tile):
    """The radices of n, as packages/native/src/plan.cc chooses them."""
    found = []
    for radix in ([16] if is_tile else []) + [8, 6, 4, 3, 2, 5]:
        while n % radix == 0 and n > 1:
            found.append(radix)
            n //= radix
    if not is_tile:
        return found
    if 2 in found and 16 in found:
        found[found.index(2)] = 4
        found[found.index(16)] = 8
    return sorted(found)


def bank_conflicts(n, length, radix):
    """The average number of accesses to the busiest bank when the threads of half a warp read or write one stage."""
    quotient, accesses, cycles = length // radix, 0, 0
    for first in range(0, n // radix, 16):
        for k in range(radix):
            banks = [0] * 16
            for u in range(first, min(first + 16, n // radix)):
                element = u // quotient * length + u % quotient + k * quotient
                banks[(element + (element >> 4)) % 16] += 1
            cycles += max(banks)
            accesses += 1
    return cycles / accesses


def costs(d, kernel):
    """Bytes of shared memory and instructions of one token of a forward call of a d × d layer, d even."""
    is_tile, tokens = KERNELS[kernel]
    half = d // 2
    share = 1 - (1 - 1 / (half + 1)) ** ENTRIES  # of the frequencies that are used
    used = (half + 1) * share
    pairs = half / 2 * (1 - (1 - share) ** 2)  # pairs of frequencies of which one is used
    length, stages = half, []
    for radix in radices(half, is_tile):
        conflicts = bank_conflicts(half, length, radix)
        length //= radix
        stages.append((radix, 8 * half * conflicts, 0 if length == 1 else half / radix * (radix - 1)))
    twiddles = sum(count for _, _, count in stages)
    # Each stage of both transforms reads and writes shared memory. The outermost ones of a tile kernel read and write rows instead; the token kernel
    # copies rows first and last. The split reads, and writes the slots; the sparse step reads slots, and writes the spectrum.
    shared = (4 * sum(bytes_ for _, bytes_, _ in stages) + (-2 * stages[0][1] if is_tile else 16 * half)
              + 2 * 8 * pairs * CONFLICT_8 + 8 * used + 8 * ENTRIES * CONFLICT_8 + 8 * half * CONFLICT_8)
    # Twiddles, the pairs of both sides, terms, and the coefficients, which are copied to shared memory and read there.
    tables = 2 * 8 * twiddles + 24 * pairs + 32 * (half / 2) + 8 * ENTRIES + 4 * (2 + CONFLICT_4) * ENTRIES
    arithmetic = 2 * sum(half / radix * BUTTERFLY[radix] + 4 * count for radix, _, count in stages) + 2 * ENTRIES + 16 * pairs + 8 * half
    return shared + tables / tokens + 6 * d, arithmetic


def bounds(d, tokens, kernel, gpu):
    """Seconds that shared memory and the arithmetic need at least. `gpu`: its multiprocessors, clock in Hz and architecture."""
    in_block = KERNELS[kernel][1]
    # The multiprocessor with the most blocks decides.
    busiest = math.ceil(math.ceil(tokens / in_block) / gpu["multiprocessors"]) * in_block
    pipe, instructions = costs(d, kernel)
    return busiest * pipe / (PIPE_BYTES * gpu["clock"]), busiest * instructions / (float32_lanes(gpu["architecture"]) * gpu["clock"])
