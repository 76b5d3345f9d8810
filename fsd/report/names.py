"""The methods and tasks that tables and figures show, in the paper's order and with its names."""

LABELS = {method: method for method in (
    "teacher", "fine-tuning", "KD", "PKD", "MiniLM", "RKD", "FSD_I", "FSD_L", "FSD_G", "FSD_IL", "FSD_ILG",
)} | {"fine-tuning": "nDS", "KD": "VKD", "FSD_ILG": "FSD"}
NAMES = "Names are the paper's: VKD is KD, FSD is FSD_ILG, nDS a student that is only fine-tuned."
METHODS = tuple(LABELS)
BASELINES, PARTS = ("KD", "PKD", "MiniLM", "RKD"), ("FSD_I", "FSD_L", "FSD_G", "FSD_IL")
STUDENTS = METHODS[1:]
WITH_MAPS = ("teacher", "fine-tuning", "KD", "PKD", "FSD_ILG")  # Figures 4 and 7
WITH_RELATIONS = ("KD", "PKD", "RKD", "FSD_ILG")  # Table 7, Figures 6 and 8
SMALL_TASKS = ("WNLI", "RTE", "STS-B", "CoLA", "MRPC")  # Table 2, Figures 4 and 6
LARGE_TASKS = ("SST-2", "QNLI", "QQP", "MNLI")  # Table 3, Figures 7 and 8


def map_name(method, dash="–"):
    """What compares the teacher T with a method's student, or with itself: "T–VKD", "T–T"."""
    return f"T{dash}{'T' if method == 'teacher' else LABELS[method]}"
