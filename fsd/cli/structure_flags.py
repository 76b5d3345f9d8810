"""The flags of the structures and of the memories, and where they are refused. Imports nothing heavy."""

from fsd.cli.parser import number
from fsd.system.errors import InputError

MEMORY_FLAGS = ("normalize_distances", "memory_learning_rate", "student_memory_init")  # beside gamma_m: those of L_G alone


def add_structure_arguments(group):
    """The weight of the structures and the forms that they may take."""
    group.add_argument("--beta", type=number(float, 0), default=30.0,
        help="weight of the structures; 0 is plain knowledge distillation. Tune it for each task")
    group.add_argument("--do_layerwise", action="store_true",
        help="in L_I and L_L, compare every student layer except the last with its teacher layer, instead of only the inputs of "
             "the last layers")
    group.add_argument("--debiased", action="store_true",
        help="structures with the debiased CKA, each term 1 − CKA: unrelated features then have 0 on average, not nearly 1")
    group.add_argument("--similarity", choices=["cka", "procrustes", "gram"], default="cka",
        help="what the structures compare by; the distances procrustes and gram see the scale of the features, CKA does not")


def add_released_argument(group):
    """The form of L_I."""
    group.add_argument("--released_intra", action="store_true",
        help="L_I as the logarithm of the mean CKA, as in the authors' released code; the default is the paper's Eq. 6, the "
             "mean of the logarithms")


def add_memory_arguments(group):
    """The memories of the global structure."""
    group.add_argument("--teacher_memory_path", help="file or folder of the teacher memory from train_memory.py")
    group.add_argument("--gamma_m", type=number(float, 0, 1), default=0.5,
        help="weight of distances to the centroids; cosines have weight 1 − gamma_m. Lower it if distances dominate: they start "
             "near 11,000, the cross-entropy near 0.7")
    group.add_argument("--normalize_distances", action="store_true",
        help="divide the distances by the root of the memory's width, so that gamma_m need not be tiny")
    group.add_argument("--memory_learning_rate", type=number(float, above=0),
        help="AdamW's peak for the student memory (default: --learning_rate)")
    group.add_argument("--student_memory_init", choices=["random", "centroids"], default="random",
        help="start of the student memory: N(0, 1), or the means of the student's own features by the teacher memory's clusters")


def structure_weights(args):
    """The weights γ_i, γ_l and γ_g by name, of whichever script of the paper's structures these arguments are for."""
    if hasattr(args, "gamma_g"):
        return {"gamma_i": args.gamma_i, "gamma_l": args.gamma_l, "gamma_g": args.gamma_g}
    if hasattr(args, "internal"):
        return {"gamma_i": float(args.internal), "gamma_l": float(not args.internal), "gamma_g": 0.0}
    return {"gamma_i": 0.0, "gamma_l": 0.0, "gamma_g": 1.0}


def check_structures(args):
    """Refuse flags that change only losses of weight 0 here, and forms that exclude each other."""
    gamma_i, gamma_l, gamma_g = (args.beta * weight for weight in structure_weights(args).values())
    released = getattr(args, "released_intra", False)
    forms = [f"--similarity {args.similarity}"] * (args.similarity != "cka") + ["--debiased"] * args.debiased
    if released and gamma_i == 0:
        raise InputError("--released_intra: L_I has weight 0 here, so its form changes nothing; leave the flag out")
    if args.debiased and released:
        raise InputError("--debiased and --released_intra exclude each other: leave one of them out")
    if args.similarity != "cka" and (args.debiased or released):
        form = "--debiased" if args.debiased else "--released_intra"
        raise InputError(f"{form} is a form of CKA, and {forms[0]} takes none: leave one of them out")
    if forms and not any((gamma_i, gamma_l, gamma_g)):
        raise InputError(f"{forms[0]}: no structure has a weight here, so it changes nothing; leave the flag out")
    if args.do_layerwise and not any((gamma_i, gamma_l)):
        raise InputError("--do_layerwise: L_I and L_L have weight 0 here, so it changes nothing; leave the flag out")
    if not hasattr(args, "student_memory_init"):
        return
    given = [name for name in MEMORY_FLAGS if getattr(args, name) not in (False, None, "random")]
    if given and gamma_g == 0:
        raise InputError(f"--{given[0]}: L_G has weight 0 here, so it changes nothing; leave the flag out")
    if args.normalize_distances and args.gamma_m == 0:
        raise InputError("--normalize_distances: with --gamma_m 0 no distance counts; leave the flag out, or raise --gamma_m")
