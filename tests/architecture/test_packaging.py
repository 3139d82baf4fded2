"""What a user gets: the package list, the wheel, and the top level of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.tree import LAYERS, ROOT, module_name, package_dirs, setup_cfg
from tests.patience import patience

TOP_LEVEL = {
    *LAYERS, "tests", "pyproject.toml", "setup.cfg", "README.md", "LICENSE", "Makefile", "CONTRIBUTING.md",
}  # fmt: skip


def git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=patience(60))
    if done.returncode:
        pytest.skip("this is not a git checkout")
    return done.stdout.splitlines()


def wheel_names(path: str) -> str:
    """Where a file of the tree lies in the wheel."""
    folder, rest = path.split("/", 1)
    package = next(name for name, directory in package_dirs().items() if directory == folder)
    return f"{package.replace('.', '/')}/{rest}"


def test_every_folder_of_python_files_is_a_listed_package() -> None:
    listed = setup_cfg()["options"]["packages"].split()
    folders = {file.parent for layer in LAYERS for file in (ROOT / layer).rglob("*.py")}
    in_tree = {module_name(f"{folder.relative_to(ROOT).as_posix()}/__init__.py") for folder in folders}
    assert sorted(listed) == sorted(in_tree), "setup.cfg [options] packages and the tree differ"


def test_every_package_has_an_init_file() -> None:
    folders = {file.parent for layer in LAYERS for file in (ROOT / layer).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_wheel_holds_the_packages_and_the_type_marker_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")  # comes with the dev extra
    # A copy is built: setuptools keeps a build folder beside the source, and what once lay in it gets into the wheel.
    source = tmp_path / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*LAYERS, "pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": ignored} if copy is shutil.copytree else {}))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        timeout=patience(110),
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licensed = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    files = [file.relative_to(ROOT).as_posix() for layer in LAYERS for file in (ROOT / layer).rglob("*.py")]
    files.append("sdk/py.typed")
    files += data_files()
    assert packed == {wheel_names(path) for path in files}
    assert licensed, "the licence travels with the wheel"


def data_files() -> list[str]:
    """Files of the tree that setup.cfg lists as package data, the type marker apart."""
    found = []
    for package, patterns in setup_cfg()["options.package_data"].items():
        folder = next(
            ROOT / directory / Path(*package.removeprefix(name).strip(".").split("."))
            for name, directory in sorted(package_dirs().items(), key=lambda item: -len(item[0]))
            if package == name or package.startswith(name + ".")
        )
        for pattern in patterns.replace(",", " ").split():
            found += [file.relative_to(ROOT).as_posix() for file in folder.glob(pattern)]
    return [path for path in found if path != "sdk/py.typed"]


def test_the_top_level_is_what_it_is_said_to_be() -> None:
    tracked = {path.split("/", 1)[0] for path in git("ls-files")}
    visible = {name for name in tracked if not name.startswith(".")}
    assert visible == TOP_LEVEL


def test_no_file_of_the_tree_is_ignored_by_git() -> None:
    """An ignored source file works here and is missing in every clone."""
    ignored = git("ls-files", "--others", "--ignored", "--exclude-standard", *LAYERS, "tests")
    assert [path for path in ignored if "__pycache__" not in path and not path.startswith(".")] == []
