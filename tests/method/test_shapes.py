"""Shapes that do not belong together are refused by every loss, where broadcasting would make a number of them."""

import pytest
import torch

import fsd
from fsd.method.objective import Objective

H, MASK = torch.randn(4, 6, 3), torch.ones(4, 6)
HEADS = torch.rand(4, 2, 6, 6).softmax(dim=-1)
MEMORY = torch.randn(5, 6, 3)
REFUSED = {
    "a mask of one example": lambda: fsd.intra_feature_loss(H, H, MASK[:1]),
    "the mask that a model extends": lambda: fsd.local_inter_feature_loss(H, H, MASK[:, None, None]),
    "another number of examples": lambda: fsd.local_inter_feature_loss(H, H[:1]),
    "one example beside a batch": lambda: fsd.intra_feature_loss(H, H[:1]),
    "another number of tokens": lambda: fsd.intra_feature_loss(H, H[:, :5]),
    "flat features": lambda: fsd.intra_feature_loss(H[0], H[0]),
    "logits of tokens": lambda: fsd.kd_loss(H, H, 5.0),
    "flat logits": lambda: fsd.kd_loss(H[0, 0], H[0, 0], 5.0),
    "another number of classes": lambda: fsd.kd_loss(H[0], H[0, :, :1], 5.0),
    "a temperature of 0": lambda: fsd.kd_loss(H[0], H[0], 0),
    "a temperature that is no number": lambda: fsd.kd_loss(H[0], H[0], float("nan")),
    "[CLS] states alone": lambda: fsd.pkd_loss(H[:, 0], H[:, 0]),
    "RKD with one example": lambda: fsd.rkd_distance_loss(H, H[:1]),
    "RKD with the mask of another batch": lambda: fsd.rkd_angle_loss(H, H, MASK[:3]),
    "RKD with a mask for flat features": lambda: fsd.rkd_distance_loss(H[:, 0], H[:, 0], MASK[:, :3]),
    "attention with a mask of one example": lambda: fsd.attention_loss(HEADS, HEADS, MASK[:1]),
    "attention of other lengths": lambda: fsd.attention_loss(HEADS, HEADS[..., :5]),
    "values of other lengths": lambda: fsd.value_relation_loss(HEADS, HEADS[:, :, :5]),
    "queries with a mask of another length": lambda: fsd.query_key_loss(HEADS, HEADS, HEADS, HEADS, MASK[:, :5]),
    "keys of one example": lambda: fsd.query_key_loss(HEADS, HEADS[:1], HEADS, HEADS),
    "keys of another length": lambda: fsd.query_key_loss(HEADS, HEADS, HEADS, HEADS[:, :, :5]),
    "a flat attention": lambda: fsd.attention_loss(H[0, 0], H[0, 0]),
    "flat values": lambda: fsd.value_relation_loss(H[0, 0], H[0, 0]),
    "labels in a column": lambda: fsd.task_loss(H[:, 0], torch.zeros(4, 1)),
    "scores in a column": lambda: fsd.task_loss(H[:, 0, :1], torch.zeros(4, 1)),
    "labels of another batch": lambda: fsd.task_loss(H[:, 0, :1], torch.zeros(1)),
    "the task loss of tokens": lambda: fsd.task_loss(H, torch.zeros(4, 6)),
    "relations with a mask of one example": lambda: fsd.relation_difference(H, H, "cosine", MASK[:1]),
    "relations with a mask of columns": lambda: fsd.relation_difference(H, H, "cosine", MASK[:, :1]),
    "L_G with one example": lambda: fsd.global_inter_feature_loss(H, H[:1], MEMORY, MEMORY, 0.1),
    "L_G with a mask of one example": lambda: fsd.global_inter_feature_loss(H, H, MEMORY, MEMORY, 0.1, MASK[:1]),
    "memories of other sizes": lambda: fsd.global_inter_feature_loss(H, H, MEMORY[:1], MEMORY, 0.1),
    "gamma_m above 1": lambda: fsd.global_inter_feature_loss(H, H, MEMORY, MEMORY, 5),
    "an objective that knows no layers":
        lambda: Objective(0.5, beta=1, gamma_i=1).losses((H[:, 0], {}), (H[:, 0], {}), torch.zeros(4)),
    "an objective that knows no layer for L_G":
        lambda: Objective(0.5, beta=1, gamma_g=1).losses((H[:, 0], {}), (H[:, 0], {}), torch.zeros(4)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name):
    with pytest.raises(ValueError):
        REFUSED[name]()


def test_the_message_tells_what_is_taken_and_what_was_given():
    with pytest.raises(ValueError, match=r"intra_feature_loss takes hidden states \[B, S, d\].* not \(4, 6, 3\) and \(4, 6, 3\) "
                                         r"with a mask \(1, 6\)"):
        fsd.intra_feature_loss(H, H, MASK[:1])


def test_a_memory_is_a_tensor():
    with pytest.raises(TypeError, match="the student memory is a tensor, such as the centroids of a memory, not StudentMemory"):
        fsd.global_inter_feature_loss(H, H, fsd.StudentMemory(5, 6, 3, seed=1), MEMORY, 0.1)


def test_a_memory_and_features_of_several_precisions():
    double = [tensor.double() for tensor in (H, H, MEMORY, MEMORY.flip(0))]
    expected = fsd.global_inter_feature_loss(*double, 0.1)
    for place in range(4):
        mixed = [tensor if at == place else tensor.float() for at, tensor in enumerate(double)]
        loss = fsd.global_inter_feature_loss(*mixed, 0.1)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
