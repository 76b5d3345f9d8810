"""The weighted sum: which losses each method weighs, on which layers, and that the others are never computed."""

import pytest
import torch

from fsd.method import global_structure, losses
from fsd.method.objective import LOSS_NAMES, Objective, layer_pairs
from fsd.training.loss_log import LOWERED_BY

PAIRS = {"pairs": ((11, 5),), "default_pair": (11, 5)}
LAYERWISE = {"pairs": ((2, 1), (4, 2), (6, 3), (8, 4), (10, 5)), "default_pair": (11, 5)}
KD = {"task_loss": 0.25, "dark_knowledge": 0.75}
SETTINGS = {"alpha": 0.25, "temperature": 4.0, "beta": 8.0, "gamma_m": 0.125, **PAIRS}  # exact in binary, as are all products
G = {"global_distance": 1.0, "global_cosine": 7.0, "memory_cka": 8.0}  # β · (γ_m, 1 − γ_m, 1)
METHODS = {
    "KD": ({}, KD),
    "FSD_I": ({"gamma_i": 1.0}, {**KD, "intra": 8.0}),
    "FSD_L": ({"gamma_l": 1.0}, {**KD, "local_inter": 8.0}),
    "FSD_G": ({"gamma_g": 1.0}, {**KD, **G}),
    "FSD_IL": ({"gamma_i": 0.25, "gamma_l": 0.5}, {**KD, "intra": 2.0, "local_inter": 4.0}),
    "FSD_IG": ({"gamma_i": 0.25, "gamma_g": 1.0}, {**KD, "intra": 2.0, **G}),
    "FSD_ILG": (
        {"gamma_i": 0.25, "gamma_l": 0.5, "gamma_g": 0.5},
        {**KD, "intra": 2.0, "local_inter": 4.0, **{name: weight / 2 for name, weight in G.items()}},
    ),
}
methods = pytest.mark.parametrize("method", METHODS)
FUNCTIONS = {
    "task_loss": "task_loss",
    "dark_knowledge": "kd_loss",
    "intra": "intra_feature_loss",
    "local_inter": "local_inter_feature_loss",
    "memory_cka": "global_inter_feature_terms",
}


def objective_of(method, **changes):
    return Objective(**{**SETTINGS, **METHODS[method][0], **changes})


class Batch:
    """Random logits, labels, hidden states (student 6 layers of width 3, teacher 12 of width 4), mask and memories."""

    def __init__(self, examples=4, tokens=5, classes=3):
        generator = torch.Generator().manual_seed(0)

        def normal(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.student_logits, self.teacher_logits = normal(examples, classes), normal(examples, classes)
        self.student_hidden = {layer: normal(examples, tokens, 3).requires_grad_() for layer in range(7)}
        self.teacher_hidden = {layer: normal(examples, tokens, 4) for layer in range(13)}
        self.labels = torch.arange(examples) % classes
        self.mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
        self.student_memory = global_structure.memory_products(normal(6, tokens * 3))
        self.teacher_memory = global_structure.memory_products(normal(6, tokens * 4))

    def losses(self, objective, mask=None):
        """What the objective makes of this batch when it is given no more than the layers it says it compares."""
        teacher_layers, student_layers = zip(*objective.compared_pairs, strict=True) if objective.compared_pairs else ((), ())
        student = self.student_logits, {layer: self.student_hidden[layer] for layer in student_layers}
        teacher = self.teacher_logits, {layer: self.teacher_hidden[layer] for layer in teacher_layers}
        memory = (self.student_memory, self.teacher_memory) if objective.needs_memory else (None, None)
        return objective.losses(student, teacher if objective.needs_teacher else None, self.labels, mask, *memory)


# --- which losses, with which weights ---


@methods
def test_weights(method):
    objective = objective_of(method)
    assert objective.method == method
    assert objective.weights == METHODS[method][1]
    assert list(objective.weights) == [name for name in LOSS_NAMES if name in objective.weights]
    assert objective.needs_teacher
    assert objective.needs_memory == ("G" in method)


@methods
def test_beta_0_is_kd(method):
    objective = objective_of(method, beta=0.0)
    assert objective.method == "KD" and objective.weights == KD
    assert not objective.needs_memory and objective.compared_pairs == []


def test_alpha_at_its_ends():
    assert list(objective_of("KD", alpha=0.0).weights) == ["dark_knowledge"]
    finetuning = objective_of("KD", alpha=1.0)
    assert finetuning.weights == {"task_loss": 1.0}
    assert finetuning.method == "fine-tuning" and not finetuning.needs_teacher
    structure = objective_of("FSD_I", alpha=1.0)
    assert structure.weights == {"task_loss": 1.0, "intra": 8.0}
    assert structure.method == "FSD_I" and structure.needs_teacher


def test_gamma_m_at_its_ends():
    assert set(objective_of("FSD_G", gamma_m=1.0).weights) == {*KD, "global_distance", "memory_cka"}
    assert set(objective_of("FSD_G", gamma_m=0.0).weights) == {*KD, "global_cosine", "memory_cka"}


@pytest.mark.parametrize("beta", [30.0, 0.1])
@pytest.mark.parametrize("single, gamma", [("FSD_I", "gamma_i"), ("FSD_L", "gamma_l"), ("FSD_G", "gamma_g")])
def test_one_gamma_at_1_is_the_single_structure(single, gamma, beta):
    """run_glue_all.py with one γ at 1 and the others at 0 weighs as the script of that structure does, to the bit."""
    gammas = {"gamma_i": 0.0, "gamma_l": 0.0, "gamma_g": 0.0, gamma: 1.0}
    integrated = Objective(alpha=0.3, beta=beta, gamma_m=0.2, **gammas, **PAIRS)
    alone = Objective(alpha=0.3, beta=beta, gamma_m=0.2, **{gamma: 1.0}, **PAIRS)
    assert integrated == alone and integrated.method == single
    structure = {name: weight for name, weight in integrated.weights.items() if name not in KD}
    if single == "FSD_G":
        assert structure == {"global_distance": beta * 0.2, "global_cosine": beta * 0.8, "memory_cka": beta}
    else:
        assert list(structure.values()) == [beta]


def test_weights_of_the_released_integrated_script():
    """Its σ, γ, ε and β give the same sum with β = ε, γ_g = σ, γ_i = (1−σ)γ/2, γ_l = (1−σ)(1−γ)/2, γ_m = β_released."""
    sigma, gamma, epsilon, beta_released, alpha = 0.4, 0.3, 20.0, 0.1, 0.6
    objective = Objective(
        alpha=alpha, beta=epsilon, gamma_g=sigma, gamma_i=(1 - sigma) * gamma / 2, gamma_l=(1 - sigma) * (1 - gamma) / 2,
        gamma_m=beta_released, **PAIRS,
    )
    values = {name: 2.0**power for power, name in enumerate(objective.weights)}  # no two sums of these are alike
    ce, dk, intra, local, distance, cosine, cka = values.values()
    structures = sigma * (beta_released * distance + (1 - beta_released) * cosine + cka)
    structures += (1 - sigma) * (gamma * intra + (1 - gamma) * local) / 2
    expected = alpha * ce + (1 - alpha) * dk + epsilon * structures
    assert objective.total(values) == pytest.approx(expected, rel=1e-12)  # the same products in another order


def test_formula():
    assert objective_of("KD").formula() == "0.25·task_loss + 0.75·dark_knowledge"
    assert objective_of("FSD_ILG").formula() == (
        "0.25·task_loss + 0.75·dark_knowledge + 2·intra + 4·local_inter"
        " + 0.5·global_distance + 3.5·global_cosine + 4·memory_cka"
    )
    assert Objective(alpha=0.9).formula() == "0.9·task_loss + 0.1·dark_knowledge"  # not 0.09999999999999998


def test_the_released_form_of_the_intra_loss():
    paper, released = (Batch().losses(objective_of("FSD_I", released_intra=form))["intra"] for form in (False, True))
    batch = Batch()
    expected = losses.intra_feature_loss(batch.student_hidden[5], batch.teacher_hidden[11], released=True)
    assert released.item() == expected.item() < paper.item()  # the logarithm is concave
    assert objective_of("FSD_I", released_intra=True).formula().endswith("8·intra (as in the released code)")


def test_every_loss_has_a_flag_that_lowers_it():
    assert set(LOWERED_BY) == set(LOSS_NAMES)


# --- layers ---


def test_layer_pairs():
    assert layer_pairs(12, 6) == [(11, 5)]
    assert layer_pairs(24, 3) == [(23, 2)]
    assert layer_pairs(12, 5) == [(11, 4)]  # one pair needs no common divisor
    assert layer_pairs(1, 1) == [(0, 0)]
    assert layer_pairs(12, 6, layerwise=True) == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)]
    assert layer_pairs(12, 4, layerwise=True) == [(3, 1), (6, 2), (9, 3)]
    assert layer_pairs(4, 4, layerwise=True) == [(1, 1), (2, 2), (3, 3)]
    assert layer_pairs(2, 2, layerwise=True) == [(1, 1)]


@pytest.mark.parametrize("depths", [(12, 5), (12, 1), (6, 12), (12, 7)])
def test_unmatched_depths(depths):
    with pytest.raises(ValueError, match=f"^a teacher of {depths[0]} layers and a student of {depths[1]} "):
        layer_pairs(*depths, layerwise=True)


def test_compared_pairs():
    assert objective_of("KD").compared_pairs == []
    for method in ("FSD_I", "FSD_L", "FSD_IL", "FSD_G", "FSD_ILG"):
        assert objective_of(method).compared_pairs == [(11, 5)]
    assert objective_of("FSD_I", **LAYERWISE).compared_pairs == list(LAYERWISE["pairs"])
    assert objective_of("FSD_G", **LAYERWISE).compared_pairs == [(11, 5)]  # the global structure keeps its pair
    assert objective_of("FSD_ILG", **LAYERWISE).compared_pairs == [*LAYERWISE["pairs"], (11, 5)]


# --- the values ---


@methods
@pytest.mark.parametrize("pairing", [PAIRS, LAYERWISE], ids=["default pair", "layerwise"])
@pytest.mark.parametrize("masked", [False, True])
def test_losses_and_their_sum(method, pairing, masked):
    batch = Batch()
    objective = objective_of(method, **pairing)
    mask = batch.mask if masked else None
    values = batch.losses(objective, mask)
    expected = {
        "task_loss": losses.task_loss(batch.student_logits, batch.labels),
        "dark_knowledge": losses.kd_loss(batch.student_logits, batch.teacher_logits, 4.0),
    }
    for name, loss in (("intra", losses.intra_feature_loss), ("local_inter", losses.local_inter_feature_loss)):
        by_pair = [loss(batch.student_hidden[s], batch.teacher_hidden[t], mask) for t, s in pairing["pairs"]]
        expected[name] = torch.stack(by_pair).mean()
    features = batch.student_hidden[5], batch.teacher_hidden[11]
    if masked:
        features = [hidden * mask[..., None] for hidden in features]
    terms = global_structure.global_inter_feature_terms(*features, batch.student_memory, batch.teacher_memory)
    expected |= {"global_distance": terms.distance, "global_cosine": terms.cosine, "memory_cka": terms.memory_cka}

    weights = METHODS[method][1]
    assert list(values) == list(weights)
    for name, value in values.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-12), name  # means taken in another order
    total = sum(weight * expected[name].item() for name, weight in weights.items())
    assert objective.total(values).item() == pytest.approx(total, rel=1e-12)


def test_the_mask_reaches_every_structure():
    batch, objective = Batch(), objective_of("FSD_ILG")
    plain, masked = batch.losses(objective), batch.losses(objective, batch.mask)
    for name in ("intra", "local_inter", "global_distance", "global_cosine"):
        assert masked[name].item() != pytest.approx(plain[name].item(), rel=1e-3), name
    for name in ("task_loss", "dark_knowledge", "memory_cka"):  # memories span all positions either way
        assert masked[name].item() == plain[name].item(), name


@methods
def test_losses_of_weight_0_are_not_computed(method, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("a loss of weight 0 was computed")

    expected = Batch().losses(objective_of(method))
    for name, function in FUNCTIONS.items():
        if name not in METHODS[method][1]:
            monkeypatch.setattr(losses if hasattr(losses, function) else global_structure, function, forbidden)
    values = Batch().losses(objective_of(method))
    assert {name: value.item() for name, value in values.items()} == {name: value.item() for name, value in expected.items()}
    monkeypatch.setattr(losses, "task_loss", forbidden)  # this one has a weight: the trap works
    with pytest.raises(AssertionError, match="of weight 0"):
        Batch().losses(objective_of(method))


def test_the_ends_of_alpha_leave_a_loss_out(monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("a loss of weight 0 was computed")

    with monkeypatch.context() as patch:
        patch.setattr(losses, "task_loss", forbidden)
        assert list(Batch().losses(objective_of("FSD_I", alpha=0.0))) == ["dark_knowledge", "intra"]
    with monkeypatch.context() as patch:
        patch.setattr(losses, "kd_loss", forbidden)
        assert list(Batch().losses(objective_of("FSD_I", alpha=1.0))) == ["task_loss", "intra"]


def test_finetuning_needs_no_teacher(monkeypatch):
    monkeypatch.delattr(losses, "kd_loss")
    batch, objective = Batch(), Objective(alpha=1.0)
    values = objective.losses((batch.student_logits, {}), None, batch.labels)
    assert list(values) == ["task_loss"]
    assert objective.total(values).item() == losses.task_loss(batch.student_logits, batch.labels).item()


