"""Writes icon.png: nested bars, each the start of the next, as the granularities of a MatFormer."""
import struct
import zlib

SIZE = 128
BACKGROUND = (23, 43, 77)
# Narrowest in front: (width, colour).
BARS = ((24, (255, 196, 84)), (48, (255, 140, 66)), (72, (221, 81, 106)), (96, (134, 70, 168)))


def pixel(x, y):
    for row in range(3):
        top = 16 + row * 34
        if top <= y < top + 28:
            for width, colour in BARS:
                if 16 <= x < 16 + width:
                    return colour
    return BACKGROUND


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


rows = b"".join(b"\0" + bytes(c for x in range(SIZE) for c in pixel(x, y)) for y in range(SIZE))
with open("icon.png", "wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0))
               + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))
