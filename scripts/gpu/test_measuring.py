"""Tests of the measurements, with tensors of the CPU. $LIBRARY is the library that the CPU runs, $FAULTY one with a fault.

    LIBRARY=libfourierft-cuda.so FAULTY=libfaulty.so python -m unittest test_measuring
"""

import os
import sys
import tempfile
import time
import unittest
from unittest import mock

import torch

import ceilings
import contenders
import correctness
from branch import Size, random_entries
from clock import Contender, times_of
from grid import GPU_SIZES
from json_file import read_json, write_json
from kernel import KernelError, Library
from layers import Layers
from times import Measuring
from verification import sampled

LIBRARY = Library(os.environ["LIBRARY"])
CPU = torch.device("cpu")


class Preparation(unittest.TestCase):
    def test_the_entries_of_a_large_layer_are_different_and_no_permutation_of_all_of_them(self):
        with mock.patch.object(torch, "randperm", wraps=torch.randperm) as randperm:
            rows, columns = random_entries(Size(CPU, 512, 1, 0))
        self.assertEqual(len(set(zip(rows.tolist(), columns.tolist()))), 1000)
        self.assertLess(max(call.args[0] for call in randperm.call_args_list), 5000)

    def test_pefts_layers_of_a_size_are_made_once_for_all_modes_and_tokens(self):
        with mock.patch.object(torch, "randperm", wraps=torch.randperm) as randperm:
            measuring = Measuring(LIBRARY, 1, lambda: False)
            with mock.patch("times.measure", lambda *_: {}):
                measuring.size(256, 1)
                measuring.size(256, 3)
        self.assertEqual(len(measuring.result["sizes"]), 6)
        self.assertEqual([call.args[0] for call in randperm.call_args_list].count(256 * 256), 1)

    def test_pefts_layers_have_their_own_weights(self):
        for layers in (Layers(CPU, 64, 100).lora(3), Layers(CPU, 64, 100).fourierft(2)):
            self.assertEqual(len({layer.get_base_layer().weight.data_ptr() for layer in layers}), len(layers))


class Sizes(unittest.TestCase):
    def test_all_sizes_are_measured(self):
        self.assertEqual(sorted(GPU_SIZES), [(d, tokens) for d in (768, 1024, 4096, 8192) for tokens in (1, 32, 512, 4096)])

    def test_the_comparison_has_the_largest_number_of_tokens_too(self):
        self.assertTrue({(4096, 4096), (1024, 1024)} <= {shape for shape, tokens in correctness.GPU_CASES if 4096 in tokens})

    def test_a_mode_that_is_cut_off_is_named(self):
        over = iter([False, False, True, True])
        measuring = Measuring(LIBRARY, 1, lambda: next(over))
        with mock.patch("times.measure", lambda *_: {}):
            measuring.size(64, 2)
        self.assertEqual([case["mode"] for case in measuring.result["sizes"]], ["forward"])
        self.assertEqual(measuring.result["not measured"], ["d = 64, T = 2, backward", "d = 64, T = 2, training"])

    def test_an_error_of_the_library_ends_one_mode_and_is_named(self):
        def fail():
            raise KernelError("fourierft_cuda_forward", 6, "no memory")

        def for_mode(size, plans, layers, mode):
            return [Contender("token bfloat16", [fail if mode == "backward" else lambda: None])]

        measuring = Measuring(LIBRARY, 1, lambda: False)
        with mock.patch.object(contenders, "for_mode", for_mode):
            measuring.size(64, 2)
        self.assertEqual([case["mode"] for case in measuring.result["sizes"]], ["forward", "training"])
        self.assertEqual(measuring.result["not measured"], ["d = 64, T = 2, backward (fourierft_cuda_forward: status 6, FAILED: no memory)"])

    def test_times_have_the_number_of_their_samples(self):
        self.assertEqual([times_of([1.0] * count).as_json()["samples"] for count in (1, 11)], [1, 11])


class Verification(unittest.TestCase):
    def test_few_tokens_are_compared_of_many(self):
        self.assertEqual(sampled(3).tolist(), [0, 1, 2])
        found = sampled(4096).tolist()
        self.assertLessEqual(len(found), 10)
        self.assertTrue({0, 2047, 2048, 4095} <= set(found))

    def wrong_of(self, library):
        measuring = Measuring(library, 1, lambda: False)
        with mock.patch("times.measure", lambda *_: {}):
            measuring.size(64, 33)
        self.assertEqual(measuring.result["not measured"], [])
        # Intact margins, and three outputs in two ways, of four kernels in two formats.
        self.assertEqual(measuring.result["checks"], 7 * 4 * 2)
        return measuring.result["wrong"]

    def test_kernels_that_were_timed_are_compared(self):
        self.assertEqual(self.wrong_of(LIBRARY), [])

    def test_a_wrong_kernel_is_found(self):
        wrong = self.wrong_of(Library(os.environ["FAULTY"]))
        self.assertIn("d = 64, T = 33, float32, tile: y, norm of the error", [line.split(": error ")[0] for line in wrong])


class Stopped(unittest.TestCase):
    """The results of a program that is stopped."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "result.json")

    def correctness(self, seconds, compare_shape):
        with mock.patch.object(correctness, "compare_shape", compare_shape), \
                mock.patch.object(sys, "argv", ["correctness.py", os.environ["LIBRARY"], self.file, "--seconds", str(seconds)]):
            correctness.main()

    def test_the_comparison_keeps_the_cases_before(self):
        def compare_shape(findings, library, shape, tokens, seed_for):
            if shape == (96, 80):
                raise KeyboardInterrupt
            findings.check(True, "a check")

        self.assertRaises(KeyboardInterrupt, self.correctness, 1000, compare_shape)
        found = read_json(self.file)
        self.assertEqual((found["checks"], found["failed"], found["cases"][0], found["not checked"]), (1, 0, "97x101", found["cases"][1:]))

    def test_the_time_of_the_comparison_includes_its_imports(self):
        with mock.patch.object(correctness, "STARTED", time.monotonic() - 100), self.assertRaises(SystemExit) as ended:
            self.correctness(50, lambda *_: self.fail("no time is left"))
        self.assertEqual(ended.exception.code, 3)
        self.assertEqual(read_json(self.file)["not checked"], read_json(self.file)["cases"])

    def test_a_file_is_the_old_one_until_the_new_one_is_whole(self):
        write_json(self.file, [1])
        self.assertRaises(TypeError, write_json, self.file, [2, object()])
        self.assertEqual(read_json(self.file), [1])


class Ceilings(unittest.TestCase):
    def test_sizes_fit_the_free_memory(self):
        self.assertEqual(ceilings.sizes(100 * 2**30), (2**30, 8192))
        for free in (2**33, 2**31, 2**29):
            bytes_, size = ceilings.sizes(free)
            self.assertLessEqual(6 * bytes_, free / 2)
            self.assertLessEqual(3 * 4 * size**2, free / 2)
            self.assertEqual(bytes_ % 2**20, 0)

    def test_a_ceiling_that_fails_is_named_and_the_others_are_measured(self):
        with mock.patch.object(ceilings, "copy_bandwidth", side_effect=torch.OutOfMemoryError("CUDA out of memory\nmore")):
            found, problems = ceilings.measure_ceilings(CPU)
        self.assertEqual(problems, ["ceiling of copy (CUDA out of memory)"])
        self.assertEqual(sorted(kind for kind in found if " " not in kind), ["TF32", "bfloat16", "float32"])


if __name__ == "__main__":
    unittest.main()
