"""What a busy key costs in memory, at the least its whole limit: told by `scopegate check`, paid in `stores/memory`.

Measured, and held to both stores by tests.
"""

from __future__ import annotations

from scopegate.limits.window import Quota

KEY_BYTES = 440
"""A log with its first admissions, its key, its place in a dict that is growing."""
FIRST_ADMISSIONS = 4
ADMISSION_BYTES = 9
"""With what an array keeps in reserve."""

_REDIS_KEY_BYTES = 240
_REDIS_ADMISSION_BYTES = 15
_SEAT_BYTES, _REDIS_SEAT_BYTES = 180, 40
_REDIS_COMPACT_SEATS, _REDIS_WIDE_SEAT_BYTES = 128, 140
"""Where a sorted set has more than so many members, each takes more."""


def room_for(admissions: int) -> int:
    """For how many a log in memory has room that holds so many: rooms double."""
    room = FIRST_ADMISSIONS
    while room < admissions:
        room *= 2
    return room


def price(room: int) -> int:
    """What a log in memory with room for so many admissions takes, in bytes; nothing where it has none."""
    return KEY_BYTES + (room - FIRST_ADMISSIONS) * ADMISSION_BYTES if room else 0


def in_memory(quota: Quota) -> int:
    """Bytes of a key that used all of its quota."""
    return price(room_for(1 if quota.burst else quota.limit))


def in_redis(quota: Quota) -> int:
    """As `in_memory`, at most, in Redis."""
    return _REDIS_KEY_BYTES + (1 if quota.burst else quota.limit) * _REDIS_ADMISSION_BYTES


def seats_in_memory(most: int) -> int:
    """Bytes of a key with all of its seats taken."""
    return KEY_BYTES + most * _SEAT_BYTES


def seats_in_redis(most: int) -> int:
    """As `seats_in_memory`, at most, in Redis."""
    each = _REDIS_SEAT_BYTES if most <= _REDIS_COMPACT_SEATS else _REDIS_WIDE_SEAT_BYTES
    return _REDIS_KEY_BYTES + most * each
