# Makes the project's environment and sets PYTHON to its interpreter. quickstart.sh and test.sh source this file.
#
# The environment lies in .venv in the project's folder. Its Python is python3.11, or python3 if there is no python3.11.
# PYTHON=… names another interpreter. If .venv has another Python version, the new one goes to .venv-3.12 (for example).
# A half-made environment is made again. One whose pins have changed is brought up to date. A complete one stays as it is.

PROJECT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

stop() {
    echo "${0##*/}: error: $1" >&2
    exit 2
}

# Prints the version of an interpreter, such as 3.11, or nothing if it does not run. A version manager's python3.12
# may be there and not run.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

# Sets base and version to the first of these interpreters that is new enough.
choose_interpreter() {
    for base in "$@"; do
        version=$(version_of "$base")
        if [[ $version =~ ^3\.([0-9]+)$ ]] && ((BASH_REMATCH[1] >= 11)); then return; fi
    done
    stop "Python 3.11 or newer is needed, and ${*} is not; name an interpreter with PYTHON=/path/to/python"
}

# Prints everything that decides what is installed. A complete environment keeps a copy.
wanted_state() {
    cat -- "$PROJECT/requirements.txt" "$PROJECT/pyproject.toml"
    echo "$PROJECT $(version_of "$environment/bin/python")"
}

make_environment() {
    local base version environment=$PROJECT/.venv
    if [[ -n ${PYTHON:-} ]]; then
        choose_interpreter "$PYTHON"
        if [[ -e $environment && ! -e $environment/fsd-half-made && $(version_of "$environment/bin/python") != "$version" ]]; then environment+=-$version; fi
    fi
    PYTHON=$environment/bin/python
    local complete=$environment/fsd-complete half_made=$environment/fsd-half-made
    if [[ -f $complete && $(<"$complete") == "$(wanted_state)" ]]; then return; fi
    if [[ -e $half_made ]]; then
        if [[ $(dirname -- "$(command -v "${base:-}")") -ef $environment/bin ]]; then base=; fi  # this one goes, too
        rm -rf -- "$environment"
    fi
    if [[ ! -e $environment ]]; then
        if [[ -z ${base:-} ]]; then choose_interpreter python3.11 python3; fi
        echo "making $environment with Python $version"
        mkdir -- "$environment"
        touch -- "$half_made"
        "$base" -m venv "$environment" || stop "$base makes no environments; on Debian: apt install python$version-venv"
    fi
    choose_interpreter "$PYTHON"
    local pip=("$PYTHON" -m pip --disable-pip-version-check install)
    "${pip[@]}" "$(grep '^torch==' "$PROJECT/requirements.txt")"
    "${pip[@]}" --requirement "$PROJECT/requirements.txt"
    "${pip[@]}" --editable "$PROJECT"
    wanted_state >"$complete"
    rm -f -- "$half_made"
}

make_environment
export PYTHON
