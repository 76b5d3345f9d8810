"""The shell scripts on macOS, by reading them: it has bash 3.2 and BSD tools, which are not at hand here."""

import re
import subprocess

import pytest
from conftest import ROOT

NOT_ON_MACOS = {
    "case conversion": r"\$\{\w+(\[[^]]*\])?(\^|,)",
    "${name@Q}": r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}",
    "builtin of bash 4": r"\b(mapfile|readarray|coproc)\b|\bwait -\w*[np]",
    "declaration of bash 4": r"\b(declare|typeset|local|readonly) -\w*[Agnlu]",
    "option of bash 4": r"\bshopt -\w (globstar|lastpipe|inherit_errexit)\b|\[\[ (! )?-[vR] ",
    "variable of bash 5": r"\$\{?(EPOCHSECONDS|EPOCHREALTIME|SRANDOM|BASHPID)\b",
    "redirection of bash 4": r"&>>|\|&|\{\w+\}[<>]",
    "fall-through in case": r";;?&",
    "negative index or length": r"\b\w+\[-\d|\$\{[^}:]*:[^}:]*: *-\d",
    "time in printf": r"%\([^)]*\)T",
    "step in a range": r"\{\w+\.\.\w+\.\.",
    "letter after a variable": r"\$\w+[^\x00-\x7f]",  # 3.2 may take the first byte of an … as part of the name
    "GNU readlink": r"\breadlink -\w*[efm]|\brealpath\b",
    "GNU sed": r"\bsed (.* )?(-\w*[ri]|--)",
    "GNU grep": r"\bgrep (.* )?-\w*P",
    "GNU date or stat": r"\bdate (.* )?(-\w*[dI]|--|\+\S*%N)|\bstat (.* )?(-\w*c|--)",
    "GNU flag": r"\b(cp|mv|ln) (.* )?-\w*[tT]\b|\bxargs (.* )?-\w*r|\bsort (.* )?-\w*V",
    "Linux command": r"(^|[|;&(]) *(nproc|timeout|tac|shuf|flock|setsid|sha256sum|md5sum)\b",
}
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh")) + sorted((ROOT / "scripts").glob("*.sbatch"))


def code_lines(text):
    """The lines of a script with their numbers, without comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def may_be_empty(texts):
    """The names of all arrays that some script initialises as empty. A sourced script's arrays are seen by the others."""
    return {name for text in texts for _, line in code_lines(text) for name in re.findall(r"\b(\w+)=\(\s*\)", line)}


def unguarded(text, names):
    """The lines that expand one of these arrays without the guard ``${name[@]+"${name[@]}"}``."""
    found = []
    for number, line in code_lines(text):
        rest = re.sub(r'\$\{(\w+)\[([@*])\]\+"\$\{\1\[\2\]\}"\}', "", line)
        found += [f"{number}: {line}" for name in re.findall(r"\$\{(\w+)\[[@*]\]", rest) if name in names]
    return found


def foreign(text):
    """The lines that macOS cannot run, with the reason."""
    return [f"{number}: {what}: {line}" for number, line in code_lines(text) for what, pattern in NOT_ON_MACOS.items()
            if re.search(pattern, line)]


def test_an_array_that_may_be_empty_is_guarded():
    texts = {path.name: path.read_text() for path in SCRIPTS}
    names = may_be_empty(texts.values())
    assert names == {"padding"}
    assert [(name, line) for name, text in texts.items() for line in unguarded(text, names)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_macos_can_run_a_script(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    assert foreign(path.read_text()) == []


def test_an_unguarded_array_is_found():
    assert may_be_empty(["none=()\nfull=(1)"]) == {"none"}
    for line in ('run "${none[@]}"', 'run "${none[*]}"', 'run "${none[@]:1}"', 'run ${none[@]+"${none[@]}"} "${none[@]}"'):
        assert len(unguarded(line, {"none"})) == 1, line
    for line in ('run ${none[@]+"${none[@]}"} "$@"', 'echo "${#none[@]}"', 'run "${full[@]}"', '# "${none[@]}"'):
        assert unguarded(line, {"none"}) == [], line


def test_what_macos_lacks_is_found():
    for line in (
        "${x,,}", "${x[0]^}", "${x@Q}", "mapfile -t x", "wait -n", "declare -A x", "local -n x", "shopt -s globstar",
        "[[ -v x ]]", "$EPOCHSECONDS", "make &>>log", "make |& tee", "exec {fd}>x", "a) x ;;&", "a) x ;&", "${x[-1]}", "x[-1]=2",
        "${x:0:-1}", "printf '%(%F)T'", "{0..9..3}", "echo $x…", "readlink -f x", "sed -i s/a/b/ x", "sed -r s/a/b/",
        "grep -oP x", "date -d now", "date +%s%N", "stat -c %s x", "cp -t a b", "sort -V", "x=$(nproc)", "timeout 5 make",
    ):
        assert foreign(line), line
    for line in (
        "shopt -s nocasematch", 'x=$(<"$file")', "[[ $x =~ ^a ]]", "local x=1 y", "make &>log", "make 2>&1 | tee log", "a) x ;;",
        "${x[0]}", "${x:1:2}", "${x:-1}", '"${@:2}"', "x+=-1", "grep '^a' x", "date +%F", "{1..9}", "${x%%,*}", "a && b",
    ):
        assert foreign(line) == [], line
