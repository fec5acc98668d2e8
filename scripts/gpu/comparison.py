"""Compares the outputs of one branch with PEFT's, within the derived limits."""

import math

import limits


def compare_outputs(findings, problem, found, reference, bases, x, grad_y, name, kind):
    """Compares y, the gradient of the coefficients and grad_x of one branch with PEFT's."""
    relative = limits.loss(problem.shape)
    norms = [t.double().norm(dim=1) for t in (x, grad_y)]
    largest_x, largest_g = (float(n.max()) for n in norms)
    outer = float((norms[0] * norms[1]).sum()) * float(problem.scalings.max()) / math.prod(problem.shape)
    findings.check(found.is_intact, f"{name}: no write outside of a tensor")
    limits.compare(findings, found.y[0], bases[0], [reference.y], relative * problem.norm * largest_x, relative,
                   f"{name}: y", f"{kind} y")
    limits.compare(findings, found.grad_coefficients[0], None, [reference.grad_coefficients], relative * outer, relative,
                   f"{name}: gradient of c", f"{kind} gradient of c")
    limits.compare(findings, found.grad_x, bases[1], [reference.grad_x], relative * problem.norm * largest_g, relative,
                   f"{name}: gradient of x", f"{kind} gradient of x")
