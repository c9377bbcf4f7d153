"""Adding up what all processes of a metrics directory counted: the living, and the dead.

Whoever reads first folds the files of the dead into `archive.json` (counters and histograms; their gauges vanish), so
no total ever falls and files do not pile up. Who is alive and what files are called is `exposition`'s word. Nothing
here knows the catalogue. Called by the admin process at each scrape and by the supervisor.
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from scopegate import jsontext, logs
from scopegate.metrics.exposition import ALIVE_SUFFIX
from scopegate.process import lockfile

log = logs.get("metrics")

Labels: TypeAlias = tuple[tuple[str, str], ...]
SeriesId: TypeAlias = tuple[str, str, str, Labels]
"""(type, family, sample name, labels)"""

_ARCHIVE = "archive.json"


class DirectoryBusy(Exception):
    """Another process held the directory for longer than a scrape may wait."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sum over living and dead. `processes`: living processes by role."""

    families: tuple[Metric, ...]
    processes: Mapping[str, int]

    def collect(self) -> Iterable[Metric]:
        """What an encoder of prometheus_client asks for."""
        return self.families


def read(directory: Path) -> Snapshot:
    """Fold the dead, add up the rest. Blocks on files for some milliseconds; raises DirectoryBusy after half a second
    of waiting for another reader, OSError when the directory is gone."""
    with _exclusive(directory):
        living, archive = _fold(directory)
        totals = _Totals()
        for identity in sorted(living):
            for path in sorted(directory.glob(f"*_{identity}.db")):
                totals.add_file(path)
        totals.add_archive(archive)
    return Snapshot(tuple(totals.families()), _by_role(living))


def sweep(directory: Path) -> Mapping[str, int]:
    """Fold the dead without reading the living: for a supervisor that nobody scrapes. Living processes by role."""
    with _exclusive(directory):
        living, _ = _fold(directory)
    return _by_role(living)


def living(directory: Path) -> Mapping[str, int]:
    """Living processes by role, without waiting for anybody."""
    found = (path.stem for path in directory.glob(f"*{ALIVE_SUFFIX}"))
    return _by_role(identity for identity in found if _is_alive(directory, identity))


def _by_role(identities: Iterable[str]) -> Mapping[str, int]:
    return dict(Counter(identity.partition("-")[0] for identity in identities))


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    handle = os.open(directory / "sweep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, tries: int = 100, pause_s: float = 0.005) -> None:
    pause = threading.Event()
    for _ in range(tries):
        if lockfile.try_lock(handle):
            return
        pause.wait(pause_s)
    raise DirectoryBusy


def _fold(directory: Path) -> tuple[set[str], _Archive]:
    """The identities that live, and the archive with everything of the dead in it.

    Replacing the archive is the one moment at which a dead process moves: it names whom it holds, so files that a crash
    left behind after that moment are not counted twice."""
    archive = _Archive.load(directory / _ARCHIVE)
    files = _files_by_identity(directory)
    dead = {identity for identity in files if not _is_alive(directory, identity)}
    fresh = {identity for identity in dead - archive.folded if any(_data(files[identity]))}
    if fresh:
        for path in sorted(path for identity in fresh for path in _data(files[identity])):
            archive.add_file(path)
        archive.folded = fresh | (archive.folded & dead)
        if not archive.store(directory / _ARCHIVE):
            return files.keys() - dead, archive
    for path in (path for identity in dead for path in files[identity]):
        with suppress(FileNotFoundError):
            path.unlink()
    return files.keys() - dead, archive


def _files_by_identity(directory: Path) -> dict[str, list[Path]]:
    """Every process with a file in the directory. Data files come from the listing before the locks are tried, and a
    process locks before it writes: nobody alive is taken for dead."""
    found: dict[str, list[Path]] = {}
    for path in directory.iterdir():
        if path.suffix == ".db":
            found.setdefault(path.stem.rpartition("_")[2], []).append(path)
        elif path.suffix == ALIVE_SUFFIX:
            found.setdefault(path.stem, []).append(path)
    return found


def _data(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.name.startswith(("counter_", "histogram_", "summary_"))]


def _is_alive(directory: Path, identity: str) -> bool:
    return lockfile.is_held(directory / (identity + ALIVE_SUFFIX))


# ── adding up ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Key:
    """A series as prometheus_client writes it into a file."""

    family: str
    sample: str
    labels: Labels
    help: str


_keys: dict[str, _Key] = {}
_MAX_KEYS = 200_000


def _parse(raw: str) -> _Key:
    key = _keys.get(raw)
    if key is None:
        if len(_keys) >= _MAX_KEYS:
            _keys.clear()
        family, sample, labels, help_text = cast("list[Any]", jsontext.parse(raw.encode(), max_depth=2))
        key = _keys[raw] = _Key(family, sample, tuple(sorted(labels.items())), help_text)
    return key


def _entries(path: Path) -> Iterator[tuple[str, float, float]]:
    """(raw key, value, timestamp) of each series in a file, as far as it can be read: a process may have died while it
    made it."""
    try:
        for raw, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(path)):
            yield raw, value, timestamp
    except (struct.error, RuntimeError, UnicodeDecodeError):
        log.warning("metrics.file_damaged", file=path.name)


def _grow(partials: list[float], value: float) -> None:
    """Add without rounding (Shewchuk 1997): a folded total that is one bit smaller than the sum of its parts would look
    like a counter's reset, and `rate()` would count everything again."""
    kept = 0
    for partial in partials:
        big, small = (value, partial) if abs(value) >= abs(partial) else (partial, value)
        value = big + small
        rest = small - (value - big)
        if rest:
            partials[kept] = rest
            kept += 1
    partials[kept:] = [value]


class _Archive:
    """What dead processes counted: raw key -> exact partial sums, by type; `folded` are those it holds whose files may
    still be there."""

    def __init__(self, series: dict[str, dict[str, list[float]]], folded: set[str]) -> None:
        self.series, self.folded = series, folded

    @classmethod
    def load(cls, path: Path) -> _Archive:
        try:
            stored: dict[str, Any] = json.loads(path.read_bytes())  # as large as what was ever counted
            return cls(stored["series"], set(stored["folded"]))
        except FileNotFoundError:
            return cls({}, set())
        except (ValueError, KeyError, TypeError):
            log.warning("metrics.archive_damaged", file=path.name)
            return cls({}, set())

    def add_file(self, path: Path) -> None:
        sums = self.series.setdefault(path.name.partition("_")[0], {})
        for raw, value, _ in _entries(path):
            _grow(sums.setdefault(raw, []), value)

    def store(self, path: Path) -> bool:
        """False when the disk takes nothing more: the files of the dead then stay for the next time."""
        draft = path.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"folded": sorted(self.folded), "series": self.series}))
            draft.replace(path)
        except OSError as full:
            log.warning("metrics.archive_not_written", error_code=errno.errorcode.get(full.errno or 0, "OSError"))
            with suppress(OSError):
                draft.unlink()
            return False
        return True


class _Totals:
    """Sums by series. Two texts of help for one series (an upgrade) still are one series."""

    def __init__(self) -> None:
        self._sums: dict[SeriesId, list[float]] = {}
        self._gauges: dict[SeriesId, tuple[float, float]] = {}
        self._help: dict[str, tuple[str, str]] = {}

    def add_file(self, path: Path) -> None:
        kind, _, rest = path.name.partition("_")
        if kind == "gauge":
            self._add_gauges(path, rest.partition("_")[0].removeprefix("live"))
            return
        for raw, value, _ in _entries(path):
            if series := self._series(kind, raw):
                self._sums.setdefault(series, []).append(value)

    def add_archive(self, archive: _Archive) -> None:
        for kind, sums in archive.series.items():
            for raw, partials in sums.items():
                if series := self._series(kind, raw):
                    self._sums.setdefault(series, []).extend(partials)

    def _series(self, kind: str, raw: str) -> SeriesId | None:
        """None for a name that an older version gave another type."""
        key = _parse(raw)
        if self._help.setdefault(key.family, (kind, key.help))[0] != kind:
            return None
        return kind, key.family, key.sample, key.labels

    def _add_gauges(self, path: Path, mode: str) -> None:
        for raw, value, timestamp in _entries(path):
            series = self._series("gauge", raw)
            if series is None or (mode == "mostrecent" and timestamp == 0):  # made, never set
                continue
            before = self._gauges.get(series)
            self._gauges[series] = (value, timestamp) if before is None else _combine(mode, before, (value, timestamp))

    def families(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for kind, family, _, _ in (*self._sums, *self._gauges):
            if family not in found:
                found[family] = Metric(family, self._help[family][1], kind)
        buckets: dict[tuple[str, str, Labels], list[tuple[float, float]]] = {}
        for (kind, family, sample, labels), parts in self._sums.items():
            value = parts[0] if len(parts) == 1 else math.fsum(parts)
            if kind == "histogram" and sample.endswith("_bucket"):
                bare = tuple(pair for pair in labels if pair[0] != "le")
                buckets.setdefault((family, sample, bare), []).append((float(dict(labels)["le"]), value))
            else:
                found[family].samples.append(Sample(sample, dict(labels), value))
        for (family, sample, labels), counts in buckets.items():
            found[family].samples.extend(_cumulative(family, sample, labels, counts))
        for (_, family, sample, labels), (value, _) in self._gauges.items():
            found[family].samples.append(Sample(sample, dict(labels), value))
        yield from found.values()


def _combine(mode: str, one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    if mode == "min":
        return min(one, other)
    if mode == "max":
        return max(one, other)
    if mode == "mostrecent":
        return max(one, other, key=lambda pair: pair[1])
    return one[0] + other[0], 0.0


def _cumulative(family: str, sample: str, labels: Labels, counts: list[tuple[float, float]]) -> Iterator[Sample]:
    """Files hold each bucket alone; the exposition adds the smaller ones, and the last one is the count."""
    total = 0.0
    for bound, count in sorted(counts):
        total += count
        le = floatToGoString(bound)
        yield Sample(sample, {**dict(labels), "le": le}, total)
    yield Sample(f"{family}_count", dict(labels), total)
