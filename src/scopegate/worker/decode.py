"""Turns an untrusted picture into small, plain JPEGs, in a process of its own that can only fail small.

What a child of `worker/zygote` does: it bounds its own memory, CPU and files before it reads a byte, has none of the
worker's environment, and knows nothing but the bytes it was given.
"""

from __future__ import annotations

import io
import json
import resource
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from scopegate.leads.photos import (
    MAX_JPEG_PIXELS,
    MAX_PARTS,
    MAX_PHOTO_BYTES,
    MAX_PIXELS,
    MAX_SIDE_PX,
    SNIFFED_BYTES,
    Part,
    PhotoCode,
    PhotoType,
    Unseen,
    sniff,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MEMORY_BYTES: Final = 896 * 1024 * 1024
"""What 48 megapixels take as WebP, whose decoder holds them three times; any other kind takes 512 MiB at most."""
CPU_S: Final = 5
_JPEG_QUALITY: Final = 85
_LEAST_ROWS: Final = 0.75
"""Of a picture that is cut: with fewer it is damaged."""
_PANORAMA: Final = 2.5
"""Times as long as high."""
_DECODERS: Final = {
    PhotoType.JPEG: "JPEG",
    PhotoType.PNG: "PNG",
    PhotoType.GIF: "GIF",
    PhotoType.WEBP: "WEBP",
    PhotoType.HEIF: "HEIF",
    PhotoType.AVIF: "AVIF",
    PhotoType.TIFF: "TIFF",
    PhotoType.BMP: "BMP",
}


class Unusable(Exception):
    """This file gives no picture: `args[0]` is the PhotoCode."""


def answer(data: bytes) -> bytes:
    """A line of JSON, and the JPEGs that it tells of: `{"parts": [[width, height, bytes], …], "unseen": […]}` or
    `{"error": code}`."""
    try:
        parts, unseen = reencode(data)
    except Unusable as unusable:
        return json.dumps({"error": str(unusable.args[0])}).encode() + b"\n"
    sizes = [(part.width_px, part.height_px, len(part.jpeg)) for part in parts]
    line = json.dumps({"parts": sizes, "unseen": unseen}).encode()
    return line + b"\n" + b"".join(part.jpeg for part in parts)


def confine() -> None:
    """Bound this process for good: address space, CPU seconds, no files written, no core dump with a photo in it."""
    for limit, bound in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a system that does not know this limit, or already has a lower one
            resource.setrlimit(limit, (bound, bound))


def load_decoders() -> None:
    """Every library that reads a picture, and what of it keeps to one thread."""
    import pillow_heif
    from PIL import Image

    Image.init()
    Image.MAX_IMAGE_PIXELS = None  # judged by `_opened`
    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)


def reencode(data: bytes) -> tuple[tuple[Part, ...], tuple[Unseen, ...]]:
    """The first frame in RGB, turned upright, without metadata: one part, or those of a panorama. Raises Unusable.

    Only the decoder of the sniffed type is tried, so a file that is two things at once is read as its first bytes
    say. The pixel count is judged from the header, before anything is unpacked.
    """
    if len(data) > MAX_PHOTO_BYTES:
        raise Unusable(PhotoCode.TOO_LARGE)
    kind = sniff(data[:SNIFFED_BYTES])
    if kind is None:
        raise Unusable(PhotoCode.NOT_A_PICTURE)
    try:
        load_decoders()
        plain = _pixels_alone(data) if kind is PhotoType.PNG else data
        image, unseen = _loaded(plain, kind)
        frames = (Unseen.FRAMES,) if _has_more_frames(plain, kind) else ()
        return tuple(map(_jpeg, _parted(_shrunk(image)))), unseen + frames
    except MemoryError:
        raise Unusable(PhotoCode.BOMB) from None
    except Unusable:
        raise
    except Exception:  # decoders raise a dozen different types on hostile bytes: all mean the same to us
        raise Unusable(PhotoCode.DAMAGED) from None


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _opened(data: bytes, kind: PhotoType) -> ImageFile:
    """Not yet unpacked, and no more than MAX_PIXELS once it will be."""
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=[_DECODERS[kind]])
    if image.width * image.height > MAX_JPEG_PIXELS:
        raise Unusable(PhotoCode.BOMB)
    image.draft("RGB", _box(image.size))  # what this format can leave out while it is unpacked (JPEG)
    if image.width * image.height > MAX_PIXELS:
        raise Unusable(PhotoCode.BOMB)
    return image


def _loaded(data: bytes, kind: PhotoType) -> tuple[Image, tuple[Unseen, ...]]:
    image = _opened(data, kind)
    try:
        image.load()
    except OSError as fault:
        if kind is not PhotoType.JPEG or "truncated" not in str(fault):
            raise
        return _of_fewer_passes(data) if "progressive" in image.info else _of_fewer_rows(image)
    return image, ()


def _of_fewer_rows(image: ImageFile) -> tuple[Image, tuple[Unseen, ...]]:
    """A JPEG that was cut, as far as it was unpacked. The rows below are black."""
    image.tile = []  # nothing more to unpack
    reached = (image.getbbox() or (0, 0, 0, 0))[3]
    if reached < image.height * _LEAST_ROWS:
        raise Unusable(PhotoCode.DAMAGED)
    upright = image.getexif().tobytes()
    cut = image.crop((0, 0, image.width, reached))
    cut.info["exif"] = upright
    return cut, (Unseen.LOWER_END,)


def _of_fewer_passes(data: bytes) -> tuple[Image, tuple[Unseen, ...]]:
    """A progressive JPEG that was cut: whole once the second pass has begun, with less detail."""
    if data.partition(b"\xff\xc2")[2].count(b"\xff\xda") < 2:
        raise Unusable(PhotoCode.DAMAGED)
    image = _opened(data + b"\xff\xd9", PhotoType.JPEG)
    image.load()
    return image, (Unseen.DETAIL,)


def _has_more_frames(data: bytes, kind: PhotoType) -> bool:
    """Asked of a copy: to look for a frame may read it."""
    with suppress(Exception):
        return bool(getattr(_opened(data, kind), "is_animated", False))
    return False


_PIXEL_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"})


def _pixels_alone(png: bytes) -> bytes:
    """Without what is not pixels or how they are turned: megabytes of XMP, a colour profile, frames. From a chunk that
    is not whole on it stays as it is, for the decoder to judge."""
    kept = [png[:8]]
    at = 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if end > len(png) or png[at + 4 : at + 8] == b"IEND":
            break
        if png[at + 4 : at + 8] in _PIXEL_CHUNKS:
            kept.append(png[at:end])
        at = end
    return b"".join([*kept, png[at:]])


# ── shrinking ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _shrunk(image: Image) -> Image:
    """In RGB or RGBA, scaled down, then upright, then on white where it is transparent."""
    from PIL import ImageOps

    image = _in_eight_bits(image)
    if image.mode in ("1", "P", "PA"):  # palettes cannot be blended
        image = image.convert("RGBA")
    image.thumbnail(_box(image.size))
    with suppress(Exception):  # a broken EXIF block costs the orientation, not the photo
        image = ImageOps.exif_transpose(image)
    return _on_white(image)


def _in_eight_bits(image: Image) -> Image:
    """Greys of 16 bits, and those of scanners that have 32 or are fractions: Pillow's own way takes all above 255 for
    white."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda grey: grey * (1 / 257) + 0).convert("L")
    if image.mode in ("I", "F"):
        low, high = image.getextrema()
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        scale = 255 / (high - low) if high > low else 0.0
        return image.point(lambda grey: grey * scale - low * scale).convert("L")
    return image


def _on_white(image: Image) -> Image:
    from PIL import Image as Images

    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    white = Images.new("RGBA", layered.size, "white")
    return Images.alpha_composite(white, layered).convert("RGB")


# ── panoramas ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _parts(size: tuple[int, int]) -> int:
    """In how many parts the model sees a picture of this size: each about twice as long as high, and large enough."""
    longer, shorter = max(size), min(size)
    if longer < _PANORAMA * shorter:
        return 1
    return min(MAX_PARTS, -(-longer // (2 * shorter)), -(-longer // MAX_SIDE_PX))


def _box(size: tuple[int, int]) -> tuple[int, int]:
    """What a picture of this size is scaled into."""
    longer = MAX_SIDE_PX * _parts(size)
    return (longer, MAX_SIDE_PX) if size[0] >= size[1] else (MAX_SIDE_PX, longer)


def _parted(image: Image) -> list[Image]:
    count = -(-max(image.size) // MAX_SIDE_PX)
    edges = [max(image.size) * n // count for n in range(count + 1)]
    if image.width >= image.height:
        return [image.crop((left, 0, right, image.height)) for left, right in pairwise(edges)]
    return [image.crop((0, top, image.width, bottom)) for top, bottom in pairwise(edges)]


def _jpeg(image: Image) -> Part:
    clean = image.copy()
    clean.info = {}
    out = io.BytesIO()
    clean.save(out, "JPEG", quality=_JPEG_QUALITY)
    return Part(out.getvalue(), *image.size)
