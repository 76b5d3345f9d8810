"""Several gloo processes against one: the same losses, gradients, students, predictions and memories."""

import os
import socket

import pytest
import torch
from small_runs import (
    CPU,
    IN_FLOAT32,
    SETTINGS,
    STEPS,
    everything,
    refusal_of_different_files,
    refusal_of_different_memories,
    sent_in_a_step,
)
from torch import multiprocessing

from fsd.system import processes as distributed


def process(rank, count, port, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with distributed.process_group(CPU):
        refusals = refusal_of_different_files(), refusal_of_different_memories()
        torch.save(everything() | {"refusals": refusals, "sent": sent_in_a_step()}, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def alone():
    return everything()


@pytest.fixture(scope="module", params=[2, 3], ids=["two processes", "three processes"])
def together(request, tmp_path_factory):
    """What each of several processes computed."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(process, (request.param, port, folder), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def assert_close(actual, expected, tolerance, scale=None):
    """Every tensor within ``tolerance`` of ``scale``, or of the expected one's largest value."""
    scale = scale if scale is not None else max(1.0, expected.abs().max().item())
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


def assert_same_steps(actual, expected, tolerance, steps):
    """Losses by their size, gradients by the largest of the step's."""
    for step in steps:
        (losses, gradients), (expected_losses, expected_gradients) = (
            [values[step] for values in run[:2]] for run in (actual, expected)
        )
        assert losses.keys() == expected_losses.keys() and gradients.keys() == expected_gradients.keys()
        for name, value in expected_losses.items():
            assert_close(losses[name], value, tolerance)
        largest = max(value.abs().max().item() for value in expected_gradients.values())
        assert largest > 0
        for name, value in expected_gradients.items():
            assert_close(gradients[name], value, tolerance, largest)


@pytest.mark.parametrize("setting", [setting.name for setting in SETTINGS])
def test_several_processes_train_the_student_of_one(alone, together, setting):
    expected = alone["float64"][setting]
    assert len(expected[1]) == STEPS
    for each in together:
        assert_same_steps(each["float64"][setting], expected, 1e-9, range(STEPS))
        assert_close(each["float64"][setting][2], expected[2], 1e-9)


@pytest.mark.parametrize("setting", IN_FLOAT32)
def test_in_float32_too(alone, together, setting):
    """It keeps 1e-7; over 20 steps Adam, which divides a gradient by its own size, lets the rounding of small ones grow."""
    expected_losses, _, expected_logits = expected = alone["float32"][setting]
    for each in together:
        losses, _, logits = actual = each["float32"][setting]
        assert_same_steps(actual, expected, 1e-5, [0])
        for name, value in expected_losses[-1].items():
            assert_close(losses[-1][name], value, 1e-4)
        assert_close(logits, expected_logits, 1e-4)


def test_all_processes_hold_the_same_bits(together):
    first = together[0]
    for other in together[1:]:
        for setting, (losses, gradients, logits) in first["float64"].items():
            other_losses, other_gradients, other_logits = other["float64"][setting]
            assert losses == other_losses and torch.equal(logits, other_logits), setting
            assert all(torch.equal(value, other_gradients[-1][name]) for name, value in gradients[-1].items()), setting
        for one, another in zip(first["memories"], other["memories"], strict=True):
            assert torch.equal(one["centroids"], another["centroids"]) and one["inertia"] == another["inertia"]


def test_a_step_that_overflows_in_fp16_is_left_out_by_all(together):
    for each in together:
        _, gradients, logits = each["overflowing"]
        finite = [all(torch.isfinite(gradient).all() for gradient in step.values()) for step in gradients]
        assert not finite[0] and any(finite)
        assert torch.isfinite(logits).all() and torch.equal(logits, together[0]["overflowing"][2])


def test_each_process_draws_its_own_dropout_the_first_as_one_does(alone, together):
    seeds = [each["dropout"] for each in together]
    assert seeds[0] == alone["dropout"] and len(set(seeds)) == len(seeds)


def test_predictions_are_those_of_one_process_bit_for_bit(alone, together):
    for each in together:
        for actual, expected in zip(each["logits"], alone["logits"], strict=True):
            assert torch.equal(actual, expected)


def assert_same_clusters(actual, expected):
    assert torch.equal(actual["counts"], expected["counts"])
    assert actual["inertia"] == pytest.approx(expected["inertia"], rel=1e-6, abs=1e-4)  # float32 of the centroids
    torch.testing.assert_close(actual["centroids"], expected["centroids"], rtol=1e-6, atol=1e-6)


def test_several_processes_build_the_memory_of_one(alone, together):
    for each in together:
        for actual, expected in zip(each["memories"], alone["memories"], strict=True):
            assert_same_clusters(actual, expected)
        assert torch.equal(each["memories"][0]["assignment"], alone["memories"][0]["assignment"])


def test_clusters_that_a_pass_empties_are_refilled_from_the_farthest_of_all_processes(alone, together):
    assert alone["refilled"]["refilled"] == 3
    for each in together:
        assert_same_clusters(each["refilled"], alone["refilled"])
        assert torch.equal(each["refilled"]["assignment"], alone["refilled"]["assignment"])


def test_nodes_that_read_different_files_are_told_so(together):
    assert all("not all processes have the same training data" in each["refusals"][0] for each in together)
    distributed.check_same({"training data": "abc"})


def test_student_memories_that_drift_apart_end_the_run(together):
    """Each process trains its own, from the same gradients if its arithmetic is the same."""
    told = "not all processes have the same student memory; their machines differ in arithmetic"
    assert all(each["refusals"][1].startswith(told) for each in together)


def test_an_update_sends_only_what_differs(together):
    """Outputs forward, none backward; the student's gradients with the rows of the batches' tokens; no student memory."""
    for each in together:
        sent, expected, has_other_rows = each["sent"]
        assert has_other_rows and sent == expected
