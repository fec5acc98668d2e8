"""Derives from the measured times what this project promises itself of them. A pure function of the JSON of times.py."""

from grid import GPU_SIZES, title

FLOOR_LIMIT, PEFT_LIMIT = 2.5, 20
KERNELS = ["token", "tile"]
FEW_SAMPLES = 5  # fewer are marked


def medians(times, names):
    """Seconds of one call for each name, whether one of them has few samples, and "graph" or "eager": all in a CUDA graph, or all from Python if one of them
    has no graph, so that only like is compared with like. None if one of them was not measured."""
    for variant in ("graph", "eager"):
        found = [times.get(name, {}).get(variant) for name in names]
        if all(found):
            return [one["median"] for one in found], any(is_few(one) for one in found), variant
    return None


def seconds(times, name):
    """The median of one call in a CUDA graph, or from Python if there is no graph; None if it was not measured."""
    found = medians(times, [name])
    return found and found[0][0]


def is_few(found):
    return found["samples"] < FEW_SAMPLES


def floor(case, bandwidth, size=2):
    """Seconds to move each activation once. Forward: x read, y read and written. Backward: x, grad_y and grad_x read, grad_x written."""
    tensors = {"forward": 3, "backward": 4, "training": 7}[case["mode"]]
    return tensors * case["tokens"] * case["d"] * size / bandwidth


def over_floor(case, kernel, bandwidth):
    """The time of the branch over its memory floor."""
    found = medians(case["times"], [f"{kernel} bfloat16"])
    if found is None or bandwidth is None:
        return "not measured"
    return found[0][0] / floor(case, bandwidth), *found[1:]


def over_lora(case, kernel, _):
    """The branch over what LoRA adds to the frozen layer."""
    found = medians(case["times"], [f"{name} bfloat16" for name in (kernel, "LoRA", "frozen")])
    if found is None:
        return "not measured"
    (branch, lora, frozen), *rest = found
    return (branch / (lora - frozen), *rest) if lora > frozen else "LoRA seems to add nothing"


def under_peft(case, kernel, _):
    """PEFT's layer from Python, over the frozen layer and the branch."""
    found = medians(case["times"], [f"{name} bfloat16" for name in (kernel, "frozen")])
    peft = case["times"].get("PEFT FourierFT bfloat16", {}).get("eager")
    if found is None or peft is None:
        return "not measured"
    return peft["median"] / sum(found[0]), found[1] or is_few(peft), found[2]


def goal(text, limit, is_at_least, expected, cases, value_of):
    """A goal for the expected (d, T, mode). It is met only if every one of them was measured and meets it; the others are named."""
    found, missing = [], []
    for size in expected:
        case = cases.get(size)
        value = "not measured" if case is None else value_of(case)
        if isinstance(value, str):
            missing.append(title(*size) if value == "not measured" else f"{title(*size)} ({value})")
        else:
            found.append({"case": title(*size), "value": value[0], "few": value[1], "variant": value[2],
                          "met": value[0] >= limit if is_at_least else value[0] <= limit})
    if not found:
        status = "not measured"
    elif not all(case["met"] for case in found):
        status = "missed"
    else:
        status = "partly measured" if missing else "met"
    return {"goal": text, "limit": limit, "status": status, "cases": found, "not measured": missing}


def grid(sizes, modes):
    return [(d, tokens, mode) for d, tokens in sorted(sizes) for mode in modes]


def goals_of(times):
    """The goals for both kernels. Times of the CPU count as not measured, as do missing ones."""
    is_measured = bool(times and times["memory"] == "cuda")
    cases = {(case["d"], case["tokens"], case["mode"]): case for case in times["sizes"]} if is_measured else {}
    bandwidth = times["ceilings"].get("copy") if is_measured and times["ceilings"] else None
    large = grid([size for size in GPU_SIZES if size[1] >= 512], ["forward", "backward"])
    from_1024 = grid([size for size in GPU_SIZES if size[0] >= 1024], ["forward", "training"])
    of_4096 = grid([size for size in GPU_SIZES if size[0] == 4096], ["forward", "training"])
    result = []
    for kernel in KERNELS:
        kinds = [(f"`{kernel}`, bfloat16, T ≥ 512: time over the memory floor, at most {FLOOR_LIMIT}", FLOOR_LIMIT, False, large, over_floor),
                 (f"`{kernel}`, bfloat16, d ≥ 1024: the branch over what PEFT LoRA (r = 8) adds, at most 1", 1, False, from_1024, over_lora),
                 (f"`{kernel}`, bfloat16, d = 4096: PEFT FourierFT, called from Python because a CUDA graph cannot hold it, over frozen layer and branch "
                  f"in CUDA graphs, at least {PEFT_LIMIT}", PEFT_LIMIT, True, of_4096, under_peft)]
        result += [goal(text, limit, is_at_least, expected, cases, lambda case, of=of, kernel=kernel: of(case, kernel, bandwidth))
                   for text, limit, is_at_least, expected, of in kinds]
    return result
