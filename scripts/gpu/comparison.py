"""Compares the outputs of one or several branches with PEFT's, within the derived limits."""

import math

import limits


def compare_outputs(findings, problem, found, reference, bases, x, grad_y, name, kind):
    """Compares y, the gradient of the coefficients and grad_x of one branch. `bases`: what y and grad_x contained before."""
    compare_branches(findings, [problem], found, [reference], [bases[0]], bases[1], x, [grad_y], name, lambda result: f"{kind} {result}")


def compare_branches(findings, problems, found, references, y_bases, x_base, x, grad_ys, name, kind_of):
    """Compares the outputs of several branches with one x. Their gradients of x are summed, and so are the limits. `kind_of`: the kind of each result."""
    shape = problems[0].shape
    relative = limits.loss(shape)
    norms_x = x.double().norm(dim=1)
    largest_x, bound_x = float(norms_x.max()), 0.0
    findings.check(found.is_intact, f"{name}: no write outside of a tensor")
    for problem, y, gc, reference, base, grad_y in zip(problems, found.y, found.grad_coefficients, references, y_bases, grad_ys):
        norms_g = grad_y.double().norm(dim=1)
        bound_x += relative * problem.norm * float(norms_g.max())
        outer = float((norms_x * norms_g).sum()) * float(problem.scalings.max()) / math.prod(shape)
        limits.compare(findings, y, base, [reference.y], relative * problem.norm * largest_x, relative, f"{name}: y", kind_of("y"))
        limits.compare(findings, gc, None, [reference.grad_coefficients], relative * outer, relative, f"{name}: gradient of c", kind_of("gradient of c"))
    limits.compare(findings, found.grad_x, x_base, [reference.grad_x for reference in references], bound_x, relative, f"{name}: gradient of x",
                   kind_of("gradient of x"))
