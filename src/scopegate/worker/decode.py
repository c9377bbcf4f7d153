"""Turns an untrusted picture into a small, plain JPEG, in a process of its own that can only fail small.

Run as `python -I -m scopegate.worker.decode` by `worker/fetch`: the file comes on standard input, the answer goes to
standard output as one line of JSON and, when that tells a size, the JPEG. The process bounds its own memory, CPU and
files before it loads a decoder, has none of the worker's environment, and knows nothing but the bytes it was given.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from scopegate.leads.photos import MAX_PHOTO_BYTES, MAX_PIXELS, MAX_SIDE_PX, PhotoCode, PhotoType, sniff

if TYPE_CHECKING:
    from PIL.Image import Image

MEMORY_BYTES: Final = 512 * 1024 * 1024
CPU_S: Final = 5
_JPEG_QUALITY: Final = 85
_DECODERS: Final = {
    PhotoType.JPEG: "JPEG",
    PhotoType.PNG: "PNG",
    PhotoType.GIF: "GIF",
    PhotoType.WEBP: "WEBP",
}


class Unusable(Exception):
    """This file gives no picture: `args[0]` is the PhotoCode."""


def main() -> int:
    confine()
    try:
        jpeg, size = reencode(sys.stdin.buffer.read(MAX_PHOTO_BYTES + 1))
    except Unusable as unusable:
        return _answer({"error": str(unusable.args[0])}, b"")
    return _answer({"size": size}, jpeg)


def _answer(head: dict[str, object], body: bytes) -> int:
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body)
    return 0


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


def reencode(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """The first frame as an RGB JPEG, turned upright, without metadata, and its (width, height): at most MAX_SIDE_PX
    each. Raises Unusable.

    Only the decoder of the sniffed type is tried, so a file that is two things at once is read as its first bytes
    say. The pixel count is judged from the header, before anything is unpacked.
    """
    if len(data) > MAX_PHOTO_BYTES:
        raise Unusable(PhotoCode.TOO_LARGE)
    kind = sniff(data[:16])
    if kind is None:
        raise Unusable(PhotoCode.NOT_A_PICTURE)
    try:
        image = _shrunk(_opened(data, kind))
        return _jpeg(image), image.size
    except MemoryError:
        raise Unusable(PhotoCode.BOMB) from None
    except Unusable:
        raise
    except Exception:  # decoders raise a dozen different types on hostile bytes: all mean the same to us
        raise Unusable(PhotoCode.DAMAGED) from None


def _opened(data: bytes, kind: PhotoType) -> Image:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        image = Image.open(io.BytesIO(data), formats=[_DECODERS[kind]])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Unusable(PhotoCode.BOMB) from None
    if image.width * image.height > MAX_PIXELS:
        raise Unusable(PhotoCode.BOMB)
    return image


def _shrunk(image: Image) -> Image:
    """Scaled down while decoding where the format can (JPEG), then upright, then on white where it is transparent."""
    from PIL import ImageOps

    image.draft("RGB", (MAX_SIDE_PX, MAX_SIDE_PX))
    image.load()
    if image.mode in ("1", "P", "PA"):  # palettes cannot be blended
        image = image.convert("RGBA")
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    with suppress(Exception):  # a broken EXIF block costs the orientation, not the photo
        image = ImageOps.exif_transpose(image)
    return _on_white(image)


def _on_white(image: Image) -> Image:
    from PIL import Image as Images

    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    white = Images.new("RGBA", layered.size, "white")
    return Images.alpha_composite(white, layered).convert("RGB")


def _jpeg(image: Image) -> bytes:
    clean = image.copy()
    clean.info = {}
    out = io.BytesIO()
    clean.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
