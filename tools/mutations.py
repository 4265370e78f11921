"""Ways to damage the bytes of a file, used by `mutated_files.py`."""

import gzip
import io
import random
import struct
import zipfile
import zlib

EXTREMES = (0, 1, -1, 127, 255, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, -(2**63), 10**9, -(2**31))
WORDS = (
    b"nan",
    b"inf",
    b"-1",
    b"1e400",
    b"0",
    b"9" * 30,
    b"\xff\xfe",
    b"\0",
    b'"',
    b"{",
    b"&a *a",
    b"!!x ",
    b"\r",
    b"\xef\xbb\xbf",
)


def mutated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """The content, damaged in one of seven ways; the beginning, where headers are, more often than the rest."""
    data = bytearray(content)
    offset = rng.randrange(max(1, min(len(data), rng.choice((64, 400, len(data))))))
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[(offset + rng.randrange(16)) % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[rng.choice((offset, rng.randrange(len(data)))) :]
    elif kind == 2:
        data[offset:offset] = rng.randbytes(rng.choice((1, 2, 4, 100)))
    elif kind == 3:
        data[offset:offset] = data[offset : offset + rng.choice((4, 16, 300))] * rng.choice((1, 2, 50))
    elif kind == 4:
        data = bytearray(other[: rng.randrange(len(other))] + data[offset:])
    elif kind == 5:
        size = rng.choice((1, 2, 4, 8))
        number = (rng.choice(EXTREMES) % 256**size).to_bytes(size, rng.choice(("little", "big")))
        data[offset : offset + size] = rng.choice((number, struct.pack("<f", rng.choice((float("nan"), 1e38)))))
    else:
        data[offset : offset + rng.choice((0, 1, 4))] = rng.choice(WORDS)
    return bytes(data)


def repacked(rng: random.Random, name: str, content: bytes, other: bytes) -> bytes:
    """The content of a compressed file damaged and compressed again, with valid checksums; other files `mutated`."""
    if name.endswith(".gz"):
        return gzip.compress(mutated(rng, gzip.decompress(content), other), 1)
    if name.endswith(".png"):  # a checksum follows each chunk
        data, start = bytearray(mutated(rng, content, other)), 8
        while start + 12 <= len(data) and (end := start + 8 + int.from_bytes(data[start : start + 4])) + 4 <= len(data):
            data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4)
            start = end + 4
        return bytes(data)
    if name.endswith(".xlsx"):
        target, packed = io.BytesIO(), zipfile.ZipFile(io.BytesIO(content))
        chosen = rng.choice(packed.namelist())
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
            for part in packed.namelist():
                out.writestr(part, mutated(rng, packed.read(part), other) if part == chosen else packed.read(part))
        return target.getvalue()
    return mutated(rng, content, other)
