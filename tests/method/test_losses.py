"""Every loss against a float64 formula written here in NumPy, its gradients, and the edges: constants, padding, offsets.

The references work example by example with explicit centring matrices and differences, so they share nothing with the
Gram products that they check. Tolerances unless said otherwise: float64 to 1e-10 (losses of order 1 to 100, up to a few
hundred additions at 1e-16), float32 relative 1e-4 (the same at 6e-8, and a logarithm or a square root of the result).
"""

import math

import numpy as np
import pytest
import torch

from fsd.method.global_structure import global_inter_feature_loss, global_inter_feature_terms, memory_products
from fsd.method.losses import intra_feature_loss, kd_loss, local_inter_feature_loss, task_loss, zero_padding

FLOOR = 1e-8
NO_CKA = -math.log(FLOOR)  # 18.42, the term where CKA is 0
B, S, D_STUDENT, D_TEACHER, K = 5, 6, 3, 4, 7

MASKS = {
    "right-padded": [[1] * n + [0] * (S - n) for n in (2, 3, 4, 4, 2)],
    "left-padded": [[0] * (S - n) + [1] * n for n in (2, 6, 4, 5, 3)],
    "one token and none": [[1] * n + [0] * (S - n) for n in (6, 1, 3, 0, 4)],
}
MASKS = {name: torch.tensor(mask) for name, mask in MASKS.items()}
ALL_MASKS = {"no mask": None, **MASKS}
CONSTANT = {
    "filled with 0.1": torch.full((B, S, D_STUDENT), 0.1),
    "zeros": torch.zeros(B, S, D_STUDENT),
    "one token repeated": torch.linspace(-1, 1, D_STUDENT).repeat(B, S, 1),
}
masks = pytest.mark.parametrize("mask", ALL_MASKS.values(), ids=ALL_MASKS.keys())
constants = pytest.mark.parametrize("constant", CONSTANT.values(), ids=CONSTANT.keys())
both_precisions = pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def hidden_states(batch=B, tokens=S, seed=0):
    """Student [B, S, 3] and teacher [B, S, 4] with some structure in common."""
    student = normal(batch, tokens, D_STUDENT, seed=seed)
    return student, student @ normal(D_STUDENT, D_TEACHER, seed=seed + 1) + normal(batch, tokens, D_TEACHER, seed=seed + 2)


def memories(seed=10):
    """Student memory [K, S·3] and teacher memory [K, S·4]."""
    return normal(K, S * D_STUDENT, seed=seed), normal(K, S * D_TEACHER, seed=seed + 1)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


# --- references ---


def reference_cka(x, y):
    h = np.eye(len(x)) - np.ones((len(x), len(x))) / len(x)
    k, l = h @ x @ x.T @ h, h @ y @ y.T @ h  # noqa: E741
    return np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l))


def reference_intra(student, teacher, mask=None):
    values = []
    for b in range(len(student)):
        kept = np.full(student.shape[1], True) if mask is None else mask[b].numpy() != 0
        if kept.sum() >= 2:
            values.append(reference_cka(teacher[b].double().numpy()[kept], student[b].double().numpy()[kept]))
    return -np.log(np.mean(values) + FLOOR)


def reference_flat(hidden, mask=None):
    """[B, S·d] in float64 with masked positions set to zero one by one."""
    hidden = hidden.detach().double().numpy().copy()
    for b, s in np.ndindex(hidden.shape[:2]):
        if mask is not None and mask[b, s] == 0:
            hidden[b, s] = 0
    return np.stack([example.ravel() for example in hidden])


def reference_local(student, teacher, mask=None):
    return -np.log(reference_cka(reference_flat(teacher, mask), reference_flat(student, mask)) + FLOOR)


def reference_relations(features, memory):
    """Distances and cosines [B, K], from differences and from normalised vectors."""
    distances, cosines = np.zeros((len(features), len(memory))), np.zeros((len(features), len(memory)))
    for b, k in np.ndindex(distances.shape):
        distances[b, k] = np.sqrt(np.sum((features[b] - memory[k]) ** 2))
        norms = np.sqrt(np.sum(features[b] ** 2)), np.sqrt(np.sum(memory[k] ** 2))
        cosines[b, k] = 0 if 0 in norms else np.sum((features[b] / norms[0]) * (memory[k] / norms[1]))
    return distances, cosines


def reference_global(student, teacher, student_memory, teacher_memory):
    """The three parts from flat float64 arrays of full width."""
    student_distances, student_cosines = reference_relations(student, student_memory)
    teacher_distances, teacher_cosines = reference_relations(teacher, teacher_memory)
    cka = reference_cka(student_memory, teacher_memory)
    return (
        np.mean((student_distances - teacher_distances) ** 2),
        np.mean((student_cosines - teacher_cosines) ** 2),
        -np.log(cka + FLOOR),
    )


def global_terms(student, teacher, student_memory, teacher_memory):
    return global_inter_feature_terms(student, teacher, memory_products(student_memory), memory_products(teacher_memory))


# --- task loss and dark knowledge ---


@both_precisions
def test_cross_entropy(dtype, tolerance):
    logits, labels = 3 * normal(B, 3), [0, 2, 1, 1, 2]
    rows = logits.numpy()
    expected = np.mean([np.log(np.sum(np.exp(row))) - row[label] for row, label in zip(rows, labels, strict=True)])
    assert task_loss(logits.to(dtype), torch.tensor(labels)).item() == pytest.approx(expected, rel=tolerance)


@both_precisions
def test_squared_error_with_one_logit(dtype, tolerance):
    logits, scores = normal(B, 1), 5 * normal(B, seed=1).abs()
    expected = np.mean([(logits[b, 0].item() - scores[b].item()) ** 2 for b in range(B)])
    # labels come as float32, whatever the logits are: 6e-8 of each score
    assert task_loss(logits.to(dtype), scores.float()).item() == pytest.approx(expected, rel=max(tolerance, 1e-6))


@both_precisions
@pytest.mark.parametrize("temperature", [1.0, 5.0, 0.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_dark_knowledge(temperature, classes, dtype, tolerance):
    student, teacher = 3 * normal(B, classes), 3 * normal(B, classes, seed=1)
    expected = []
    for s, t in zip(student.numpy() / temperature, teacher.numpy() / temperature, strict=True):
        p, q = np.exp(t) / np.sum(np.exp(t)), np.exp(s) / np.sum(np.exp(s))
        expected.append(temperature**2 * np.sum(p * np.log(p / q)))
    assert kd_loss(student.to(dtype), teacher.to(dtype), temperature).item() == pytest.approx(np.mean(expected), rel=tolerance)


def test_dark_knowledge_of_equal_and_of_extreme_logits():
    logits = 3 * normal(B, 3)
    assert kd_loss(logits, logits.clone(), 5.0).item() == 0
    assert kd_loss(logits, logits + 7, 5.0).item() == pytest.approx(0, abs=1e-12)  # a softmax ignores a common shift
    # Saturated probabilities: exp(−1000) is 0, and the naive p·log(p/q) would be NaN. KL of certainties is their gap.
    student, teacher = torch.tensor([[1000.0, 0.0]]).requires_grad_(), torch.tensor([[0.0, 1000.0]])
    loss = kd_loss(student, teacher, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1000) and torch.equal(student.grad, torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize("temperature", [1.0, 5.0, 0.5])
def test_dark_knowledge_of_one_logit_is_squared_error(temperature):
    student, teacher = normal(B, 1), normal(B, 1, seed=1)
    expected = np.mean([(student[b].item() - teacher[b].item()) ** 2 for b in range(B)])
    assert expected > 0.1
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_gradient_of_logits():
    labels, scores = torch.tensor([0, 2, 1, 1, 2]), normal(B, seed=2)
    assert torch.autograd.gradcheck(lambda z: task_loss(z, labels), leaf(normal(B, 3)))
    assert torch.autograd.gradcheck(lambda z: task_loss(z, scores), leaf(normal(B, 1)))
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, normal(B, 3, seed=1), 5.0), leaf(normal(B, 3)))
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, normal(B, 1, seed=1), 5.0), leaf(normal(B, 1)))


# --- intra-feature and local inter-feature ---


@masks
@both_precisions
def test_intra(mask, dtype, tolerance):
    student, teacher = hidden_states()
    loss = intra_feature_loss(student.to(dtype), teacher.to(dtype), mask)
    assert loss.item() == pytest.approx(reference_intra(student, teacher, mask), rel=tolerance)
    assert loss.dtype == dtype and loss.shape == ()


@masks
@both_precisions
@pytest.mark.parametrize("batch", [2, 3, 5])
def test_local_inter(batch, mask, dtype, tolerance):
    student, teacher = hidden_states(batch)
    mask = None if mask is None else mask[:batch]
    loss = local_inter_feature_loss(student.to(dtype), teacher.to(dtype), mask)
    expected = reference_local(student, teacher, mask)
    # Of two examples CKA is 1 whatever they are, and its −log rounding alone: hence the absolute tolerance.
    assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance / 10)
    assert loss.dtype == dtype and loss.shape == ()


@masks
def test_gradient_of_hidden_states(mask):
    student, teacher = hidden_states()
    assert torch.autograd.gradcheck(lambda h: intra_feature_loss(h, teacher, mask), leaf(student))
    assert torch.autograd.gradcheck(lambda h: local_inter_feature_loss(h, teacher, mask), leaf(student))


def test_partial_last_batch_is_its_own_batch():
    # 13 examples in batches of 5: the last has 3. Its structure is that of 3 examples of S tokens, nothing reshaped.
    student, teacher = hidden_states(13)
    last = student[10:], teacher[10:]
    assert local_inter_feature_loss(*last).item() == pytest.approx(reference_local(*last), rel=1e-10)
    assert intra_feature_loss(*last).item() == pytest.approx(reference_intra(*last), rel=1e-10)


@pytest.mark.parametrize("loss", [intra_feature_loss, local_inter_feature_loss])
def test_same_structure_costs_nothing(loss):
    student, _ = hidden_states()
    orthogonal, _ = torch.linalg.qr(normal(D_STUDENT, D_STUDENT, seed=4))
    # −log(1 + 1e-8) and rounding
    assert loss(student, student.clone()).item() == pytest.approx(0, abs=2e-8)
    assert loss(1e6 * student @ orthogonal, student).item() == pytest.approx(0, abs=2e-8)


@pytest.mark.parametrize("loss", [intra_feature_loss, local_inter_feature_loss])
@pytest.mark.parametrize("scale, shift", [(1e-6, 0), (1e6, 0), (1, 1e3)])
def test_scale_and_shift_of_the_student_in_float32(loss, scale, shift):
    student, teacher = hidden_states()
    changed = (scale * student + shift).float()
    # at offset 1e3 float32 keeps the features to 3e-5, everywhere else to 1e-7
    assert loss(changed, teacher.float()).item() == pytest.approx(loss(student, teacher).item(), rel=1e-3 if shift else 1e-5)


def test_order_of_tokens_and_of_examples_plays_no_part():
    student, teacher = hidden_states()
    tokens, examples = torch.tensor([3, 1, 5, 0, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    for loss in (intra_feature_loss, local_inter_feature_loss):
        expected = loss(student, teacher).item()
        assert loss(student[:, tokens], teacher[:, tokens]).item() == pytest.approx(expected, rel=1e-10)
        assert loss(student[examples], teacher[examples]).item() == pytest.approx(expected, rel=1e-10)
        assert loss(student[examples][:, tokens], teacher).item() != pytest.approx(expected, rel=1e-3)


@constants
@masks
@pytest.mark.parametrize("loss", [intra_feature_loss, local_inter_feature_loss])
def test_constant_student(loss, mask, constant):
    if mask is not None and loss is local_inter_feature_loss:
        constant = torch.zeros_like(constant)  # of a masked constant the lengths still are a structure between examples
    student = leaf(constant)
    value = loss(student, hidden_states()[1].float(), mask)
    value.backward()
    assert value.item() == pytest.approx(NO_CKA, rel=1e-6)
    assert torch.equal(student.grad, torch.zeros_like(student))


@constants
@pytest.mark.parametrize("loss", [intra_feature_loss, local_inter_feature_loss])
def test_constant_teacher(loss, constant):
    student = leaf(hidden_states()[1].float())
    value = loss(student, constant)
    value.backward()
    assert value.item() == pytest.approx(NO_CKA, rel=1e-6)
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_one_constant_example_among_others():
    student, teacher = (side.float() for side in hidden_states())
    student[2] = 0.1
    student = leaf(student)
    value = intra_feature_loss(student, teacher)
    value.backward()
    ckas = [0 if b == 2 else reference_cka(*(side[b].detach().double().numpy() for side in (teacher, student))) for b in range(B)]
    assert value.item() == pytest.approx(-np.log(np.mean(ckas) + FLOOR), rel=1e-4)
    assert torch.isfinite(student.grad).all()
    assert (student.grad[2] == 0).all() and (student.grad[[0, 1, 3, 4]].abs().amax(dim=(1, 2)) > 0).all()


def assert_no_structure(loss, *arguments):
    student = leaf(arguments[0].float())
    value = loss(student, arguments[1].float(), *arguments[2:])
    value.backward()  # accepted, though nothing depends on the student
    assert value.item() == 0 and value.dtype == torch.float32
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_fewer_than_two_items_are_no_structure():
    assert_no_structure(local_inter_feature_loss, *hidden_states(batch=1))
    assert_no_structure(local_inter_feature_loss, *hidden_states(batch=1), torch.ones(1, S))
    assert_no_structure(intra_feature_loss, *hidden_states(tokens=1))
    assert_no_structure(intra_feature_loss, *hidden_states(tokens=1), torch.ones(B, 1))


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (0, 0, 0, 0, 0), (0, 1, 0, 1, 1)])
def test_intra_with_no_example_left(lengths):
    mask = torch.arange(S) < torch.tensor(lengths)[:, None]
    assert_no_structure(intra_feature_loss, *hidden_states(), mask)


def test_local_inter_with_all_masked():
    student = leaf(hidden_states()[0].float())
    value = local_inter_feature_loss(student, hidden_states()[1].float(), torch.zeros(B, S))
    value.backward()
    assert value.item() == pytest.approx(NO_CKA, rel=1e-6)  # B items without variance, so CKA is 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_batch_of_one_has_intra_structure():
    student, teacher = hidden_states(batch=1)
    assert intra_feature_loss(student, teacher).item() == pytest.approx(reference_intra(student, teacher), rel=1e-10)


@pytest.mark.parametrize("junk", [1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("loss", [intra_feature_loss, local_inter_feature_loss])
def test_masked_positions_play_no_part(loss, junk):
    mask = MASKS["right-padded"]
    student, teacher = hidden_states()
    expected = loss(student, teacher, mask).item()
    dirty = leaf(student.masked_fill(mask[..., None] == 0, junk))
    value = loss(dirty, teacher.masked_fill(mask[..., None] == 0, junk), mask)
    value.backward()
    assert value.item() == expected
    assert torch.isfinite(dirty.grad).all() and (dirty.grad[mask == 0] == 0).all()


@pytest.mark.parametrize("loss", [intra_feature_loss, local_inter_feature_loss])
@both_precisions
def test_masked_at_full_and_at_cut_length(loss, dtype, tolerance):
    mask = MASKS["right-padded"]
    longest = int(mask.sum(dim=1).max())
    assert longest < S
    student, teacher = (side.to(dtype) for side in hidden_states())
    full, cut = leaf(student), leaf(student[:, :longest])
    full_loss, cut_loss = loss(full, teacher, mask), loss(cut, teacher[:, :longest], mask[:, :longest])
    assert cut_loss.item() == pytest.approx(full_loss.item(), rel=tolerance)
    full_loss.backward()
    cut_loss.backward()
    torch.testing.assert_close(cut.grad, full.grad[:, :longest], rtol=10 * tolerance, atol=tolerance / 10)


# --- global inter-feature ---


@masks
@both_precisions
def test_global_parts(mask, dtype, tolerance):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    terms = global_terms(
        zero_padding(student, mask).to(dtype), zero_padding(teacher, mask).to(dtype),
        student_memory.to(dtype), teacher_memory.to(dtype),
    )
    flat = reference_flat(student, mask), reference_flat(teacher, mask)
    expected = reference_global(*flat, student_memory.numpy(), teacher_memory.numpy())
    for value, reference in zip(terms, expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=tolerance)
        assert value.dtype == dtype and value.shape == ()


@pytest.mark.parametrize("gamma_m", [0.0, 0.3, 1.0])
def test_global_weights_its_parts(gamma_m):
    (student, teacher), pair = hidden_states(), memories()
    expected = reference_global(reference_flat(student), reference_flat(teacher), *(memory.numpy() for memory in pair))
    expected = gamma_m * expected[0] + (1 - gamma_m) * expected[1] + expected[2]
    assert global_inter_feature_loss(student, teacher, *pair, gamma_m).item() == pytest.approx(expected, rel=1e-10)
    in_rows = [memory.view(K, S, -1) for memory in pair]  # [K, S, d] is as good as [K, S·d], and flat features as [B, S, d]
    loss = global_inter_feature_loss(student.flatten(1), teacher.flatten(1), *in_rows, gamma_m)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


@masks
@pytest.mark.parametrize("part", [0, 1, 2])
def test_gradient_of_global_parts(mask, part):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    if part == 1 and mask is not None:
        mask = mask.clone()
        mask[:, 2] = 1  # at features that are all zero a cosine has no derivative

    def loss(hidden, memory):
        return global_terms(zero_padding(hidden, mask), zero_padding(teacher, mask), memory, teacher_memory)[part]

    if part == 2:
        assert torch.autograd.gradcheck(lambda memory: loss(student, memory), leaf(student_memory))
    else:
        assert torch.autograd.gradcheck(loss, (leaf(student), leaf(student_memory)))


def test_gradient_of_global_with_short_features():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()

    def loss(hidden, memory):
        mask = torch.ones(hidden.shape[:2])
        return global_inter_feature_loss(hidden, teacher[:, :4], memory + 2, teacher_memory, 0.3, mask)  # + 2: offset in the tail

    assert torch.autograd.gradcheck(loss, (leaf(student[:, :4]), leaf(student_memory)))


def test_short_features_without_a_mask_are_refused():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    with pytest.raises(ValueError, match="pad the examples to the memory's length, or give the mask"):
        global_inter_feature_loss(student[:, :4], teacher[:, :4], student_memory, teacher_memory, 0.3)


@both_precisions
def test_short_features_are_zero_beyond_their_end(dtype, tolerance):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(tokens=4), memories()
    student_memory, teacher_memory = student_memory + 2, teacher_memory - 1  # so that the tail matters
    terms = global_terms(*(side.to(dtype) for side in (student, teacher, student_memory, teacher_memory)))
    padded = [np.concatenate([reference_flat(side), np.zeros((B, 2 * side.shape[2]))], axis=1) for side in (student, teacher)]
    expected = reference_global(*padded, student_memory.numpy(), teacher_memory.numpy())
    for value, reference in zip(terms, expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=tolerance)


@both_precisions
def test_global_masked_at_full_and_at_cut_length(dtype, tolerance):
    mask = MASKS["right-padded"]
    longest = int(mask.sum(dim=1).max())
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    teacher, teacher_memory = teacher.to(dtype), (teacher_memory + 1).to(dtype)
    results = []
    for length in (S, longest):
        hidden, memory = leaf(student[:, :length].to(dtype)), leaf(student_memory.to(dtype))
        loss = global_inter_feature_loss(hidden, teacher[:, :length], memory, teacher_memory, 0.3, mask[:, :length])
        results.append((loss.item(), *torch.autograd.grad(loss, (hidden, memory))))
    (full, full_features, full_memory), (cut, cut_features, cut_memory) = results
    assert cut == pytest.approx(full, rel=tolerance)
    torch.testing.assert_close(cut_features, full_features[:, :longest], rtol=10 * tolerance, atol=tolerance / 10)
    torch.testing.assert_close(cut_memory, full_memory, rtol=10 * tolerance, atol=tolerance / 10)


def test_global_of_equal_sides_costs_nothing():
    student, memory = hidden_states()[0], memories()[0]
    terms = global_terms(student, student.clone(), memory, memory.clone())
    assert terms.distance.item() == terms.cosine.item() == 0
    assert terms.memory_cka.item() == pytest.approx(0, abs=2e-8)  # −log(1 + 1e-8) and rounding


def test_global_does_not_depend_on_the_order_of_centroids_or_examples():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    expected = [term.item() for term in global_terms(student, teacher, student_memory, teacher_memory)]
    centroids, examples = torch.tensor([5, 0, 3, 6, 1, 2, 4]), torch.tensor([4, 2, 0, 1, 3])
    moved = global_terms(student[examples], teacher[examples], student_memory[centroids], teacher_memory[centroids])
    assert [term.item() for term in moved] == pytest.approx(expected, rel=1e-10)
    unmatched = global_terms(student, teacher, student_memory[centroids], teacher_memory)
    assert all(a.item() != pytest.approx(b, rel=1e-3) for a, b in zip(unmatched, expected, strict=True))


def test_global_terms_ignore_rotation_and_distances_shifts():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    before = global_terms(student, teacher, student_memory, teacher_memory)
    rotation, _ = torch.linalg.qr(normal(S * D_STUDENT, S * D_STUDENT, seed=20))
    rotated = global_terms(student.flatten(1) @ rotation, teacher, student_memory @ rotation, teacher_memory)
    assert [term.item() for term in rotated] == pytest.approx([term.item() for term in before], rel=1e-10)
    shifted = global_terms(student + 3, teacher, student_memory + 3, teacher_memory)
    assert shifted.distance.item() == pytest.approx(before.distance.item(), rel=1e-10)
    assert shifted.memory_cka.item() == pytest.approx(before.memory_cka.item(), rel=1e-10)
    assert shifted.cosine.item() != pytest.approx(before.cosine.item(), rel=1e-3)
    for scale in (1e-6, 1e6):  # cosines and CKA do not depend on the scale of either argument
        scaled = global_terms(scale * student.float(), teacher.float(), scale * student_memory.float(), teacher_memory.float())
        assert scaled.cosine.item() == pytest.approx(before.cosine.item(), rel=1e-4)
        assert scaled.memory_cka.item() == pytest.approx(before.memory_cka.item(), rel=1e-4)


def test_large_common_offset_in_float32():
    """Offsets of 1000 under distances of some 6: squared norms of 1e7 whose difference is 40.

    Without a shift, float32 would lose those 40 in rounding of about 1 to 4.
    """
    hidden = [(side + 1e3).float() for side in hidden_states()]
    pair = [(memory + 1e3).float() for memory in memories()]
    terms = global_terms(*hidden, *pair)
    # the reference starts from the same rounded numbers, so what is compared is the arithmetic
    expected = reference_global(*(reference_flat(side) for side in hidden), *(memory.double().numpy() for memory in pair))
    assert terms.distance.item() == pytest.approx(expected[0], rel=1e-4)
    assert terms.memory_cka.item() == pytest.approx(expected[2], rel=1e-4)
    # Cosines lie within 1e-6 of 1, where float32 has steps of 6e-8: each is right to a few steps, so the mean of
    # squares of their differences is right to (a few 1e-7)².
    assert abs(terms.cosine.item() - expected[1]) < 1e-12
    with_mean = [(side + 1e3).float() for side in (hidden_states()[0], normal(B, S, D_TEACHER, seed=7))]
    assert local_inter_feature_loss(*with_mean).item() == pytest.approx(reference_local(*with_mean), rel=1e-4)
    assert intra_feature_loss(*with_mean).item() == pytest.approx(reference_intra(*with_mean), rel=1e-4)


def test_offset_features_beside_a_memory_of_noise():
    """The start of training: a memory of N(0, 1) far from features that all lie on one side."""
    hidden = [(side + 1e3).float() for side in hidden_states()]
    pair = [memory.float() for memory in memories()]
    expected = reference_global(*(reference_flat(side) for side in hidden), *(memory.double().numpy() for memory in pair))
    for value, reference in zip(global_terms(*hidden, *pair), expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=1e-4)


def test_small_centroids_beside_a_large_one_keep_their_digits():
    memory = torch.cat([torch.full((1, 64), 1e3), 1e-3 * normal(2, 64).float()]).requires_grad_()
    norms = memory_products(memory).norms
    (gradient,) = torch.autograd.grad(norms.sum(), memory)
    exact = memory.detach().double()
    torch.testing.assert_close(norms.double(), exact.norm(dim=1), rtol=1e-6, atol=0)  # a few roundings of 6e-8
    torch.testing.assert_close(gradient.double(), exact / exact.norm(dim=1, keepdim=True), rtol=1e-6, atol=0)


def test_zero_memory_rows():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    student_memory[[1, 4]] = 0
    teacher_memory[[4, 5]] = 0
    expected = reference_global(reference_flat(student), reference_flat(teacher), student_memory.numpy(), teacher_memory.numpy())
    hidden, memory = leaf(student), leaf(student_memory)
    terms = global_terms(hidden, teacher, memory, teacher_memory)
    for value, reference in zip(terms, expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=1e-10)
        gradients = torch.autograd.grad(value, (hidden, memory), retain_graph=True, allow_unused=True)
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    (cosine_gradient,) = torch.autograd.grad(terms.cosine, memory)
    assert (cosine_gradient[[1, 4]] == 0).all() and (cosine_gradient[0] != 0).any()


@pytest.mark.parametrize("value", [0.0, 0.1], ids=["all zero", "all 0.1"])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_constant_memory(side, value):
    hidden = leaf(hidden_states()[0].float())
    student_memory, teacher_memory = (memory.float() for memory in memories())
    if side == "student":
        student_memory.fill_(value)
    else:
        teacher_memory.fill_(value)
    memory = leaf(student_memory)
    teacher = hidden_states()[1].float()
    terms = global_terms(hidden, teacher, memory, teacher_memory)
    expected = reference_relations(reference_flat(hidden), memory.detach().double().numpy())
    of_teacher = reference_relations(reference_flat(teacher), teacher_memory.double().numpy())
    for term, mine, theirs in zip(terms[:2], expected, of_teacher, strict=True):
        assert term.item() == pytest.approx(np.mean((mine - theirs) ** 2), rel=1e-4)
    assert terms.memory_cka.item() == pytest.approx(NO_CKA, rel=1e-6)
    (gradient,) = torch.autograd.grad(terms.memory_cka, memory, retain_graph=True)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    sum(terms).backward()
    assert torch.isfinite(hidden.grad).all() and torch.isfinite(memory.grad).all()
    assert (hidden.grad != 0).any() and (memory.grad != 0).any()


def test_features_equal_to_a_centroid():
    """The square root has no derivative at distance 0: none is taken, and the other distances keep theirs."""
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    student_memory[2] = student[1].flatten()
    student_memory[0] = student[0].flatten() + 1e3  # moves the mean far away, so that squares are large where they cancel
    teacher_memory[3] = teacher[4].flatten()
    for dtype in (torch.float64, torch.float32):
        hidden, memory = leaf(student.to(dtype)), leaf(student_memory.to(dtype))
        terms = global_terms(hidden, teacher.to(dtype), memory, teacher_memory.to(dtype))
        gradients = torch.autograd.grad(terms.distance, (hidden, memory))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        # |∂D| is 1 for every pair, so a mean of (difference)² moves by at most twice the root of itself; 10 % for rounding
        assert gradients[0].flatten(1).norm().item() < 2.2 * terms.distance.item() ** 0.5
    expected = reference_global(reference_flat(student), reference_flat(teacher), student_memory.numpy(), teacher_memory.numpy())
    # squares near 4e5 in float32 leave up to 0.1 of a vanished one: a distance of 0.3 among 35, the large ones near 4000
    assert terms.distance.item() == pytest.approx(expected[0], rel=1e-3)


def test_exact_zero_distance_has_zero_gradient():
    features = torch.eye(2, 4)
    hidden, memory = leaf(features), leaf(features)  # every product is exact here
    terms = global_terms(hidden, torch.zeros(2, 4), memory, torch.ones(2, 4))
    # D_S is √2 off the diagonal and 0 on it, D_T is 2 throughout
    assert terms.distance.item() == pytest.approx(((2**0.5 - 2) ** 2 + 4) / 2, rel=1e-6)
    (gradient,) = torch.autograd.grad(terms.distance, hidden)
    # ∂/∂h of (D − 2)² / 4 at (h, m) = (e0, e1) is (D − 2)/2 · (h − m)/D
    expected = (2**0.5 - 2) / 2 / 2**0.5
    torch.testing.assert_close(gradient, expected * torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0]]))


def test_example_with_no_token_beside_a_memory():
    (student, teacher), pair = hidden_states(), memories()
    student, teacher = student.clone(), teacher.clone()
    student[3] = teacher[3] = 0
    hidden = leaf(student)
    terms = global_terms(hidden, teacher, *pair)
    expected = reference_global(reference_flat(student), reference_flat(teacher), *(memory.numpy() for memory in pair))
    assert [term.item() for term in terms] == pytest.approx(expected, rel=1e-10)
    (gradient,) = torch.autograd.grad(terms.cosine, hidden, retain_graph=True)
    assert torch.isfinite(gradient).all() and (gradient[3] == 0).all() and (gradient[0] != 0).any()
    (gradient,) = torch.autograd.grad(terms.distance, hidden)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_global_of_a_small_batch(batch):
    (student, teacher), pair = hidden_states(batch), memories()
    expected = reference_global(reference_flat(student), reference_flat(teacher), *(memory.numpy() for memory in pair))
    assert [term.item() for term in global_terms(student, teacher, *pair)] == pytest.approx(expected, rel=1e-10)


def test_a_single_centroid_is_no_structure():
    (student, teacher), pair = hidden_states(), [leaf(memory[:1]) for memory in memories()]
    terms = global_terms(student, teacher, *pair)
    assert terms.memory_cka.item() == 0 and terms.distance.item() > 0
    (gradient,) = torch.autograd.grad(terms.memory_cka, pair[0])
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_features_wider_than_the_memory_are_refused():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    with pytest.raises(ValueError, match="features of width 18 beside a memory of width 15"):
        global_terms(student, teacher, student_memory[:, :15], teacher_memory)


# --- precision ---


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
            local_inter_feature_loss(student, teacher, mask),
            global_inter_feature_loss(*features, student_memory, teacher_memory, 0.5),
        ]

    expected = losses(*single, *(z.float() for z in logits))
    with torch.autocast("cpu", torch.bfloat16):
        for values in (losses(*half, *logits), losses(*single, *(z.float() for z in logits))):
            assert [value.dtype for value in values] == [torch.float32] * len(values)
            assert [value.item() for value in values] == [value.item() for value in expected]  # to the bit


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


@pytest.mark.parametrize("temperature", [1.0, 100.0, 1_000.0, 10_000.0])
def test_dark_knowledge_is_no_rounding_noise_at_a_high_temperature(temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(32, 3, generator=generator) for _ in range(2))
    z_s, z_t = student.double() / temperature, teacher.double() / temperature
    p, q = torch.softmax(z_t, -1), torch.softmax(z_s, -1)
    # log1p keeps the digits where p and q are nearly equal.
    expected = temperature**2 * -(p * torch.log1p((q - p) / p)).sum(-1).mean()
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-4)
