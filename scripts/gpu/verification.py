"""Compares one call of each kernel that was timed with PEFT's layer in float64, on fresh inputs and outputs, for a few tokens."""

import torch

from branch import name_of
from comparison import compare_outputs
from problem import Outputs

SAMPLE = 10


def sampled(tokens):
    """All of a few tokens; otherwise the first, the last, those in the middle, and random ones."""
    if tokens <= SAMPLE:
        return torch.arange(tokens)
    middle = tokens // 2
    return torch.tensor([0, 1, middle - 1, middle, tokens - 2, tokens - 1, *torch.randint(tokens, (SAMPLE - 6,)).tolist()]).unique()


def verify(findings, problem, plans, tokens, name):
    sample = sampled(tokens).to(problem.device)
    for dtype in (torch.bfloat16, torch.float32):
        x, all_grad_y = problem.inputs(tokens, dtype)
        bases = problem.bases(tokens, dtype)
        # The gradient of the coefficients sums over all tokens; that of the others is zero.
        grad_y = torch.zeros_like(all_grad_y)
        grad_y[sample] = all_grad_y[sample]
        reference = problem.reference(x[sample], grad_y[sample])
        for kernel, plan in plans.items():
            found = problem.run(plan, x, grad_y, bases)
            part = Outputs([found.y[0][sample]], found.grad_coefficients, found.grad_x[sample], found.is_intact)
            compare_outputs(findings, problem, part, reference, [base[sample] for base in bases], x[sample], grad_y[sample],
                            f"{name}, {name_of(dtype)}, {kernel}", f"{kernel} {name_of(dtype)}")
