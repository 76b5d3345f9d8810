"""Kinds of machine with a fault that costs a run nothing: a wrong clock, no locks, no place for its messages."""

import errno
import os
import time

from trials import DISTILLING, MODELLED, STUDENT_FLAGS, Trial, kill_student, sound_flags

YEAR = 365 * 86400


def any_run(rng):
    """(program, flags, whose outputs it must have): a new run of any program, or one that goes on from a checkpoint."""
    if rng.random() < 0.4:
        kill_student()
        how = rng.choice(({"resume": True}, {"student_model_name_or_path": "student/checkpoint-1"}))
        return "run_glue_global.py", STUDENT_FLAGS | how, "student"
    script = rng.choice(MODELLED)
    given = sound_flags(script) | ({"do_predict": True} if script != "train_memory.py" else {})
    if script in DISTILLING and rng.random() < 0.5:
        given["cache_teacher"] = rng.choice(("cache", "new-cache"))
    return script, given, "the same command"


def clocks(rng, folder):
    """A clock set back or far ahead, and files with times in the future or the far past."""
    script, given, right = any_run(rng)
    case, clock = rng.choice((
        ("set back", -3600), ("set back", -2 * 86400), ("set back", -20 * YEAR), ("set back", 1 - time.time()),
        ("ahead", 2 * 86400), ("ahead", 100 * YEAR), ("ahead", 5000 * YEAR), ("files' times", 0), ("files' times", 0),
    ))
    if not clock or rng.random() < 0.5:
        when = rng.choice((0, 1, time.time() + 86400, time.time() + 10 * YEAR, 2**32))
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and rng.random() < 0.7:
                os.utime(path, (when, when))
    what = f"{given['output_dir']}: clock {clock:+.0f} s"
    return Trial(script, what, given, case=case, clock=clock, status=0, outputs_of=right)


def unheard(rng, folder):
    """Standard output or error is a pipe that nobody reads, a full disk, or not there at all."""
    script, given, right = any_run(rng)
    where = rng.choice(("closed", "full", "gone"))
    descriptors = rng.choice(((1,), (2,), (2,), (1, 2)))
    given |= rng.choice(({}, {"local_rank": 0}))  # which prints a warning before anything else
    status = 0
    if rng.random() < 0.2:
        given["model_name_or_path"], status = "nowhere", 2
    what = f"{' and '.join(map(str, descriptors))} {where}, status {status}"
    return Trial(script, what, given, case=where, unheard=dict.fromkeys(descriptors, where), status=status, outputs_of=right)


def lockless(rng, folder):
    """A disk without locks."""
    script, given, right = any_run(rng)
    number = rng.choice((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP))
    return Trial(script, errno.errorcode[number], given, lock_error=number, status=0, outputs_of=right,
                 case=errno.errorcode[number], says="WARNING .*cannot be locked")
