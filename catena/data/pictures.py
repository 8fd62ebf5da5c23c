"""Pictures in files become images of one size, as text: a PNG in base64, the same for the same pixels."""

from __future__ import annotations

import base64
import binascii
import io
import os
import struct
import warnings
import zlib
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

    from catena.settings import ImageSettings

#: What is read; other formats of Pillow would start programs (EPS) or are hardly ever met.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
#: Endings by which a folder is taken for one of pictures.
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
#: Modes of Pillow with 8 bits or fewer a channel, which it brings to grey or RGB by itself.
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
#: White of 16 bits.
_WHITE_16 = 65535
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: PNG's colour types.
_COLOUR_TYPES = {"grey": 0, "rgb": 2}


class UnreadableImageError(ValueError):
    """Its text says why a picture cannot be used, in the words of a reason for rejection."""


def canonical_png(content: bytes, settings: ImageSettings) -> bytes:
    """A PNG of the size and colours that `settings` ask for, without metadata, from any picture.

    The camera's orientation (EXIF) is applied, transparent parts become white, of several frames the first
    counts. Raises `UnreadableImageError`.
    """
    return to_png(_fitted(_decoded(content, settings), settings))


def to_png(image: Image) -> bytes:
    """The image as PNG, without metadata."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def pixels(content: bytes) -> np.ndarray:
    """The pixels of a canonical PNG, `(height, width, channels)`, 0 to 255; `UnreadableImageError` else."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError) as error:
        raise UnreadableImageError("not an image") from error
    return values[..., None] if values.ndim == 2 else values


def _decoded(content: bytes, settings: ImageSettings) -> Image:
    from PIL import Image, ImageOps

    limit = f"too many pixels (more than {settings.max_pixels:,})"
    if not content:
        raise UnreadableImageError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns of is checked here, or of no consequence
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(limit) from error
        except (OSError, SyntaxError, ValueError, struct.error, zlib.error, MemoryError) as error:
            raise UnreadableImageError("not an image") from error
        if image.width * image.height > settings.max_pixels:
            raise UnreadableImageError(limit)
        try:
            # A JPEG can be decoded at a half, a quarter or an eighth, which saves most of the time.
            image.draft(None, (2 * settings.size, 2 * settings.size))
            image.load()
            # Where the tag is damaged, the picture is taken as it lies.
            turned = ImageOps.exif_transpose(image)
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(limit) from error
        except (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError) as error:
            raise UnreadableImageError("image cut off or damaged") from error
        return _coloured(turned, settings.colours, image.format)


def _coloured(image: Image, colours: str, kind: str | None) -> Image:
    """The image, which was read from a file of this `kind`, as RGB or grey, 8 bits a channel."""
    from PIL import Image

    mode = "L" if colours == "grey" else "RGB"
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        if isinstance(clear := image.info.get("transparency"), int):
            values = np.where(values == clear, _WHITE_16, values)
        return Image.fromarray((values // 257).astype(np.uint8)).convert(mode)
    if image.mode == "I" and kind == "PPM":  # grey of more than 8 bits, from 0 to 65535
        return Image.fromarray((np.asarray(image).clip(0, _WHITE_16) // 257).astype(np.uint8)).convert(mode)
    if image.mode not in _CONVERTIBLE:
        raise UnreadableImageError(f"pixels of an unsupported kind ({image.mode})")
    if image.has_transparency_data:
        pasted = image.convert("RGBA")
        image = Image.new("RGBA", pasted.size, "white")
        image.alpha_composite(pasted)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _fitted(image: Image, settings: ImageSettings) -> Image:
    from PIL import Image, ImageOps

    size = (settings.size, settings.size)
    if image.size == size:
        return image
    method = Image.Resampling.BICUBIC  # which averages where it makes smaller
    if settings.fit == "pad":
        return ImageOps.pad(image, size, method)
    if settings.fit == "crop":
        return ImageOps.fit(image, size, method)
    return image.resize(size, method)


def is_canonical(content: bytes, settings: ImageSettings) -> bool:
    """Whether a PNG is of the right size and colours and holds nothing but pixels."""
    if not content.startswith(_SIGNATURE):
        return False
    at = len(_SIGNATURE)
    kinds: list[bytes] = []
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, end = content[at + 4 : at + 8], at + 8 + length
        if kind not in (b"IHDR", b"IDAT", b"IEND") or end + 4 > len(content):
            return False
        if zlib.crc32(content[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return False
        kinds.append(kind)
        at = end + 4
    if at != len(content) or len(kinds) < 3 or (kinds[0], kinds[-1]) != (b"IHDR", b"IEND"):
        return False
    header = struct.pack(
        ">IIBBBBB", settings.size, settings.size, 8, _COLOUR_TYPES[settings.colours], 0, 0, 0
    )
    return content[len(_SIGNATURE) + 8 : len(_SIGNATURE) + 21] == header


def as_text(content: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(content).decode("ascii")


def as_uri(content: bytes, name: str) -> str:
    """A file's bytes as a data URI that also keeps its name."""
    return f"data:application/octet-stream;name={quote(printable(name))};base64,{as_text(content)}"


def printable(name: str) -> str:
    r"""A file's name as text that can be written anywhere.

    Bytes that are not UTF-8, as old archives leave them, are shown as `\xe9`, so that names stay different.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def from_text(text: str) -> bytes:
    """The bytes of base64, or of a data URI. Raises `UnreadableImageError`."""
    if text.startswith("data:"):
        head, separator, text = text.partition(",")
        if not separator or not head.endswith(";base64"):
            raise UnreadableImageError("data URI without base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableImageError("not an image in base64") from error


def described(text: str) -> str:
    """An image's text as tables show it: the file's name, or the size of the PNG; its beginning is enough."""
    if text.startswith("data:"):
        for entry in text[:2000].partition(",")[0].split(";"):
            if entry.startswith("name="):
                return unquote(entry[len("name=") :])
        return "image"
    try:
        head = base64.b64decode(text[:32], validate=True)
    except (binascii.Error, ValueError):
        return text[:80]
    # Signature, the first chunk's length and kind, then width and height: 24 bytes, if they are there.
    if len(head) < 24 or not head.startswith(_SIGNATURE) or head[12:16] != b"IHDR":
        return "image"
    width, height = struct.unpack_from(">II", head, 16)
    return f"image of {width} × {height} pixels"
