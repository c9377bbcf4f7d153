"""A policy file's text -> the frozen `Policy`, or every problem with it at once, in file order.

Pure: the file's bytes, the environment and the way to the files beside it are arguments. The order of work is read,
shape, agreement, side files, build; a fault in one place hides none in another. Called by `policy.load` and
`policy.examine`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from scopegate.errors import Problem
from scopegate.limits.pricing import PriceTable
from scopegate.policy import agreement, document, source
from scopegate.policy.build import build
from scopegate.policy.draft import draft_of
from scopegate.policy.faults import faults_of
from scopegate.policy.policy import Policy
from scopegate.policy.sidefiles import Read, gather, no_files
from scopegate.policy.tree import Fault, Source, plain


@dataclass(frozen=True, slots=True)
class Review:
    """What is known of a policy file. `policy` is None exactly when there are `problems`. `files` are the absolute
    paths of the files it names, also of those that could not be read."""

    policy: Policy | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    files: tuple[str, ...] = ()


def compile_policy(
    raw: bytes,
    file: str,
    environ: Mapping[str, str],
    *,
    prices: PriceTable | None = None,
    lenient: bool = False,
    read: Read = no_files,
) -> Review:
    """With `prices`, a model has to be in them. `lenient`: a secret the environment lacks is a warning and empty in the
    policy, which is then fit for questions (`check`) and never for serving. `read` finds the files it names."""
    tree = source.read(raw, file, environ, lenient=lenient)
    if tree.root is None:
        return _review(None, tree.faults, file, ())
    data = plain(tree.root)
    draft = draft_of(data)
    beside = gather(draft, tree, read)
    found, faults = _shape(data, tree)
    faults += [*tree.faults, *beside.faults, *agreement.disagreements(draft, tree)]
    faults += agreement.unpriced(draft, tree, prices)
    if found is None or any(not fault.warning for fault in faults):
        return _review(None, faults, file, beside.paths.values())
    return _review(build(found, tree, beside), faults, file, beside.paths.values())


def _shape(data: object, tree: Source) -> tuple[document.Document | None, list[Fault]]:
    try:
        return document.Document.model_validate(data), []
    except ValidationError as error:
        return None, faults_of(error, tree)


def _review(policy: Policy | None, faults: Iterable[Fault], file: str, paths: Iterable[str]) -> Review:
    """Faults as problems and warnings, in file order, each once."""
    ordered = sorted(faults, key=lambda fault: fault.place)
    problems = dict.fromkeys(fault.problem(file) for fault in ordered if not fault.warning)
    warnings = dict.fromkeys(fault.problem(file) for fault in ordered if fault.warning)
    return Review(policy, tuple(problems), tuple(warnings), tuple(dict.fromkeys(paths)))
