"""Measures device times: events around many calls, medians with quartiles, contenders in turn. On a machine without a GPU the same control flow measures
by the host's clock."""

import gc
import statistics
import time
from dataclasses import dataclass
from typing import Callable, Optional

import torch

from error_line import error_line

SAMPLE_SECONDS = 1e-3  # of one sample, so that the events' resolution does not matter
MAX_CALLS = 64  # in a graph


@dataclass
class Times:
    """Seconds of one call."""

    median: float
    low: float
    high: float
    samples: int

    def as_json(self):
        return {"median": self.median, "quartiles": [self.low, self.high], "samples": self.samples}


def times_of(samples):
    if len(samples) == 1:
        return Times(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Times(median, low, high, len(samples))


class Clock:
    def __init__(self, device):
        self.is_cuda = device.type == "cuda"

    def synchronize(self):
        if self.is_cuda:
            torch.cuda.synchronize()

    def seconds(self, run):
        """The seconds between the device's start of the first and its end of the last work that `run` queues."""
        if not self.is_cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def graph(self, calls):
        """The calls as a CUDA graph, or None and the reason."""
        if not self.is_cuda:
            return None, "no GPU"
        graph = torch.cuda.CUDAGraph()
        # Not `torch.cuda.graph`, which empties PyTorch's memory before each capture. The garbage collector must not free CUDA's memory in a capture.
        gc.disable()
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for call in calls[:2]:
                    call()
                torch.cuda.synchronize()
                graph.capture_begin()
                try:
                    for call in calls:
                        call()
                finally:
                    graph.capture_end()
            torch.cuda.synchronize()
            graph.replay()
            torch.cuda.synchronize()
            return graph, None
        except RuntimeError as error:
            torch.cuda.synchronize()
            return None, error_line(error)
        finally:
            gc.enable()


@dataclass
class Contender:
    """Something to measure. `calls` do the same work on different inputs and are made in turn."""

    name: str
    calls: list
    in_graph: bool = True
    max_samples: Optional[int] = None


def measure(clock, contenders, samples, until: Callable[[], bool] = lambda: False):
    """Measures all contenders in turn, one sample of each in every round. Returns name -> {eager, graph, note}. `until` ends after a round."""
    prepared = {contender.name: _prepare(clock, contender) for contender in contenders}
    for round_ in range(samples):
        for contender in contenders:
            if contender.max_samples is not None and round_ >= contender.max_samples:
                continue
            for variant in prepared[contender.name]["variants"].values():
                variant["samples"].append(clock.seconds(variant["run"]) / variant["calls"])
        if until():
            break
    result = {}
    for name, found in prepared.items():
        result[name] = {variant: times_of(of["samples"]).as_json() for variant, of in found["variants"].items()}
        if found["note"]:
            result[name]["note"] = found["note"]
    return result


def _prepare(clock, contender):
    """Warms up, and chooses how many calls a sample has."""
    calls = contender.calls
    for call in calls[:3]:
        call()
    clock.synchronize()

    def all_calls():
        for call in calls:
            call()

    once = clock.seconds(all_calls) / len(calls)
    rounds = max(1, min(round(MAX_CALLS / len(calls)), int(SAMPLE_SECONDS / max(once * len(calls), 1e-9))))

    def eager():
        for _ in range(rounds):
            all_calls()

    variants = {"eager": {"run": eager, "calls": rounds * len(calls), "samples": []}}
    note = None
    if contender.in_graph:
        in_graph = calls * rounds
        graph, note = clock.graph(in_graph)
        if graph is not None:
            once = clock.seconds(graph.replay)
            replays = max(1, min(100, int(SAMPLE_SECONDS / max(once, 1e-9))))

            def replay():
                for _ in range(replays):
                    graph.replay()

            variants["graph"] = {"run": replay, "calls": replays * len(in_graph), "samples": []}
            note = None
    return {"variants": variants, "note": note}
