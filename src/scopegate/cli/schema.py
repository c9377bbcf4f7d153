"""`scopegate schema`: the shape of the policy file, for editors and for people."""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "schema",
        help="the policy file's JSON Schema",
        description="Print the JSON Schema of the policy file. An editor that knows YAML finds it by a first line "
        "`# yaml-language-server: $schema=PATH`.",
        epilog="exit codes: 0 fine",
    )
    parser.add_argument("--markdown", action="store_true", help="every option as a table to read, instead")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.policy.reference import reference, schema

    print(reference() if args.markdown else json.dumps(schema(), indent=2), end="" if args.markdown else "\n")
    return 0
