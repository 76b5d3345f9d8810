"""The CKA of a run's structures and its chance levels, at logging steps."""

import re
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsd import chance_cka, linear_cka
from fsd.method.global_structure import memory_products
from fsd.method.objective import Objective
from fsd.training.cka_levels import batch_ckas

PAIRS = ((2, 1), (4, 2))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run_of(debiased=False, centroids=6, **gammas):
    memory = normal(centroids, 40)
    objective = Objective(0.5, beta=2.0, **gammas, debiased=debiased, pairs=PAIRS, default_pair=(5, 2))
    return SimpleNamespace(
        objective=objective, student_memory=SimpleNamespace(centroids=normal(centroids, 8, 3, seed=1)),
        teacher_memory=memory_products(memory),
    ), memory


STUDENT = {layer: normal(5, 8, 3, seed=layer) for layer in (1, 2)}
TEACHER = {t: normal(5, 8, 4, seed=t) + STUDENT[s] @ normal(3, 4, seed=9) for t, s in PAIRS}
MASK = torch.arange(8) < torch.tensor([8, 5, 2, 1, 4])[:, None]


@pytest.mark.parametrize("debiased", [False, True])
def test_every_structure(debiased):
    run, memory = run_of(debiased, gamma_i=1.0, gamma_l=1.0, gamma_g=1.0)
    found = batch_ckas(run, STUDENT, TEACHER)
    assert list(found) == [
        name + suffix for name in ("intra", "local_inter", "memory_cka") for suffix in ("", "_chance", "_shuffled")
    ]
    sides = [(TEACHER[t], STUDENT[s]) for t, s in PAIRS]
    pairs = {
        "intra": [(t[b], s[b]) for t, s in sides for b in range(5)],
        "local_inter": [(t.flatten(1), s.flatten(1)) for t, s in sides],
        "memory_cka": [(memory, run.student_memory.centroids.flatten(1))],
    }
    for name, compared in pairs.items():
        ckas = [linear_cka(*pair, debiased).item() for pair in compared]
        levels = [0 if debiased else chance_cka(*pair).item() for pair in compared]
        assert found[name] == pytest.approx(sum(ckas) / len(ckas), rel=1e-9)
        assert found[name + "_chance"] == pytest.approx(sum(levels) / len(levels), rel=1e-9)
        assert -0.5 < found[name + "_shuffled"] < 1


@pytest.mark.parametrize("debiased, kept", [(False, [0, 1, 2, 4]), (True, [0, 1, 4])])
def test_padding_and_examples_of_too_few_tokens_play_no_part(debiased, kept):
    run, _ = run_of(debiased, gamma_i=1.0, gamma_l=1.0)
    found = batch_ckas(run, STUDENT, TEACHER, MASK)
    own = [(TEACHER[t][b, MASK[b]], STUDENT[s][b, MASK[b]]) for t, s in PAIRS for b in kept]
    assert found["intra"] == pytest.approx(sum(linear_cka(*pair, debiased).item() for pair in own) / len(own), rel=1e-9)
    if not debiased:
        assert found["intra_chance"] == pytest.approx(sum(chance_cka(*pair).item() for pair in own) / len(own), rel=1e-9)
    zeroed = [((TEACHER[t] * MASK[..., None]).flatten(1), (STUDENT[s] * MASK[..., None]).flatten(1)) for t, s in PAIRS]
    expected = sum(linear_cka(*pair, debiased).item() for pair in zeroed) / 2
    assert found["local_inter"] == pytest.approx(expected, rel=1e-9)


def test_structures_without_weight_or_items_are_left_out():
    assert batch_ckas(run_of()[0], {}, None) == {}
    assert set(batch_ckas(run_of(gamma_g=1.0)[0], {}, {})) == {"memory_cka", "memory_cka_chance", "memory_cka_shuffled"}
    one = {layer: hidden[:1] for layer, hidden in STUDENT.items()}, {layer: hidden[:1] for layer, hidden in TEACHER.items()}
    assert batch_ckas(run_of(gamma_l=1.0)[0], *one) == {}
    assert batch_ckas(run_of(True, gamma_l=1.0)[0], *({k: h[:3] for k, h in side.items()} for side in (STUDENT, TEACHER))) == {}
    assert batch_ckas(run_of(gamma_i=1.0)[0], STUDENT, TEACHER, torch.zeros(5, 8)) == {}


@pytest.mark.parametrize("flags", [[], ["--debiased", "--mask_padding"]])
def test_a_run_tells_them(run_script, toy_glue, rte_teacher, tmp_path, flags):
    finished = run_script(
        "run_glue_all.py", "--gamma_g", 0, "--gamma_i", 1, "--gamma_l", 1, "--model_name_or_path", rte_teacher, "--data_dir",
        toy_glue, "--task_name", "RTE", "--do_lower_case", "--per_gpu_train_batch_size", 8, "--max_seq_length", 24,
        "--output_dir", tmp_path / "out", "--do_train", "--run_file", tmp_path / "runs", "--max_steps", 5, "--logging_steps", 2,
        "--skip_teacher_eval", "--results_file", tmp_path / "results.csv", *flags,
    )
    assert finished.status == 0, finished.err
    (line,) = re.findall("CKA at the first step: .*", finished.err)
    numbers = list(map(float, re.findall(r"-?\d\.\d+", line)))
    events = EventAccumulator(str(next((tmp_path / "runs").iterdir()))).Reload()
    tags = [f"cka/{name}{suffix}" for name in ("intra", "local_inter") for suffix in ("", "_chance", "_shuffled")]
    curves = [[(event.step, event.value) for event in events.Scalars(tag)] for tag in tags]
    assert [[step for step, _ in curve] for curve in curves] == [[1, 2, 4, 5]] * 6
    assert numbers == pytest.approx([curve[0][1] for curve in curves], abs=1e-4)
    (loss,) = [event.value for event in events.Scalars("train/local_inter") if event.step == 1]
    if flags:
        assert numbers[1] == numbers[4] == 0 and loss == pytest.approx(1 - numbers[3], abs=1e-3)
    else:
        assert loss == pytest.approx(-torch.tensor(numbers[3]).log().item(), abs=1e-3)


def test_the_first_step_tells_of_the_memory_s_start(run_script, toy_glue, rte_teacher, memory, tmp_path):
    """Not of the memory after the step, which a high learning rate takes far away."""
    lines = set()
    for rate in ("1e-9", "1"):
        finished = run_script(
            "run_glue_global.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_train",
            "--output_dir", tmp_path / rate, "--max_seq_length", 24, "--max_steps", 2, "--skip_teacher_eval",
            "--teacher_memory_path", memory, "--memory_learning_rate", rate, "--do_lower_case",
        )
        assert finished.status == 0, finished.err
        lines |= set(re.findall("CKA at the first step: .*", finished.err))
    assert len(lines) == 1
