"""Feature structure distillation with centered kernel alignment (arXiv 2204.08922).

The public names are loaded when they are first used, so that ``import fsd`` itself is light and loads no torch.
"""

from importlib import import_module

_PLACES = {
    "linear_cka": "method.cka", "chance_cka": "method.chance", "procrustes_distance": "method.similarity",
    "gram_distance": "method.similarity", "task_loss": "method.losses", "kd_loss": "method.losses",
    "intra_feature_loss": "method.losses", "local_inter_feature_loss": "method.losses",
    "global_inter_feature_loss": "method.global_structure",
    "pkd_loss": "method.baselines", "rkd_distance_loss": "method.baselines", "rkd_angle_loss": "method.baselines",
    "attention_loss": "method.baselines", "query_key_loss": "method.baselines", "value_relation_loss": "method.baselines",
    "relation_difference": "method.relations",
    "TeacherMemory": "memory.teacher_memory", "StudentMemory": "memory.student_memory",
}
__version__ = "0.1.0"
__all__ = list(_PLACES)


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'fsd' has no attribute {name!r}")
    return getattr(import_module(f"fsd.{_PLACES[name]}"), name)


def __dir__():
    return [*globals(), *_PLACES]
