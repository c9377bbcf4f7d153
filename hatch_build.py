"""The compiled build: the rooms that every request passes through, made into native modules by mypyc. Same source.

`SCOPEGATE_COMPILE=1 pip install .` puts them into the wheel, beside the sources (tracebacks show lines, and another
Python than the wheel's falls back on them). Without a C compiler the wheel is the pure one, with a warning;
`SCOPEGATE_COMPILE=require` fails instead. `python hatch_build.py FOLDER` makes a tree to put on PYTHONPATH.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PACKAGE = "scopegate"
NEEDS = ("mypy[mypyc]>=2.4,<2.5", "setuptools>=65")
"""What compiling takes besides hatchling. mypyc is pinned to the release that the tests ran on."""
ROOMS = ("limits", "edge", "gateway")
"""Compiled whole, but for what is named in INTERPRETED."""
MODULES = (
    "stores/memory.py",
    "stores/mirror.py",
    "stores/redis_limits.py",
    "stores/redis_link.py",
    "stores/redis_script.py",
    "stores/refusals.py",
)
INTERPRETED = {
    "edge/claims.py": "surrogates in its literals, which C strings do not hold",
    "gateway/app.py": "a start and an end, and nothing that a request passes through",
    "gateway/late.py": "hands on a request and a sign-in without looking at them, also those that a test plays",
    "limits/price_table.py": "pydantic models, which read their class as Python wrote it",
    "limits/pricing.py": "what a model call costs, which no request passes through",
}
"""What stays Python in a compiled room, and why."""


class Wish(Enum):
    """What SCOPEGATE_COMPILE asks for."""

    PURE = "pure"
    IF_POSSIBLE = "if possible"
    REQUIRED = "required"


_WORDS = {"": Wish.PURE, "0": Wish.PURE, "1": Wish.IF_POSSIBLE, "require": Wish.REQUIRED}


class BuildError(Exception):
    """No build as it was asked for; the text says why."""


def wish(environ: Mapping[str, str]) -> Wish:
    """Raises BuildError for a word that is none of the four."""
    word = environ.get("SCOPEGATE_COMPILE", "")
    if word not in _WORDS:
        raise BuildError(f"SCOPEGATE_COMPILE is {word!r}: it may be 1, require, 0 or nothing")
    return _WORDS[word]


def decide(wish: Wish, fault: str | None) -> bool:
    """Whether to compile, where `fault` is what the compiler said against a file of three lines, None for nothing.
    Raises BuildError where compiling is required and cannot be."""
    if wish is Wish.REQUIRED and fault is not None:
        raise BuildError(f"no C compiler that can build for this Python: {fault}")
    return wish is not Wish.PURE and fault is None


def sources(package: Path) -> list[Path]:
    """The files to compile, in a fixed order."""
    found = [path for room in ROOMS for path in (package / room).rglob("*.py") if path.name != "__init__.py"]
    kept = [path for path in found if path.relative_to(package).as_posix() not in INTERPRETED]
    return sorted([*kept, *(package / module for module in MODULES)])


def compiler_fault() -> str | None:
    """Why nothing can be compiled here, in the compiler's words. Tries it: a compiler without Python's own headers is
    as good as none."""
    from setuptools import Extension
    from setuptools.errors import BaseError, CCompilerError

    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.c")
        probe.write_text("#include <Python.h>\nPyMODINIT_FUNC PyInit_probe(void) { return NULL; }\n", "ascii")
        try:
            _build([Extension("probe", [str(probe)])], Path(folder))
        except (BaseError, CCompilerError, OSError) as error:
            return str(error)
    return None


def compile_into(folder: Path, package: Path) -> list[Path]:
    """Native modules of `package` below `folder`, at the paths that they have in site-packages. Python finds them
    before the sources of the same name."""
    from mypyc.build import mypycify

    work = folder / "c"
    # Types of other libraries are left out: what is made depends on this source and mypyc's release alone.
    flags = [
        f"--cache-dir={work}",
        "--config-file=",
        "--no-site-packages",
        "--ignore-missing-imports",
        "--follow-imports=silent",
    ]
    before = Path.cwd()
    os.chdir(package.parent)  # mypyc takes the names of modules from relative paths
    try:
        paths = [str(path.relative_to(package.parent)) for path in sources(package)]
        extensions = mypycify(
            [*flags, *paths], opt_level="s", debug_level="0", group_name=PACKAGE, target_dir=str(work)
        )
        for extension in extensions:
            extension.extra_compile_args += ["-fvisibility=hidden", "-fno-asynchronous-unwind-tables"]
        _build(extensions, folder)
    finally:
        os.chdir(before)
        shutil.rmtree(work, ignore_errors=True)
    return sorted(path for path in folder.rglob("*") if path.suffix in (".so", ".pyd"))


def _build(extensions: list[Any], folder: Path) -> None:
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    command = build_ext(Distribution({"name": PACKAGE, "ext_modules": extensions}))
    command.build_lib = str(folder)
    command.build_temp = str(folder / "c")
    command.parallel = 2
    command.ensure_finalized()
    command.run()


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling's way in; it finds this class by itself."""

    def dependencies(self) -> list[str]:
        return [] if wish(os.environ) is Wish.PURE else list(NEEDS)

    @property
    def _folder(self) -> Path:
        return Path(self.directory, ".compiled")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        asked = wish(os.environ)
        if version != "standard" or asked is Wish.PURE:  # an editable install runs the sources as they are
            return
        fault = compiler_fault()
        if not decide(asked, fault):
            self.app.display_warning(f"pure Python: no C compiler that can build for this Python: {fault}")
            return
        folder = self._folder
        shutil.rmtree(folder, ignore_errors=True)
        for path in compile_into(folder, ROOT / "src" / PACKAGE):
            build_data["force_include"][str(path)] = path.relative_to(folder).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def main(folder: Path) -> int:
    """A whole tree of the compiled program in `folder`, for PYTHONPATH. 1 where there is no compiler."""
    fault = compiler_fault()
    if fault is not None:
        sys.stderr.write(f"no C compiler that can build for this Python: {fault}\n")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    package = shutil.copytree(ROOT / "src" / PACKAGE, folder / PACKAGE)  # what is edited meanwhile is for the next time
    compile_into(folder, package)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
