"""Derives from the measured times what this project promises itself of them. A pure function of the JSON of times.py."""

FLOOR_LIMIT, PEFT_LIMIT = 2.5, 20
KERNELS = ["token", "tile"]


def seconds(times, name):
    """The median of one call in a CUDA graph, or from Python if there is no graph; None if it was not measured."""
    found = times.get(name, {})
    chosen = found.get("graph") or found.get("eager")
    return chosen and chosen["median"]


def floor(case, bandwidth, size=2):
    """Seconds to move each activation once. Forward: x read, y read and written. Backward: x, grad_y and grad_x read, grad_x written."""
    tensors = {"forward": 3, "backward": 4, "training": 7}[case["mode"]]
    return tensors * case["tokens"] * case["d"] * size / bandwidth


def title(case):
    return f"d = {case['d']}, T = {case['tokens']}, {case['mode']}"


def goal(text, limit, is_at_least, found):
    """A goal with its cases (title, value or None). It is met if every measured case meets it; cases without a value are named."""
    cases = [{"case": name, "value": value, "met": (value >= limit) if is_at_least else (value <= limit)} for name, value in found if value is not None]
    status = "not measured" if not cases else "met" if all(case["met"] for case in cases) else "missed"
    return {"goal": text, "limit": limit, "status": status, "cases": cases, "not measured": [name for name, value in found if value is None]}


def over_floor(times, kernel):
    bandwidth = times["ceilings"]["copy"]
    for case in times["sizes"]:
        if case["tokens"] >= 512 and case["mode"] in ("forward", "backward"):
            found = seconds(case["times"], f"{kernel} bfloat16")
            yield title(case), found and found / floor(case, bandwidth)


def over_lora(times, kernel):
    """The branch over what LoRA adds to the frozen layer. If LoRA seems to add nothing, the case is not measured."""
    for case in times["sizes"]:
        if case["d"] >= 1024 and case["mode"] in ("forward", "training"):
            found, lora, frozen = (seconds(case["times"], f"{name} bfloat16") for name in (kernel, "LoRA", "frozen"))
            yield title(case), found / (lora - frozen) if found and lora and frozen and lora > frozen else None


def under_peft(times, kernel):
    for case in times["sizes"]:
        if case["d"] == 4096 and case["mode"] in ("forward", "training"):
            found, peft, frozen = (seconds(case["times"], f"{name} bfloat16") for name in (kernel, "PEFT FourierFT", "frozen"))
            yield title(case), peft / (frozen + found) if found and peft and frozen else None


def goals_of(times):
    """The goals for both kernels. Times of the CPU count as not measured, as do missing ones."""
    is_measured = bool(times and times["memory"] == "cuda" and times["ceilings"])
    result = []
    for kernel in KERNELS:
        kinds = [(f"`{kernel}`, bfloat16, T ≥ 512: time over the memory floor, at most {FLOOR_LIMIT}", FLOOR_LIMIT, False, over_floor),
                 (f"`{kernel}`, bfloat16, d ≥ 1024: the branch over what PEFT LoRA (r = 8) adds, at most 1", 1, False, over_lora),
                 (f"`{kernel}`, bfloat16, d = 4096: PEFT FourierFT over frozen layer and branch, at least {PEFT_LIMIT}", PEFT_LIMIT, True, under_peft)]
        result += [goal(text, limit, is_at_least, list(of(times, kernel)) if is_measured else []) for text, limit, is_at_least, of in kinds]
    return result
