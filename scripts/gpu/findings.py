"""Counts comparisons, keeps those that failed, and how close to its limit each kind of result came."""

MAX_FAILURES = 200


class Findings:
    def __init__(self):
        self.checks = 0
        self.failed = 0
        self.failures = []
        self.closest = {}

    def check(self, is_right, name, problem=""):
        """Records one check, and prints it if it failed."""
        self.checks += 1
        if is_right:
            return
        self.failed += 1
        text = f"{name}: {problem}" if problem else name
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(text)
            print(f"FAILED {text}", flush=True)

    def within(self, error, limit, name, kind):
        """Records a comparison of an error with its limit. NaN is never within a limit. `kind` names the results whose largest part of the limit is kept."""
        part = error / limit
        self.check(part <= 1, name, f"error {error:.3g}, limit {limit:.3g}")
        if not part <= self.closest.get(kind, 0):
            self.closest[kind] = part

    def as_json(self):
        return {
            "checks": self.checks,
            "failed": self.failed,
            "failures": self.failures,
            "closest": {kind: part if part == part and part != float("inf") else None for kind, part in sorted(self.closest.items())},
        }
