"""Writes vectors.json: the results of PyTorch and Transformers for the optimiser, the schedules and the clipping of src/train.

    python make-vectors.py > vectors.json

Needs torch and transformers; the file records their versions. Every number is printed so that it reads back exactly.
"""

import json
import platform

import torch
import transformers

RECORDED_STEPS = (1, 2, 10, 50, 100)
TARGETS = [[0.7, -1.3, 2.1, 0.04, -0.9], [5.0, -0.25, 0.0]]
CURVATURES = [[1.0, 0.3, 2.5, 40.0, 0.01], [0.5, 7.0, 1e-3]]
STARTS = [[0.0, 0.5, -1.0, 3.0, -2.0], [0.1, 0.2, 1.5]]


def adamw(dtype, options, schedule=None, clip=None):
    """Records 100 steps on the quadratic 1/2 sum a (c - b)^2. Its gradient a (c - b) depends on the trajectory."""
    parameters = [torch.nn.Parameter(torch.tensor(values, dtype=dtype)) for values in STARTS]
    targets = [torch.tensor(values, dtype=dtype) for values in TARGETS]
    curvatures = [torch.tensor(values, dtype=dtype) for values in CURVATURES]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=options["learningRate"],
        betas=tuple(options["betas"]),
        eps=options["epsilon"],
        weight_decay=options["weightDecay"],
        foreach=False,
        fused=False,
    )
    scheduler = None
    if schedule is not None:
        scheduler = transformers.get_cosine_schedule_with_warmup(
            optimizer, schedule["warmupSteps"], schedule["totalSteps"]
        )
    trajectory = []
    for step in range(1, 101):
        for parameter, target, curvature in zip(parameters, targets, curvatures):
            parameter.grad = curvature * (parameter.detach() - target)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if step in RECORDED_STEPS:
            trajectory.append({"step": step, "parameters": [p.detach().tolist() for p in parameters]})
    return {
        "precision": str(dtype).removeprefix("torch."),
        "options": options,
        "schedule": schedule,
        "clip": clip,
        "trajectory": trajectory,
    }


def schedule(make, warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    multiplier = make(optimizer, warmup, total).lr_lambdas[0]
    steps = sorted({0, 1, 2, warmup - 1, warmup, warmup + 1, total // 2, total - 1, total, total + 3} - {-1, -2})
    return {
        "warmupSteps": warmup,
        "totalSteps": total,
        "steps": steps,
        "multipliers": [multiplier(step) for step in steps],
    }


def clipping(gradients, max_norm):
    parameters = [torch.nn.Parameter(torch.zeros(len(g), dtype=torch.float64)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return {
        "gradients": gradients,
        "maxNorm": max_norm,
        "norm": norm.item(),
        "clipped": [p.grad.tolist() for p in parameters],
    }


# Chosen so that errors do not grow: PyTorch's own float32 and float64 runs agree within 2e-6 after 100 steps. Larger steps overshoot
# in the direction of curvature 40, and two runs that differ in the last bit diverge.
PLAIN = {"learningRate": 0.05, "betas": [0.9, 0.999], "epsilon": 1e-8, "weightDecay": 0.01}
UNUSUAL = {"learningRate": 0.05, "betas": [0.3, 0.95], "epsilon": 0.1, "weightDecay": 0.1}
NO_DECAY = {"learningRate": 0.02, "betas": [0.9, 0.98], "epsilon": 1e-6, "weightDecay": 0.0}
SHAPES = [(0, 10), (1, 10), (10, 100), (7, 7), (5, 3), (0, 1), (60, 1000)]

result = {
    "versions": {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    },
    "problem": {"starts": STARTS, "targets": TARGETS, "curvatures": CURVATURES},
    "adamw": [
        adamw(dtype, options, steps, clip)
        for dtype in (torch.float32, torch.float64)
        for options, steps, clip in (
            (PLAIN, None, None),
            (UNUSUAL, None, None),
            (NO_DECAY, {"warmupSteps": 10, "totalSteps": 100}, 1.0),
        )
    ],
    "linear": [schedule(transformers.get_linear_schedule_with_warmup, *shape) for shape in SHAPES],
    "cosine": [schedule(transformers.get_cosine_schedule_with_warmup, *shape) for shape in SHAPES],
    "clipping": [
        clipping([[3.0, -4.0], [12.0]], 1.0),
        clipping([[3.0, -4.0], [12.0]], 13.0),
        clipping([[3.0, -4.0], [12.0]], 20.0),
        clipping([[0.0, 0.0]], 1.0),
        clipping([[1e-9], [2e-9, -3e-9]], 1e-9),
    ],
}
print(json.dumps(result, indent=1))
