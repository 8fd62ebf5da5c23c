"""A text file as a stream of UTF-8 bytes: unzipped, decoded and checked while it is read."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from catena.errors import DataError

_CHUNK = 1 << 18
_SAMPLE = 1 << 18
#: Encodings in which any bytes are text, so that only a look at the content shows a wrong choice.
_SINGLE_BYTE = {"iso8859-1", "cp1252", "iso8859-15", "iso8859-2", "cp1250", "cp1251"}


class TextStream(io.RawIOBase):
    """Bytes of a file in any encoding, as UTF-8 without a byte order mark.

    Counts the double quotes and bytes that pass through. Raises `DataError` at the first byte that the
    encoding does not allow, with its line and the encoding the file is likely in, and when a gzipped
    file ends too early. The error is also kept in `failure`, for readers that swallow it.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__()
        self.path = path
        self.encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        self.failure: DataError | None = None
        self.quotes = 0
        self._source = _open_bytes(path)
        self._decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        self._ready = memoryview(b"")
        self._lines = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # typeshed names the type only in stubs
        while not self._ready and not self._ended:
            self._ready = memoryview(self._next())
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._source.close()
        super().close()

    def _next(self) -> bytes:
        try:
            chunk = self._source.read(_CHUNK)
        except (EOFError, zlib.error):
            raise self._fail(
                f"{self.path.name} is cut off or damaged (its gzip stream breaks in or after line "
                f"{self._lines + 1}); copy or download it again."
            ) from None
        except gzip.BadGzipFile:
            raise self._fail(
                f"{self.path.name} is not gzipped, whatever its name says; rename it without `.gz`."
            ) from None
        self._ended = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._fail(self._wrong_encoding(error)) from None
        except UnicodeError as error:  # UTF-16 and UTF-32 without a byte order mark
            raise self._fail(
                f"{self.path.name} is not {self.encoding} text ({error}); "
                f"the file is likely {likely_encoding(chunk) or 'utf-8'}, so set `data.encoding` to that."
            ) from None
        data = text.encode("utf-8")
        self._lines += data.count(b"\n")
        self.quotes += data.count(b'"')
        return data

    def _wrong_encoding(self, error: UnicodeDecodeError) -> str:
        line = self._lines + error.object[: error.start].count(b"\n") + 1
        wrong = error.object[error.start : error.start + 1]
        what = f"byte 0x{wrong.hex()}" if wrong else "its end"
        start = max(error.start - _SAMPLE // 2, 0)
        likely = likely_encoding(error.object[start : start + _SAMPLE])
        advice = (
            f"the file is likely {likely}, so set `data.encoding: {likely}` (or give `--encoding`)"
            if likely and likely != self.encoding
            else "save the file as UTF-8, or name its encoding in `data.encoding`"
        )
        name = "utf-8" if self.encoding == "utf-8-sig" else self.encoding
        return f"{self.path.name}, line {line}: {what} is not {name} text; {advice}."

    def _fail(self, message: str) -> DataError:
        self.failure = DataError(message)
        return self.failure


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[tuple[TextStream, io.BufferedReader[TextStream]]]:
    """Open a text file, gzipped or not, for reading as UTF-8 bytes.

    Raises `DataError` when the file is missing, empty, or evidently not in `encoding`.
    """
    check_present(path)
    try:
        "".encode(encoding)
    except LookupError:
        raise DataError(
            f"`data.encoding`: {encoding!r} is no encoding Python knows; use one such as utf-8."
        ) from None
    stream = TextStream(path, encoding)
    with stream, io.BufferedReader(stream, _CHUNK) as buffered:
        _check_declared(path, encoding)
        if not buffered.peek(1):
            raise DataError(f"{path.name} is empty; put the records there or name another file.")
        yield stream, buffered


def check_line_ends(path: Path, stream: io.BufferedReader[TextStream]) -> None:
    """Raise `DataError` where lines end with carriage returns alone, as on very old Macs."""
    begin = stream.peek(1)
    if b"\r" in begin.rstrip() and b"\n" not in begin:
        raise DataError(
            f"{path.name} ends its lines with carriage returns alone; save it with ordinary line ends (LF)."
        )


def check_present(path: Path) -> None:
    """Raise `DataError` unless `path` is a file with content."""
    import difflib

    if path.is_file():
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty; put the records there or name another file.")
        return
    if path.is_dir():
        raise DataError(f"{path.name} is a folder, not a file; name one of the files in it.")
    there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    if near:
        advice = f"did you mean {near[0]}?"
    elif there:
        advice = f"that folder holds {', '.join(there[:8])}{' …' if len(there) > 8 else ''}."
    else:
        advice = "`catena fetch` gets the data, or put the file there."
    raise DataError(f"There is no file {path.name} in {path.parent}; {advice}")


def likely_encoding(sample: bytes) -> str | None:
    """The name of the encoding that a sample of bytes is most likely in, or None.

    UTF-16 is told by its byte order mark or by its zeros, UTF-8 by itself; the rest by
    `charset_normalizer`.
    """
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if sample.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    zeros = sample.count(0)
    if zeros > len(sample) // 4:
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    if _is_utf8(sample):
        return "utf-8"
    from charset_normalizer import from_bytes

    matches = list(from_bytes(sample))
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", sample)]
    if runs.count(1) > len(runs) // 2:
        # Accented letters stand alone among ASCII ones; bytes of Asian encodings come in pairs.
        matches = [match for match in matches if match.encoding.startswith(("cp125", "iso8859", "latin"))]
        if not matches:
            return "cp1252"
    if not matches:
        return None
    best = matches[0]
    for match in matches:
        # Of encodings that explain the bytes about equally well, Western European is by far the commonest.
        western = "cp1252" in (match.encoding, *match.could_be_from_charset)
        if western and match.chaos <= best.chaos + 0.1 and match.coherence >= best.coherence - 0.05:
            return "cp1252"
    return str(best.encoding).replace("_", "-")


def _open_bytes(path: Path) -> IO[bytes]:
    """The file opened for reading, unzipped on the way where its name ends in `.gz`."""
    raw = path.open("rb")
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if path.name.lower().endswith(".gz") else raw


def sample_bytes(path: Path) -> bytes:
    """The first bytes of a file, unzipped; none of a damaged one, about which its reader says more."""
    with _open_bytes(path) as stream:
        try:
            return stream.read(_SAMPLE)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return b""


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(sample, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _check_declared(path: Path, encoding: str) -> None:
    """Raise `DataError` for UTF-8 files declared as an encoding that takes any bytes, and for UTF-16
    files declared as UTF-8 whose zeros would pass as characters."""
    sample = sample_bytes(path)
    name = codecs.lookup(encoding).name
    if name in _SINGLE_BYTE and not sample.isascii() and _is_utf8(sample):
        raise DataError(
            f"{path.name} is UTF-8 although `data.encoding` says {encoding}; set `data.encoding: utf-8`."
        )
    if name == "utf-8" and sample.count(0) > len(sample) // 4:
        likely = likely_encoding(sample)
        raise DataError(
            f"{path.name} is not UTF-8 text: it is full of zero bytes and likely {likely}; "
            f"set `data.encoding: {likely}`."
        )
