"""Refuses tensors whose shapes do not belong together. Broadcasting would make a number of them, and a wrong one."""


def check_items(name, x, y):
    """ValueError if x and y are not features [..., N, P] and [..., N, Q] of the same items; it names the function."""
    if x.dim() < 2 or y.dim() < 2 or x.shape[-2] != y.shape[-2]:
        raise ValueError(f"{name} takes x [..., N, P] and y [..., N, Q], not {tuple(x.shape)} and {tuple(y.shape)}")


def check_pair(name, takes, student, teacher, dims, shared, mask=None, tokens=1):
    """ValueError unless a student's and a teacher's tensor belong together, and the mask to both.

    Args:
        name, takes: the function and the shapes that it takes, in words.
        dims: the numbers of dimensions that it takes.
        shared: how many of the first sizes are the same on both sides.
        mask: [B, S] or None.
        tokens: the dimension of the tokens; that of the examples is the first.
    """
    fits = student.dim() == teacher.dim() and student.dim() in dims and student.shape[:shared] == teacher.shape[:shared]
    if fits and mask is not None:
        fits = student.dim() > 2 and mask.shape == (student.shape[0], student.shape[tokens])
    if not fits:
        given = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        given += "" if mask is None else f" with a mask {tuple(mask.shape)}"
        raise ValueError(f"{name} takes {takes}, not {given}")
