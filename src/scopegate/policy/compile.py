"""A policy file's text -> the frozen `Policy`, or every problem with it at once, in file order.

Pure: whoever calls has read the text into a draft, and the files that it names. The order of work is shape, agreement,
side files, policy; a fault in one place hides none in another. Called by `following/source`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import ValidationError

from scopegate.errors import Problem
from scopegate.policy import sidefiles
from scopegate.policy.advice import advice
from scopegate.policy.document import FILE_PLACES, Document, disagreements
from scopegate.policy.draft import Draft
from scopegate.policy.faults import faults_of
from scopegate.policy.policy import Policy, policy_of
from scopegate.policy.sections import ai, flags, lists, tls
from scopegate.policy.sections.ai import Prices
from scopegate.policy.sidefiles import SideFile
from scopegate.policy.tree import Fault


@dataclass(frozen=True, slots=True)
class Review:
    """What is known of a policy file. `policy` is None exactly when there are `problems`. `files` are the absolute
    paths of the files it names, also of those that could not be read."""

    policy: Policy | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    files: tuple[str, ...] = ()


def files_named(draft: Draft) -> tuple[str, ...]:
    """The paths as written, each once, of the files that must be read before the draft can be compiled."""
    return sidefiles.names(draft, FILE_PLACES)


def secrets_named(draft: Draft) -> frozenset[str]:
    """Those of which nobody may keep a copy."""
    return frozenset(sidefiles.names(draft, [place for place in FILE_PLACES if place.is_secret]))


def compile_policy(
    draft: Draft,
    files: Mapping[str, SideFile] = MappingProxyType({}),
    prices: Prices | None = None,
    *,
    advise: bool = False,
) -> Review:
    """`files` holds all of `files_named`, by their paths as written. With `prices`, a model has to be in them.
    `advise`: what may be said and is hardly meant is a warning too."""
    tree = draft.tree
    if tree.root is None:
        return _review(None, tree.faults, tree.file, ())
    beside = sidefiles.gather(draft, FILE_PLACES, files)
    found, faults = _shape(draft)
    faults += [*tree.faults, *beside.faults, *disagreements(draft)]
    faults += [*tls.unpaired(draft, beside), *lists.proxies_denied(draft, beside), *ai.unpriced(draft, prices)]
    faults += flags.unfit(draft, beside)
    faults += advice(draft) if advise else ()
    if found is None or any(not fault.warning for fault in faults):
        return _review(None, faults, tree.file, beside.paths.values())
    return _review(policy_of(found, tree, beside), faults, tree.file, beside.paths.values())


def _shape(draft: Draft) -> tuple[Document | None, list[Fault]]:
    try:
        return Document.model_validate(draft.data), []
    except ValidationError as error:
        return None, faults_of(error, Document, draft.tree)


def _review(policy: Policy | None, faults: Iterable[Fault], file: str, paths: Iterable[str]) -> Review:
    """Faults as problems and warnings, in file order, each once."""
    ordered = sorted(faults, key=lambda fault: fault.place)
    problems = dict.fromkeys(fault.problem(file) for fault in ordered if not fault.warning)
    warnings = dict.fromkeys(fault.problem(file) for fault in ordered if fault.warning)
    return Review(policy, tuple(problems), tuple(warnings), tuple(dict.fromkeys(paths)))
