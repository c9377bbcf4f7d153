"""A process that has the decoders loaded, and forks a child for each picture: nothing is loaded twice, and no child
lives longer than its picture.

Run as `python -I -m scopegate.worker.zygote FD` by `worker/decoders`, with none of the worker's environment. Over the
socket FD come further sockets, one for each picture: a child reads the file from it to its end and writes the answer of
`worker/decode`; behind that stands how the child ended, as four bytes. A socket that the worker closes ends its child;
the end of FD ends all.

It has one thread, so that a fork is a whole copy, and reads no picture itself.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Final, NoReturn

from scopegate.leads.photos import MAX_PHOTO_BYTES
from scopegate.worker.decode import answer, confine, load_decoders

ENDING: Final = struct.Struct(">i")
"""Of an answer: the exit code of its child, negative where a signal ended it."""


def main(fd: int) -> None:
    load_decoders()
    Zygote(socket.socket(fileno=fd)).serve()


class Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ended, waker = socket.socketpair()
        self._ended.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        self._children: dict[int, socket.socket] = {}
        self._endings: dict[int, tuple[socket.socket, bytes]] = {}
        self._poll = select.poll()

    def serve(self) -> None:
        """Until the worker is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for quiet in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the worker decides when we end
            signal.signal(quiet, signal.SIG_IGN)
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._ended, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    if not self._take():
                        return
                elif fd == self._ended.fileno():
                    self._reap()
                elif fd in self._endings:
                    self._tell(fd)
                else:
                    self._abandon(fd)

    def _take(self) -> bool:
        """One picture, or False at the end: then no child is left."""
        word, fds, *_ = socket.recv_fds(self._control, 1, 1)
        if not word:
            for pid in self._children:
                _kill(pid)
            return False
        picture = socket.socket(fileno=fds[0])
        pid = os.fork()
        if pid == 0:
            _develop(picture.fileno())
        self._children[pid] = picture
        self._poll.register(picture, 0)  # tells only that the other end is closed
        return True

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while self._ended.recv(64):
                pass
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                picture = self._children.pop(pid)
                self._endings[picture.fileno()] = (picture, ENDING.pack(os.waitstatus_to_exitcode(status)))
                self._poll.modify(picture, select.POLLOUT)

    def _tell(self, fd: int) -> None:
        """There is room for the ending, or nobody to read it."""
        picture, ending = self._endings.pop(fd)
        self._poll.unregister(picture)
        with suppress(OSError):
            picture.send(ending, socket.MSG_DONTWAIT)
        picture.close()

    def _abandon(self, fd: int) -> None:
        self._poll.modify(fd, select.POLLNVAL)  # said once is enough
        for pid, picture in self._children.items():
            if picture.fileno() == fd:
                _kill(pid)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # its group is its own as soon as it has run
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _develop(fd: int) -> NoReturn:
    """The child's whole life. It holds its own socket alone: no other picture, and no way to ask for one."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(fd, 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        confine()
        with open(0, "r+b", buffering=0, closefd=False) as picture:
            data = b"".join(iter(lambda: picture.read(1 << 20), b""))[: MAX_PHOTO_BYTES + 1]
            said = memoryview(answer(data))
            while said:
                said = said[picture.write(said) :]
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
