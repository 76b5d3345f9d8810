"""The Procrustes and the Gram distance against their definitions in float64, and the losses that take them.

The references centre and multiply the features themselves, and take singular values of XᵀY, which the code never forms.
Tolerances: float64 to 1e-7, as singular values are roots of what is known to 1e-16; float32 to 1e-5 of the features' size.
"""

import pytest
import torch
from references import MASKS, B, S, assert_no_structure, hidden_states, leaf, memories
from test_cka import CONSTANT, normal, related

from fsd import (
    global_inter_feature_loss,
    gram_distance,
    intra_feature_loss,
    linear_cka,
    local_inter_feature_loss,
    procrustes_distance,
)
from fsd.method.global_structure import global_inter_feature_terms, memory_products
from fsd.method.objective import Objective
from fsd.method.similarity import structure_gram, structure_term

DISTANCES = {"procrustes": procrustes_distance, "gram": gram_distance}
distances = pytest.mark.parametrize("name", DISTANCES)
ROTATION = torch.linalg.qr(normal(7, 7, seed=5))[0]
SHAPES = {"more features": (5, 9, 7), "fewer features": (12, 3, 4), "between the two": (6, 3, 9)}  # items, P, Q


def reference(name, x, y):
    x, y = (side.double() - side.double().mean(dim=0) for side in (x, y))
    if name == "gram":
        return ((x @ x.T - y @ y.T).norm() / (y @ y.T).norm()).item()
    singular = torch.linalg.svd(x.T @ y).S
    return ((x.square().sum() + y.square().sum() - 2 * singular.sum()) / y.square().sum()).item()


@distances
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_definition_and_gradient(name, shape):
    items, p, q = shape
    x, y = normal(items, p), normal(items, q, seed=1) + 3
    expected = reference(name, x, y)
    assert DISTANCES[name](x, y).item() == pytest.approx(expected, rel=1e-10)
    assert DISTANCES[name](x.float(), y.float()).item() == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.gradcheck(DISTANCES[name], (leaf(x), leaf(y)))


def test_by_hand():
    # Centred, x is (−1, 0, 1) and y is (−2, 0, 2): XᵀY is 4, the Gram matrices differ by a factor of 4.
    x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.0], [2.0], [4.0]])
    assert procrustes_distance(x, y).item() == pytest.approx((2 + 8 - 2 * 4) / 8)
    assert gram_distance(x, y).item() == pytest.approx(0.75)


@distances
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-7), (torch.float32, 1e-5)])
def test_rotations_and_shifts_cost_nothing_and_scaling_does(name, dtype, tolerance):
    y = normal(12, 7, dtype=dtype)
    wider = torch.linalg.qr(normal(9, 7, seed=6))[0].T.to(dtype)
    for same in (y, y + 100, y @ ROTATION.to(dtype), -y, (y @ ROTATION.to(dtype) + 5) @ wider):
        assert 0 <= DISTANCES[name](same, y).item() < tolerance and 0 <= DISTANCES[name](y, same).item() < tolerance
    for scale in (0.5, 3.0):
        expected = {"procrustes": (scale - 1) ** 2, "gram": abs(scale**2 - 1)}[name]
        assert DISTANCES[name](scale * y, y).item() == pytest.approx(expected, rel=1e-5)
        assert linear_cka(scale * y, y).item() == pytest.approx(1)
    both = 1e6 * y + 1e6, 1e6 * y @ ROTATION.to(dtype)
    assert DISTANCES[name](*both).item() < 100 * tolerance  # only the ratio of the sizes counts


@distances
@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_very_small_and_very_large_features(name, size):
    x, y = related()
    assert DISTANCES[name]((size * x).float(), (size * y).float()).item() == pytest.approx(reference(name, x, y), rel=1e-4)


@distances
def test_batched_and_broadcast(name):
    pairs = [related(6, seed=10 * i) for i in range(3)]
    x, y = (torch.stack(sides) for sides in zip(*pairs, strict=True))
    expected = torch.tensor([[reference(name, a, b) for b in y] for a in x], dtype=torch.float64)
    torch.testing.assert_close(DISTANCES[name](x, y), expected.diagonal())
    torch.testing.assert_close(DISTANCES[name](x[:, None], y[None]), expected)


@distances
def test_half_precision_is_computed_in_float32(name):
    x, y = (side.bfloat16() for side in related())
    with torch.autocast("cpu", torch.bfloat16):
        value = DISTANCES[name](x, y)
    assert value.dtype == torch.float32 and torch.equal(value, DISTANCES[name](x.float(), y.float()))


@distances
@pytest.mark.parametrize("constant", CONSTANT.values(), ids=CONSTANT.keys())
def test_constant_features(name, constant):
    """Without variance, the student is as far from the teacher as the origin; a teacher without it asks for nothing."""
    other = normal(6, 3, dtype=torch.float32)
    for x, y, expected in ((constant, other, 1), (other, constant, 0), (constant, constant, 0)):
        x, y = leaf(x), leaf(y)
        value = DISTANCES[name](x, y)
        assert value.item() == pytest.approx(expected)
        gradients = torch.autograd.grad(value, [x, y])
        assert torch.equal(gradients[0], torch.zeros_like(x))
        assert torch.isfinite(gradients[1]).all() and gradients[1].abs().max() < 1e-5


@distances
def test_zero_singular_values_and_equal_features_have_finite_gradients(name):
    x = normal(8, 5, dtype=torch.float32)
    x[:, 3:] = 0
    orthogonal = torch.zeros(8, 5)
    orthogonal[:, 4] = normal(8, seed=3)
    for student, teacher in ((x, normal(8, 5, seed=1).float()), (x, orthogonal), (x, x), (x[:1].repeat(8, 1) + 0 * x, x)):
        student = leaf(student)
        (gradient,) = torch.autograd.grad(DISTANCES[name](student, teacher), student)
        assert torch.isfinite(gradient).all()
    (gradient,) = torch.autograd.grad(DISTANCES[name](same := leaf(x), x), same)
    assert gradient.abs().max() < 1e-3  # the best place there is


@distances
def test_the_distance_can_be_descended(name):
    student, teacher = leaf(normal(8, 4)), normal(8, 6, seed=1)
    optimizer = torch.optim.Adam([student], lr=0.05)
    first = DISTANCES[name](student, teacher[:, :4]).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = DISTANCES[name](student, teacher[:, :4])
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first


@distances
def test_features_that_are_not_finite_are_told_by_the_value(name):
    x, y = torch.stack([normal(6, 3), normal(6, 3, seed=1)]), normal(6, 4, seed=2)
    for bad in (torch.nan, torch.inf):
        x[0, 2, 1] = bad
        value = DISTANCES[name](x, y)
        assert torch.isnan(value[0]) and value[1].item() == pytest.approx(reference(name, x[1], y))


@distances
@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]])
def test_masked_equals_cut(name, mask):
    (x, y), kept = related(6), torch.tensor(mask).bool()

    def masked(x, y):
        return structure_term(structure_gram(x, name, kept), structure_gram(y, name, kept), name)

    assert masked(x, y).item() == pytest.approx(reference(name, x[kept], y[kept]), rel=1e-10)
    assert torch.autograd.gradcheck(masked, (leaf(x), leaf(y)))


@distances
def test_other_shapes_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}_distance takes x"):
        DISTANCES[name](normal(5, 3), normal(6, 3))
    with pytest.raises(ValueError, match="takes x"):
        DISTANCES[name](normal(5), normal(5, 3))


# --- the losses ---


@distances
@pytest.mark.parametrize("mask", [None, *MASKS.values()], ids=["no mask", *MASKS])
def test_the_intra_loss_is_the_mean_over_examples_of_at_least_two_tokens(name, mask):
    student, teacher = hidden_states()
    kept = [slice(None)] * B if mask is None else [row.bool() for row in mask]
    values = [reference(name, student[b][at], teacher[b][at]) for b, at in enumerate(kept) if mask is None or at.sum() >= 2]
    value = intra_feature_loss(student, teacher, mask, similarity=name)
    assert value.item() == pytest.approx(sum(values) / len(values), rel=1e-9)
    single = intra_feature_loss(student.float(), teacher.float(), mask, similarity=name)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(value.item(), rel=1e-4)


@distances
@pytest.mark.parametrize("mask", [None, *MASKS.values()], ids=["no mask", *MASKS])
def test_the_local_inter_loss(name, mask):
    student, teacher = hidden_states()
    flat = [(side if mask is None else side * mask[..., None]).flatten(1) for side in (student, teacher)]
    value = local_inter_feature_loss(student, teacher, mask, similarity=name)
    assert value.item() == pytest.approx(reference(name, *flat), rel=1e-10)
    single = local_inter_feature_loss(student.float(), teacher.float(), mask, similarity=name)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(value.item(), rel=1e-4)


@distances
def test_the_memories_part(name):
    (student, teacher), pair = hidden_states(), memories()
    plain, other = (global_inter_feature_terms(student, teacher, *map(memory_products, pair), similarity=similarity)
                    for similarity in ("cka", name))
    assert other.memory_cka.item() == pytest.approx(reference(name, *pair), rel=1e-10)
    assert (plain.distance, plain.cosine) == (other.distance, other.cosine)
    whole, with_cka = (global_inter_feature_loss(student, teacher, *pair, 0.5, similarity=form) for form in (name, "cka"))
    assert (whole - with_cka).item() == pytest.approx((other.memory_cka - plain.memory_cka).item(), rel=1e-9)

    def part(student, memory, dtype=torch.float64):
        of_teacher = memory_products(pair[1].to(dtype))
        return global_inter_feature_terms(student, teacher.to(dtype), memory_products(memory), of_teacher, similarity=name)[2]

    pair = [memory[:4] for memory in pair]
    assert torch.autograd.gradcheck(lambda memory: part(student, memory), leaf(pair[0]))
    single = part(student.float(), leaf(pair[0].float()), torch.float32)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(reference(name, *pair), rel=1e-4)


@distances
def test_fewer_than_two_items_are_no_structure(name):
    def intra(*arguments):
        return intra_feature_loss(*arguments, similarity=name)

    def local_inter(*arguments):
        return local_inter_feature_loss(*arguments, similarity=name)

    assert_no_structure(local_inter, *hidden_states(batch=1))
    assert_no_structure(intra, *hidden_states(tokens=1))
    assert_no_structure(intra, *hidden_states(), torch.arange(S) < torch.tensor([1, 0, 1, 1, 0])[:, None])
    assert torch.isfinite(intra(*hidden_states(batch=1)))
    one = [memory[:1] for memory in memories()]
    assert global_inter_feature_terms(*hidden_states(), *map(memory_products, one), similarity=name).memory_cka.item() == 0


@distances
def test_masked_positions_play_no_part(name):
    student, teacher = hidden_states()
    mask = MASKS["left-padded"]
    for loss in (intra_feature_loss, local_inter_feature_loss):
        dirty = leaf(student.masked_fill(mask[..., None] == 0, float("nan")))
        value = loss(dirty, teacher, mask, similarity=name)
        value.backward()
        assert value.item() == pytest.approx(loss(student, teacher, mask, similarity=name).item(), rel=1e-10)
        assert torch.isfinite(dirty.grad).all() and (dirty.grad[mask == 0] == 0).all()


@pytest.mark.parametrize("flags, words", [
    ({"similarity": "cosine"}, "one of cka, procrustes, gram, not 'cosine'"),
    ({"similarity": "gram", "debiased": True}, "debiased is a form of CKA, and the similarity is gram"),
])
def test_what_does_not_fit_is_refused(flags, words):
    student, teacher = hidden_states()
    for loss in (intra_feature_loss, local_inter_feature_loss):
        with pytest.raises(ValueError, match=words):
            loss(student, teacher, **flags)
    with pytest.raises(ValueError, match=words):
        global_inter_feature_loss(student, teacher, *memories(), 0.5, **flags)
    with pytest.raises(ValueError, match="released is a form of CKA, and the similarity is procrustes"):
        intra_feature_loss(student, teacher, released=True, similarity="procrustes")


@distances
def test_the_objective(name):
    student, teacher = hidden_states()
    logits, of_student, of_teacher = normal(B, 2), *map(memory_products, memories())
    gammas = {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0}
    objective = Objective(
        0.5, beta=2.0, **gammas, similarity=name, normalize_distances=True, pairs=((5, 2),), default_pair=(5, 2)
    )
    values = objective.losses(
        (logits, {2: student}), (logits, {5: teacher}), torch.zeros(B, dtype=torch.long), None, of_student, of_teacher
    )
    assert values["intra"].item() == intra_feature_loss(student, teacher, similarity=name).item()
    assert values["local_inter"].item() == local_inter_feature_loss(student, teacher, similarity=name).item()
    assert values["memory_cka"].item() == pytest.approx(reference(name, *memories()), rel=1e-10)
    plain = global_inter_feature_terms(student, teacher, of_student, of_teacher).distance
    normalized = global_inter_feature_terms(student, teacher, of_student, of_teacher, normalize_distances=True).distance
    assert values["global_distance"].item() == normalized.item() < plain.item()
    assert objective.formula() == (
        f"0.5·task_loss + 0.5·dark_knowledge + 2·intra ({name}) + 2·local_inter ({name}) + 1·global_distance (normalized)"
        f" + 1·global_cosine + 2·memory_cka ({name})"
    )
