"""What ties a child process to its supervisor, so that not even `kill -9` of the supervisor leaves an orphan.

The leash is a socket whose other end only the supervisor holds: the kernel closes it when the supervisor dies,
however it dies. Our own processes watch it (`Leash`) and say on it when they serve. A program that is not ours is run
by `python -m scopegate.supervise.leash --leash FD -- PROGRAM ...`, which on Linux asks the kernel to kill the program
with its parent and then becomes it, and elsewhere stays beside it and watches.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

READY = b"ready\n"
"""What a child of ours writes once it serves."""

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when its parent dies. Survives exec; set by the kernel at the death."""


class Leash:
    """The child's end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._done = threading.Event()
        os.set_inheritable(fd, False)

    def ready(self) -> None:
        """Tell the supervisor that we serve. A supervisor that is gone is no error here: the watch tells of it."""
        try:
            os.write(self._fd, READY)
        except OSError:
            return

    def watch(self, slipped: Callable[[], None], grace_s: float) -> None:
        """`slipped` is called once, in a thread, when the supervisor is gone; a process that has not called `done`
        within `grace_s` after that is ended, whatever it hangs on."""

        def wait() -> None:
            _await_end(self._fd)
            slipped()
            if not self._done.wait(grace_s):
                os._exit(1)

        threading.Thread(target=wait, name="leash", daemon=True).start()

    def done(self) -> None:
        """The work has ended in order: the rest is the interpreter's."""
        self._done.set()


def wrap(fd: int, argv: Sequence[str]) -> list[str]:
    """The command that runs a program of others on the leash `fd`."""
    return [sys.executable, "-P", "-m", "scopegate.supervise.leash", "--leash", str(fd), "--", *argv]


def _await_end(fd: int) -> None:
    try:
        while os.read(fd, 64):
            pass
    except OSError:
        return


def _become(fd: int, argv: Sequence[str]) -> NoReturn:
    """Linux: tie ourselves to the parent, make sure that it still lives, and turn into the program."""
    import ctypes  # half of this module's callers never come here

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    watch = select.poll()  # not select: it fails on descriptors above 1023
    watch.register(fd, select.POLLIN)
    if watch.poll(0):  # it died before we asked: nobody would tell us
        raise SystemExit(1)
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is the point


def _stay_beside(fd: int, argv: Sequence[str]) -> int:
    """Elsewhere: run the program as a child, pass on the wish to stop, end it when the leash does."""
    wishes: list[int] = []  # signals that come before the program can be told of them

    def keep(number: int, _frame: object) -> None:
        wishes.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keep)
    program = subprocess.Popen(list(argv))  # noqa: S603 - the supervisor's own words

    def pass_on(number: int, _frame: object) -> None:
        program.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    for wish in wishes:
        program.send_signal(wish)

    def wait() -> None:
        _await_end(fd)
        program.kill()

    threading.Thread(target=wait, name="leash", daemon=True).start()
    code = program.wait()
    return 128 - code if code < 0 else code


def main(words: Sequence[str]) -> int:
    """`--leash FD [--beside] -- PROGRAM ...`"""
    options, argv = list(words[: words.index("--")]), list(words[words.index("--") + 1 :])
    fd = int(options[options.index("--leash") + 1])
    os.set_inheritable(fd, False)
    try:
        if sys.platform == "linux" and "--beside" not in options:
            _become(fd, argv)
        return _stay_beside(fd, argv)
    except OSError as exc:
        print(f"{argv[0]}: {exc.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
