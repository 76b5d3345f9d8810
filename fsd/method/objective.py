"""The objective: every method of the paper is a weighted sum of the same losses (Eq. 3 and 11).

    α · task_loss + (1 − α) · dark_knowledge + β · (γ_i · intra + γ_l · local_inter + γ_g · L_G)
    L_G = γ_m · global_distance + (1 − γ_m) · global_cosine + memory_cka
"""

from dataclasses import dataclass

from fsd.method import global_structure, losses

LOSS_NAMES = (
    "task_loss", "dark_knowledge", "intra", "local_inter", "global_distance", "global_cosine", "memory_cka"
)


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

    Only losses with a nonzero weight are computed. The intra and local losses compare the layers in ``pairs``; the global
    loss always compares ``global_pair``.
    """

    alpha: float
    temperature: float = 5.0
    beta: float = 0.0
    gamma_i: float = 0.0
    gamma_l: float = 0.0
    gamma_g: float = 0.0
    gamma_m: float = 0.5
    pairs: tuple = ()
    global_pair: tuple = ()

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
        )
        return {name: weight for name, weight in zip(LOSS_NAMES, weights, strict=True) if weight != 0}

    @property
    def method(self):
        """KD, FSD_I, FSD_L, FSD_G, FSD_IL, FSD_ILG, …; fine-tuning if the teacher is not used."""
        letters = [("I", self.gamma_i), ("L", self.gamma_l), ("G", self.gamma_g)]
        structures = "".join(letter for letter, gamma in letters if self.beta * gamma != 0)
        if structures:
            return f"FSD_{structures}"
        return "KD" if self.needs_teacher else "fine-tuning"

    @property
    def needs_teacher(self):
        """Whether any loss compares with the teacher."""
        return set(self.weights) != {"task_loss"}

    @property
    def needs_memory(self):
        """Whether the objective uses L_G, and so the teacher memory and the student memory."""
        return self.beta * self.gamma_g != 0

    @property
    def compared_pairs(self):
        """All layer pairs that the losses of this objective use, without repeats."""
        pairs = list(self.pairs) if {"intra", "local_inter"} & set(self.weights) else []
        if self.needs_memory and self.global_pair not in pairs:
            pairs.append(self.global_pair)
        return pairs

    def formula(self):
        """The weighted sum with its weights filled in."""
        return " + ".join(f"{weight:g}·{name}" for name, weight in self.weights.items())

    def losses(self, student, teacher, labels, mask=None, student_memory=None, teacher_memory=None):
        """The unweighted losses of one batch.

        Args:
            student, teacher: ``(logits [B, C], hidden_states)``. hidden_states maps a layer index to [B, S, d], at least for
                the layers in ``compared_pairs``. ``teacher`` may be None if ``needs_teacher`` is false.
            labels: [B].
            mask: [B, S], zero at padding, which every structure then ignores; or None.
            student_memory, teacher_memory: :class:`fsd.method.global_structure.MemoryProducts`, if ``needs_memory``.

        Returns:
            Loss name → scalar tensor, in the order of ``weights``.
        """
        weights, values = self.weights, {}
        student_logits, student_hidden = student
        teacher_logits, teacher_hidden = teacher or (None, None)
        if "task_loss" in weights:
            values["task_loss"] = losses.task_loss(student_logits, labels)
        if "dark_knowledge" in weights:
            values["dark_knowledge"] = losses.kd_loss(student_logits, teacher_logits, self.temperature)
        for name, loss in (("intra", losses.intra_feature_loss), ("local_inter", losses.local_inter_feature_loss)):
            if name in weights:
                pairs = [loss(student_hidden[s], teacher_hidden[t], mask) for t, s in self.pairs]
                values[name] = sum(pairs) / len(pairs)
        if self.needs_memory:
            t, s = self.global_pair
            terms = global_structure.global_inter_feature_terms(
                losses.zero_padding(student_hidden[s], mask),
                losses.zero_padding(teacher_hidden[t], mask),
                student_memory,
                teacher_memory,
            )
            parts = {"global_distance": terms.distance, "global_cosine": terms.cosine, "memory_cka": terms.memory_cka}
            values |= {name: term for name, term in parts.items() if name in weights}
        return values

    def total(self, values):
        """The weighted sum of what :meth:`losses` returned: a scalar tensor."""
        return sum(self.weights[name] * value for name, value in values.items())
