"""The losses under autocast, with half-precision features, and where rounding could give a NaN."""

import pytest
import torch
from references import MASKS, NO_CKA, B, global_terms, hidden_states, leaf, memories, normal

from fsd.method.global_structure import global_inter_feature_loss
from fsd.method.losses import intra_feature_loss, kd_loss, local_inter_feature_loss, task_loss, zero_padding


@pytest.mark.parametrize("mask", [None, MASKS["right-padded"]], ids=["no mask", "mask"])
def test_half_precision_is_computed_in_float32_under_autocast(mask):
    half = [side.bfloat16() for side in (*hidden_states(), *memories())]
    single = [side.float() for side in half]
    logits, labels = [normal(B, 3, seed=seed).bfloat16() for seed in (0, 1)], torch.tensor([0, 2, 1, 1, 2])

    def losses(student, teacher, student_memory, teacher_memory, student_logits, teacher_logits):
        features = zero_padding(student, mask), zero_padding(teacher, mask)
        return [
            task_loss(student_logits, labels),
            task_loss(student_logits[:, :1], labels),
            kd_loss(student_logits, teacher_logits, 5.0),
            kd_loss(student_logits[:, :1], teacher_logits[:, :1], 5.0),
            intra_feature_loss(student, teacher, mask),
            intra_feature_loss(student, teacher, mask, released=True),
            local_inter_feature_loss(student, teacher, mask),
            global_inter_feature_loss(*features, student_memory, teacher_memory, 0.5),
        ]

    expected = losses(*single, *(z.float() for z in logits))
    with torch.autocast("cpu", torch.bfloat16):
        for values in (losses(*half, *logits), losses(*single, *(z.float() for z in logits))):
            assert [value.dtype for value in values] == [torch.float32] * len(values)
            assert [value.item() for value in values] == [value.item() for value in expected]  # to the bit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_global_gradients_of_half_precision_features(dtype):
    half = [side.to(dtype) for side in hidden_states()]
    student_memory, teacher_memory = (memory.float() for memory in memories())
    results = []
    for sides, autocast in ((half, True), ([side.float() for side in half], False)):
        hidden, memory = leaf(sides[0]), leaf(student_memory)
        with torch.autocast("cpu", dtype, enabled=autocast):  # around the backward pass, too
            loss = global_inter_feature_loss(hidden, sides[1], memory, teacher_memory, 0.3)
            results.append((loss, *torch.autograd.grad(loss, (hidden, memory))))
    (loss, of_hidden, of_memory), (expected, of_single, of_same) = results
    assert torch.equal(loss, expected) and torch.equal(of_memory, of_same) and of_hidden.dtype == dtype
    assert torch.equal(of_hidden, of_single.to(dtype))


def test_gradients_of_half_precision_features():
    student, teacher = (side.bfloat16() for side in hidden_states())
    hidden, single = leaf(student), leaf(student.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = intra_feature_loss(hidden, teacher) + local_inter_feature_loss(hidden, teacher)
    loss.backward()
    (intra_feature_loss(single, teacher.float()) + local_inter_feature_loss(single, teacher.float())).backward()
    # The same float32 gradients, rounded to bfloat16's 8 bits once a loss and once in their sum.
    torch.testing.assert_close(hidden.grad.float(), single.grad, rtol=2e-2, atol=1e-3)


def test_unrelated_structures_give_no_nan():
    # Orthogonal spaces have CKA 0, which float32 rounding takes to either side; −log of a negative would be NaN.
    for seed in range(30):
        ones = torch.ones(12, 1, dtype=torch.float64)
        space = torch.linalg.qr(torch.cat([ones, normal(12, 4, seed=seed)], dim=1))[0]
        student, teacher = leaf((5 * space[:, 1:3]).float()), space[:, 3:5].float()
        for loss in (
            intra_feature_loss(student[None], teacher[None]),
            intra_feature_loss(student[None], teacher[None], torch.ones(1, 12)),
            local_inter_feature_loss(student[:, None], teacher[:, None]),
            global_terms(normal(2, 2).float(), normal(2, 2).float(), student, teacher).memory_cka,
        ):
            assert 13 < loss.item() <= NO_CKA + 1e-4  # CKA is below 1e-6
            (gradient,) = torch.autograd.grad(loss, student)
            assert torch.isfinite(gradient).all()
