"""The `scopegate` command: one parser, one module per command, one place where errors become exit codes.

A command's module is imported only when it is asked for, and imports what is heavy only when it runs: `--help` must
stay quick. Nothing here knows what a command does.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from scopegate import __version__, build
from scopegate.errors import EXIT_CONFIG, ConfigError, ScopegateError, StoreUnusable

COMMANDS = (
    "up",
    "gateway",
    "worker",
    "admin",
    "reload",
    "check",
    "explain",
    "doctor",
    "status",
    "schema",
    "simulate",
    "advise",
    "migrate",
    "backup",
    "prune",
    "limits",
    "cache",
    "jobs",
    "explain-lead",
    "usage",
    "reconcile",
    "demo",
)
"""Commands in the order of the help; each is the module `scopegate.cli.<name>` (`_` for `-`) with `register` and
`run`."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""
EXIT_PIPE_CLOSED = 141
"""128 + SIGPIPE: whoever read our output had enough."""

_DESCRIPTION = "A reverse-proxy hardening gateway that stands in front of an unchanged web app."

_EPILOG = """\
examples:
  scopegate demo                     see all of it at work, nothing to set up
  scopegate check gateway.yaml       every problem of a policy file, with line and column
  scopegate explain GET /api/leads   what a request would meet, and where the file says so
  scopegate doctor                   what is wrong around a policy: engines, app, key, disk, ports
  scopegate status                   what runs here, since when, and what it has to do
  scopegate simulate --log access.log  whom the policy would have refused; advise proposes limits
  scopegate limits show 192.0.2.7    how a client stands; then limits reset, ban, unban
  scopegate cache purge --tag news   have kept answers fetched anew, at all gateways
  scopegate up -c gateway.yaml       gateway, worker and admin on this machine
  scopegate gateway -c gateway.yaml  one role alone; likewise worker and admin
  scopegate reload                   have the running gateway read its policy file again
  scopegate migrate                  after an upgrade: bring the database to the new schema
  scopegate jobs list                the leads' jobs; then jobs show ID, jobs replay ID
  scopegate explain-lead lead-7      what became of a lead, or of a request: every step, call and dollar
  scopegate usage                    what the model calls cost
  scopegate reconcile --usage FILE   whether the ledger agrees with the provider's bill

exit codes: 0 fine, 1 found something or failed, 2 wrong usage, 78 no start: wrong policy file, environment or database
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. `argv` without the program's name, None for the process' own."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()
    except ConfigError as exc:
        return _refuse(exc)
    except ScopegateError as exc:
        print(f"scopegate: {exc}", file=sys.stderr)
        return EXIT_CONFIG if isinstance(exc, StoreUnusable) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed()
    return code


def _run(words: Sequence[str]) -> int:
    """Read the words and run the command. argparse ends with SystemExit after help and after wrong usage."""
    try:
        args = parser(words).parse_args(words)
        code: int = args.run(args)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else EXIT_FAILED
    return code


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these words: with the one command they name, or with all of them for help and mistakes."""
    top = argparse.ArgumentParser(
        prog="scopegate",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"scopegate {__version__} ({build.kind()})")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    named = words[:1] if words and words[0] in COMMANDS else COMMANDS
    for name in named:
        importlib.import_module(f"scopegate.cli.{name.replace('-', '_')}").register(commands)
    return top


def _refuse(error: ConfigError) -> int:
    for problem in error.problems:
        print(problem, file=sys.stderr)
    return EXIT_CONFIG


def _pipe_closed() -> int:
    """Point standard output at nothing, so that the interpreter's last flush cannot complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_PIPE_CLOSED
