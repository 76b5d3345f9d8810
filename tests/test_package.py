"""The package as people meet it: its plan, its public names, its wheel."""

import ast
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

import fsd
from fsd.records import versions

FILES = sorted((ROOT / "fsd").rglob("*.py"))
# Imports run down this list only.
FOLDERS = ["report", "reproduction", "cli", "analysis", "training", "records", "models", "memory", "glue", "system", "method"]
PUBLIC = {
    "linear_cka", "chance_cka", "procrustes_distance", "gram_distance", "kd_loss", "intra_feature_loss",
    "local_inter_feature_loss", "global_inter_feature_loss",
    "pkd_loss", "rkd_distance_loss", "rkd_angle_loss", "attention_loss", "query_key_loss", "value_relation_loss",
    "relation_difference", "task_loss", "TeacherMemory", "StudentMemory",
}


def imported_modules(path):
    """The modules that a file imports, those inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in FILES} - {"fsd"}))  # a folder not in the list fails
def test_imports_run_one_way(folder):
    for path in sorted((ROOT / "fsd" / folder).rglob("*.py")):
        for module in imported_modules(path):
            if module.startswith("fsd."):
                assert FOLDERS.index(module.split(".")[1]) >= FOLDERS.index(folder), f"{path} imports {module}"
            elif folder == "method":
                assert module.split(".")[0] in {"torch", "dataclasses", "typing"}, f"{path} imports {module}"


def test_files_and_functions_are_short():
    for path in [*FILES, *(ROOT / "scripts").rglob("*.py"), *ROOT.glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_below_the_command_line_no_function_takes_its_arguments():
    for path in FILES:
        if path.parent.name != "cli":
            names = {node.arg for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.arg)}
            assert "args" not in names, path


def test_importing_the_package_is_light():
    heavy = "import fsd, sys; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_public_names():
    assert set(fsd.__all__) == PUBLIC and set(dir(fsd)) >= PUBLIC
    assert all(callable(getattr(fsd, name)) for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'cka'"):
        fsd.cka  # noqa: B018


def test_the_wheel_holds_the_whole_package(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "fsd", source / "fsd", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("fsd-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    installed = {path.relative_to(site / "fsd") for path in (site / "fsd").rglob("*.py")}
    assert installed == {path.relative_to(ROOT / "fsd") for path in FILES}
    use = "import fsd, fsd.cli.distill; print(fsd.__file__, fsd.linear_cka, fsd.TeacherMemory)"
    alone = {"PYTHONPATH": str(site)}
    used = subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, cwd=tmp_path, env=alone)
    assert used.stdout.startswith(str(site)), used.stderr


def test_within_the_checkout_of_something_else_no_commit_is_told(monkeypatch):
    monkeypatch.setattr(versions, "PROJECT", ROOT / "fsd")
    assert versions.commit() == "unknown"
