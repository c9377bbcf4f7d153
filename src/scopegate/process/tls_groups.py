"""The groups by which a TLS server agrees on keys: few, and none that costs more than a visitor may ask for."""

from __future__ import annotations

import ssl
import sys
from contextlib import suppress
from typing import Any, Final

PROFILE: Final = "X25519:prime256v1:secp384r1"
"""Mozilla's (guidelines 5.7)."""
_CHOICES: Final = (f"X25519MLKEM768:{PROFILE}", PROFILE)
"""The first that this OpenSSL knows all of: the hybrid is one of 3.5."""
_SET_GROUPS_LIST: Final = 92  # SSL_CTRL_SET_GROUPS_LIST, <openssl/ssl.h>


def restrict(context: ssl.SSLContext) -> None:
    """Agree by these groups alone. OpenSSL's own choice for TLS 1.3 has finite fields of up to 8192 bits among it,
    which are 0.2 s of work for whoever names one (measured with OpenSSL 3.0; CVE-2022-40735)."""
    for groups in _CHOICES:
        with suppress(AttributeError, ssl.SSLError, ValueError):
            context.set_groups(groups)  # type: ignore[attr-defined]  # Python 3.15 has it
            return
    context.set_ecdh_curve("prime256v1")  # all that Python had before: one alone, and a round trip more for many
    if sys.implementation.name == "cpython" and sys.version_info < (3, 15):
        with suppress(AttributeError, OSError):  # where OpenSSL cannot be called by name it stays that one
            _set_groups(context)


def _set_groups(context: ssl.SSLContext) -> None:
    """SSL_CTX_set1_groups_list on the SSL_CTX that a context has as its first member (CPython's _ssl.c, to 3.14)."""
    import _ssl
    import ctypes  # only a port with certificates comes here

    library: Any = ctypes.CDLL(getattr(_ssl, "__file__", None))
    control = library.SSL_CTX_ctrl
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    control.restype = ctypes.c_long
    held = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    for groups in _CHOICES:
        if control(held, _SET_GROUPS_LIST, 0, groups.encode()) == 1:
            break
    library.ERR_clear_error()  # of a name that it does not know: the next handshake would be blamed for it
