"""All kinds of bad input for tests/stress/try_bad_input.py.

Each kind is a function (random generator, current folder) → :class:`trials.Trial`. The folder is a copy of a good one (data,
teacher, student, memory, caches, results); the function may damage it.
"""

from bad_commands import flags, hub, numbers, paths, places
from bad_files import encodings, memory, report, results, resumed, teacher_cache, tsv, vocabulary
from bad_models import config, outside, pickles, tokenizer, weights

KINDS = {  # kind of input: share of the inputs
    numbers: 20, flags: 12, paths: 12, tsv: 10, config: 12, weights: 7, tokenizer: 10, memory: 4, encodings: 4, teacher_cache: 2,
    results: 3, places: 7, pickles: 4, outside: 4, vocabulary: 2, hub: 3, report: 3,
    resumed: 6,
}
