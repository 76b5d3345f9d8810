"""The notes below tables: what does not add up in the published numbers, and what keeps ours from being comparable."""

from fsd.glue.tasks import find_task
from fsd.report.runs import PAPER_BATCH_SIZE

OURS_ALONE = "A method without a published line is not in the paper's table."

# What does not add up in the paper. The tests recompute what follows from its printed numbers.
DOUBTS = {
    "table2": [
        "Published: the abstract has 65.55 as RTE's best baseline, Table 2 has 65.40.",
        "Published: from the printed means and deviations (six runs), Welch's test gives p ≈ 0.07 for RTE against VKD, not 0.002 "
        "(against RKD it gives 0.015). The other metrics of this table differ by at most 0.07.",
        "Published: the row of Hugging Face's BERT differs from Hugging Face's own table, and is left out here.",
    ],
    "table3": [
        "Published: from the printed means and deviations (six runs), Welch's test gives p ≈ 0.73 for QQP's accuracy, not 0.982. "
        "The other metrics of this table differ by at most 0.1.",
        "Published: the row of Hugging Face's BERT differs from Hugging Face's own table, and is left out here.",
    ],
    "table4": [
        "Published: FSD_I's average is printed as −0.78; its thirteen printed numbers have the mean −0.85.",
    ],
    "table6": [
        "T–nDS is near 1 on WNLI and RTE before any distillation. That is the bias of CKA when there are few items and many "
        "dimensions: the chance level, of the same features with their examples shuffled, shows it beside our numbers.",
    ],
    "table7": [
        "Published: MRPC's ranks have the sum 10.5, where ranks of four methods have the sum 10. With 2.25 for both PKD and RKD "
        "the sum is right, and so are the averages, which the printed ranks do not give (PKD 2.67, RKD 2.47).",
    ],
    "table8": [
        "Published: parameters lack a factor of ten. BERT-base of six layers has 67.0 million, and a student memory of 100 "
        "centroids 9.8 million more.",
        "Published: an inference time other than VKD's has no reason. The student is the same network, without its memory.",
    ],
}


def notes_on_runs(rows, reproduction, tasks):
    """Notes on what a table's ``rows`` (of runs or analyses, a part of ``reproduction``'s) mix or lack, for its ``tasks``."""
    rows = rows[rows["task"].isin(tasks)]
    notes = []
    if reproduction.selected_on == "dev" and len(rows):
        notes.append("Ours: selected_on = dev. Hyper-parameters were chosen on the same data that the scores are of.")
    elif reproduction.selected_on and len(rows):
        notes.append(f"Ours: hyper-parameters were chosen on {reproduction.selected_on} training data; the paper's on dev.")
    failed = [cell for cell in reproduction.failed if cell.split("/")[0] in tasks]
    if failed:
        notes.append(f"Ours: cells of these tasks that failed: {len(failed)}. failed.json names them.")
    notes += mixed_teachers(rows) + left_out_settings(rows, reproduction)
    return notes


def notes_on_students(rows, reproduction, tasks):
    """:func:`notes_on_runs` of students' rows, and how those differ from the paper's runs."""
    rows = rows[rows["task"].isin(tasks)]
    return notes_on_runs(rows, reproduction, tasks) + other_encoder(rows) + partial_training_sets(rows)


def mixed_teachers(rows):
    """A note that names the tasks whose students had several teachers; none if each task has one."""
    hashes = rows[rows["teacher_hash"] != ""].groupby("task")["teacher_hash"].nunique()
    mixed = [f"{task} ({count})" for task, count in hashes.items() if count > 1]
    return [f"Ours: mixed teachers. The students of these tasks had several: {', '.join(mixed)}."] if mixed else []


def left_out_settings(rows, reproduction):
    """A note that names each task and method among ``rows`` that also has runs with other settings."""
    counts = _settings(reproduction.runs)
    shown = [cell for cell in _settings(rows).index if counts.get(cell, 1) > 1]
    named = ", ".join(dict.fromkeys(f"{task} {method} ({counts[task, method, size]})" for task, method, size in shown))
    return [f"Ours: several settings. Only those that the others differ least from are shown here: {named}."] if named else []


def mixed_settings(rows):
    """A note that names each task and method whose runs at one batch size had different settings."""
    mixed = [f"{task} {method} ({count})" for (task, method, _), count in _settings(rows).items() if count > 1]
    return [f"Ours: mixed settings. These have runs with different flags: {', '.join(mixed)}."] if mixed else []


def _settings(rows):
    """(task, method, batch size, 0 where it is not known) → how many settings its runs have; a pandas series."""
    return rows.fillna({"batch_size": 0}).groupby(["task", "method", "batch_size"])["flags"].nunique()


def other_encoder(rows):
    """A note if students are not BERT-base cut to 6 layers: of another shape, or with another number of parameters."""
    known = rows.dropna(subset=["student_layers", "student_hidden_size"])
    shapes = sorted({(int(layers), int(width)) for layers, width in zip(known["student_layers"], known["student_hidden_size"],
                                                                       strict=True)})
    sizes = (rows["parameters"].dropna() / 1e6).round(1).unique()
    if shapes in ([], [(6, 768)]) and set(sizes) <= {67.0}:
        return []
    named = " and ".join(f"{layers} layers and width {width}" for layers, width in shapes) or "another size"
    return [f"Ours: another encoder than the paper's BERT-base; students have {named}. Compare the differences between methods, "
            "not the scores."]


def partial_training_sets(rows):
    """A note that names the tasks whose students saw only a part of the official training set."""
    parts = []
    for task, of_task in rows.groupby("task"):
        smallest, official = of_task["train_samples"].min(), find_task(task).rows["train"]
        if smallest < official:
            parts.append(f"{task} ({smallest:.0f} of {official})")
    return [f"Ours: trained on a part of the training set: {', '.join(parts)}."] if parts else []


def other_batch_sizes(rows):
    """A note that names the tasks whose main experiment, which ``rows`` are, is not at the paper's batch size."""
    sizes = rows.dropna(subset=["batch_size"]).groupby("task")["batch_size"].first()
    others = [f"{task} {size:.0f}" for task, size in sizes.items() if size != PAPER_BATCH_SIZE]
    return [f"Ours: a batch size other than {PAPER_BATCH_SIZE}: {', '.join(others)}."] if others else []
