"""`scopegate backup FILE`: a copy of the database file, while others use it."""

from __future__ import annotations

import argparse
import os
from argparse import _SubParsersAction
from pathlib import Path

EXIT_FAILED = 1


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "backup",
        help="copy the database file while it is in use",
        description="Copy the SQLite database that the environment names, whole and consistent, while it is in use.",
        epilog="exit codes: 0 done, 1 no such database, or FILE cannot be written; 78 bad environment",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the copy; replaced when it is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate import settings as environment
    from scopegate.cli.books import complain, must_exist
    from scopegate.stores import copies
    from scopegate.stores.upgrade import file_of

    settings = environment.load(os.environ)
    source = file_of(settings.database)
    if source is None:
        return complain("PostgreSQL has its own: pg_dump --format=custom --file=FILE URL")
    must_exist(settings.database)
    if args.file.exists() and args.file.samefile(source):
        return complain(f"{args.file} is the database itself")
    size = copies.copy(source, args.file)
    print(f"{args.file}: {size / 1e6:.1f} MB")
    return 0
