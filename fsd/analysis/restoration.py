"""The restoration rate: how well the student's predictions repeat the teacher's (the paper's Figure 3)."""

import numpy as np


def restoration(task, teacher, student):
    """Precision, recall and F1 of the student's predictions with the teacher's as the truth, and how often they agree.

    The task has classes. With two, the second is the positive one. With more, as on MNLI, the three numbers are the unweighted
    means over the classes that either side predicts.
    A number whose denominator is zero is 0.

    Args:
        teacher, student: predicted class ids [N] of the same examples.

    Returns:
        {"precision", "recall", "f1", "agreement"}, each in [0, 1].
    """
    from sklearn.metrics import precision_recall_fscore_support

    average = "binary" if len(task.labels) == 2 else "macro"
    precision, recall, f1, _ = precision_recall_fscore_support(teacher, student, average=average, zero_division=0)
    agreement = np.mean(np.asarray(teacher) == np.asarray(student))
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "agreement": float(agreement)}
