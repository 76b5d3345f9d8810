"""All kinds of bad input for tests/stress/try_bad_input.py.

Each kind is a function (random generator, current folder) → :class:`trials.Trial`. The folder is a copy of a good one (data,
teacher, student, memory, caches, results); the function may damage it.
"""

from bad_commands import flags, hub, numbers, paths, places
from bad_files import encodings, forged, memory, report, results, resumed, teacher_cache, tsv, vocabulary
from bad_machines import clocks, lockless, unheard
from bad_models import config, outside, pickles, tokenizer, weights
from bad_names import names
from foreign_files import foreign
from seen_data import seen

KINDS = {  # kind of input: share of the inputs
    numbers: 20, flags: 12, paths: 12, names: 14, tsv: 10, config: 12, weights: 7, tokenizer: 10, memory: 4, forged: 4,
    encodings: 4, teacher_cache: 4, results: 3, places: 7, pickles: 4, outside: 4, vocabulary: 2, hub: 3, report: 3, resumed: 7,
    foreign: 16, clocks: 6, unheard: 5, lockless: 4, seen: 16,
}
