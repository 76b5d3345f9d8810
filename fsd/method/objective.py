"""The objective: every method, the paper's and the baselines', is a weighted sum of the same losses (Eq. 3 and 11).

    α · task_loss + (1 − α) · dark_knowledge + β · (γ_i · intra + γ_l · local_inter + γ_g · L_G)
    L_G = γ_m · global_distance + (1 − γ_m) · global_cosine + memory_cka

    Baselines, in place of the structures: β · pkd, or rkd_distance and rkd_angle with a weight each, or
    β · (attention + value_relation), which is MiniLM.
"""

from dataclasses import dataclass

from fsd.method import baselines, global_structure, losses

LOSS_NAMES = (
    "task_loss", "dark_knowledge", "intra", "local_inter", "global_distance", "global_cosine", "memory_cka",
    "pkd", "rkd_distance", "rkd_angle", "attention", "value_relation",
)
BASELINE_OF = {"pkd": "PKD", "rkd_distance": "RKD", "rkd_angle": "RKD", "attention": "MiniLM"}


def layer_pairs(teacher_layers, student_layers, layerwise=False):
    """The (teacher, student) pairs of layers to compare, as indices into ``hidden_states``; index 0 is the embedding output.

    Args:
        teacher_layers, student_layers: numbers of layers L_T and L_S.
        layerwise: False gives one pair, the inputs of the last layers: (L_T − 1, L_S − 1). True gives
            (l·L_T/L_S, l) for l = 1 … L_S − 1.

    Raises:
        ValueError: layerwise, and L_T is not a multiple of L_S, or L_S is below 2.

    Source: released code.
    """
    if not layerwise:
        return [(teacher_layers - 1, student_layers - 1)]
    if student_layers < 2 or teacher_layers % student_layers:
        raise ValueError(
            f"a teacher of {teacher_layers} layers and a student of {student_layers} do not match layer by layer: the student "
            "needs at least 2 layers, and the teacher a multiple of them"
        )
    stride = teacher_layers // student_layers
    return [(stride * layer, layer) for layer in range(1, student_layers)]


@dataclass(frozen=True)
class Objective:
    """The weights of one method and the layer pairs that it compares.

    Only losses with a nonzero weight are computed. L_I, L_L and PKD compare the layers in ``pairs``; the other losses on
    hidden states always compare ``default_pair``.

    Attributes:
        alpha, temperature, beta, gamma_i, gamma_l, gamma_g, gamma_m: as in the formulas above.
        pkd, minilm: 1 for that baseline, with the weight β; otherwise 0.
        rkd_distance, rkd_angle: the weights of RKD's two losses.
        released_intra: L_I as the logarithm of the mean, as in the released code, and not Eq. 6.
        debiased: 1 − CKA with the debiased CKA in L_I, L_L and L_G's memory_cka.
        similarity: what these three take: "cka", "procrustes" or "gram"; see :mod:`fsd.method.similarity`.
        normalize_distances: L_G's distances over the root of the memory's width.
    """

    alpha: float
    temperature: float = 5.0
    beta: float = 0.0
    gamma_i: float = 0.0
    gamma_l: float = 0.0
    gamma_g: float = 0.0
    gamma_m: float = 0.5
    pkd: float = 0.0
    rkd_distance: float = 0.0
    rkd_angle: float = 0.0
    minilm: float = 0.0
    released_intra: bool = False
    debiased: bool = False
    similarity: str = "cka"
    normalize_distances: bool = False
    pairs: tuple = ()
    default_pair: tuple = ()

    @property
    def weights(self):
        """Loss name → weight, for the losses with a nonzero weight."""
        weights = (
            self.alpha,
            1 - self.alpha,
            self.beta * self.gamma_i,
            self.beta * self.gamma_l,
            self.beta * self.gamma_g * self.gamma_m,
            self.beta * self.gamma_g * (1 - self.gamma_m),
            self.beta * self.gamma_g,
            self.beta * self.pkd,
            self.rkd_distance,
            self.rkd_angle,
            self.beta * self.minilm,
            self.beta * self.minilm,
        )
        return {name: weight for name, weight in zip(LOSS_NAMES, weights, strict=True) if weight != 0}

    @property
    def method(self):
        """KD, FSD_I, …, FSD_ILG, PKD, RKD or MiniLM; fine-tuning if the teacher is not used."""
        letters = [("I", self.gamma_i), ("L", self.gamma_l), ("G", self.gamma_g)]
        structures = "".join(letter for letter, gamma in letters if self.beta * gamma != 0)
        if structures:
            return f"FSD_{structures}"
        baseline = next((BASELINE_OF[name] for name in self.weights if name in BASELINE_OF), None)
        return baseline or ("KD" if self.needs_teacher else "fine-tuning")

    @property
    def needs_teacher(self):
        """Whether any loss compares with the teacher."""
        return set(self.weights) != {"task_loss"}

    @property
    def needs_memory(self):
        """Whether the objective uses L_G, and so the teacher memory and the student memory."""
        return self.beta * self.gamma_g != 0

    @property
    def needs_attention(self):
        """Whether the objective uses MiniLM's losses, and so the last layers' attention and values."""
        return "attention" in self.weights

    @property
    def compared_pairs(self):
        """All layer pairs whose hidden states this objective uses, without repeats."""
        of_pairs = {"task_loss", "dark_knowledge", "intra", "local_inter", "pkd"}
        pairs = list(self.pairs) if {"intra", "local_inter", "pkd"} & set(self.weights) else []
        if set(self.weights) - of_pairs and self.default_pair not in pairs:
            pairs.append(self.default_pair)
        return pairs

    def formula(self):
        """The weighted sum with its weights filled in."""
        form = "debiased" if self.debiased else "" if self.similarity == "cka" else self.similarity
        forms = dict.fromkeys(("intra", "local_inter", "memory_cka"), f" ({form})") if form else {}
        if self.normalize_distances:
            forms["global_distance"] = " (normalized)"
        if self.released_intra:
            forms["intra"] = " (as in the released code)"
        return " + ".join(f"{weight:g}·{name}{forms.get(name, '')}" for name, weight in self.weights.items())

    def losses(self, student, teacher, labels, mask=None, student_memory=None, teacher_memory=None, attention=None):
        """The unweighted losses of one batch.

        Args:
            student, teacher: ``(logits [B, C], hidden_states)``. hidden_states maps a layer index to [B, S, d], at least for
                the layers in ``compared_pairs``. ``teacher`` may be None if ``needs_teacher`` is false.
            labels: [B].
            mask: [B, S], zero at padding, which every structure then ignores; or None.
            student_memory, teacher_memory: :class:`fsd.method.global_structure.MemoryProducts`, if ``needs_memory``.
            attention: ``(student, teacher, mask [B, S])`` if ``needs_attention``; of each model the last layer's queries, keys
                and values, [B, heads, S, d_head] each.

        Returns:
            Loss name → scalar tensor, in the order of ``weights``.

        Raises:
            ValueError: the objective compares layers and does not know which.
        """
        of_layers = {"intra", "local_inter", "pkd"} & set(self.weights)
        if of_layers and not self.pairs or () in self.compared_pairs:
            raise ValueError("the objective compares layers: give it pairs and default_pair, as layer_pairs returns them")
        values = {}
        student_logits, student_hidden = student
        teacher_logits, teacher_hidden = teacher or (None, None)
        if "task_loss" in self.weights:
            values["task_loss"] = losses.task_loss(student_logits, labels)
        if "dark_knowledge" in self.weights:
            values["dark_knowledge"] = losses.kd_loss(student_logits, teacher_logits, self.temperature)
        if of_layers:
            values |= self._layer_losses(student_hidden, teacher_hidden, mask)
        if self.needs_memory:
            t, s = self.default_pair
            terms = global_structure.global_inter_feature_terms(
                losses.zero_padding(student_hidden[s], mask),
                losses.zero_padding(teacher_hidden[t], mask),
                student_memory,
                teacher_memory,
                self.debiased,
                self.similarity,
                self.normalize_distances,
            )
            values |= {"global_distance": terms.distance, "global_cosine": terms.cosine, "memory_cka": terms.memory_cka}
        if relations := [name for name in ("distance", "angle") if f"rkd_{name}" in self.weights]:
            t, s = self.default_pair
            rkd = baselines.rkd_losses(student_hidden[s], teacher_hidden[t], mask, relations)
            values |= {f"rkd_{name}": loss for name, loss in rkd.items()}
        if self.needs_attention:
            (q_s, k_s, v_s), (q_t, k_t, v_t), real = attention
            values["attention"] = baselines.query_key_loss(q_s, k_s, q_t, k_t, real)
            values["value_relation"] = baselines.value_relation_loss(v_s, v_t, real)
        return {name: values[name] for name in self.weights}

    def total(self, values):
        """The weighted sum of what :meth:`losses` returned: a scalar tensor."""
        return sum(self.weights[name] * value for name, value in values.items())

    def _layer_losses(self, student_hidden, teacher_hidden, mask):
        """The losses that are means over ``pairs``."""

        def intra(student, teacher):
            return losses.intra_feature_loss(student, teacher, mask, self.released_intra, self.debiased, self.similarity)

        def local_inter(student, teacher):
            return losses.local_inter_feature_loss(student, teacher, mask, self.debiased, self.similarity)

        values = {}
        for name, loss in (("intra", intra), ("local_inter", local_inter), ("pkd", baselines.pkd_loss)):
            if name in self.weights:
                terms = [loss(student_hidden[s], teacher_hidden[t]) for t, s in self.pairs]
                values[name] = sum(terms) / len(terms)
        return values
