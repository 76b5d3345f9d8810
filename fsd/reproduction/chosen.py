"""chosen.toml: the settings that a search chose, for each task and method."""

from fsd.reproduction.experiment_file import check_flags, check_method, read_toml, refuse_unknown, task_named
from fsd.reproduction.programs import flag_names
from fsd.system.errors import InputError
from fsd.system.files import write_text

SELECTIONS = ("held-out", "dev")


def read_chosen(path):
    """(selected_on, {task: {method: {flag: value}}}) of a chosen.toml.

    Raises:
        InputError: it cannot be read, or something in it is unknown or no value of its flag.
    """
    try:
        content = read_toml(path)
        selected_on = content.pop("selected_on", None)
        if selected_on not in SELECTIONS:
            raise InputError(f"selected_on is not one of {', '.join(SELECTIONS)}")
        chosen = {}
        for name, methods in content.items():
            refuse_unknown(methods, methods, name)
            chosen[task_named(name, "the file")] = methods
            for method, values in methods.items():
                check_method(method, name)
                refuse_unknown(values, flag_names(method), f"{name}.{method}")
                check_flags(values, [method], f"{name}.{method}")
        return selected_on, chosen
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_chosen(path, chosen, selected_on):
    """Write the chosen values (task → method → flag → value) as TOML.

    Values that an earlier call left there stay until new ones are chosen for their task and method; a method without any has
    had no search. Those that other data selected go with the first new ones. Where nothing changes, the file stays as it is.
    """
    before, earlier = read_chosen(path) if path.exists() else (selected_on, {})
    merged = dict(earlier) if before == selected_on else {}
    for task, of_task in chosen.items():
        known = merged.get(task, {})
        merged[task] = known | {method: values for method, values in of_task.items() if values or method not in known}
    is_new = any(values for of_task in chosen.values() for values in of_task.values())
    if path.exists() and (before != selected_on and not is_new or (before, earlier) == (selected_on, merged)):
        return
    lines = ["# The settings that the search chose. reproduce.py --chosen takes this file.", f'selected_on = "{selected_on}"', ""]
    for task, of_task in merged.items():
        for method, values in of_task.items():
            lines += [f'["{task}"."{method}"]', *(f"{flag} = {_toml(value)}" for flag, value in values.items()), ""]
    write_text(path, "\n".join(lines))


def _toml(value):
    return str(value).lower() if isinstance(value, bool) else repr(value)
