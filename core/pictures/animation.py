"""Animations: of each only the first frame is decoded."""

PNG_CONTROL = b"acTL"  # the chunk of an animated PNG, before its first pixels
MOST_BLOCKS = 300_000
"""Blocks of a GIF, mostly of 255 bytes, that are looked at for a second frame."""
WEBP_ANIMATED = 2  # a bit of the flags of the chunk VP8X


def is_animated(data: bytes) -> bool:
    """Whether a file is an animated PNG, WebP, AVIF or GIF, by its bytes alone."""
    if data.startswith(b"\x89PNG"):
        return PNG_CONTROL in data[: max(0, data.find(b"IDAT"))]
    if data[8:16] == b"WEBPVP8X":
        return bool(data[20:21] and data[20] & WEBP_ANIMATED)
    if data[4:8] == b"ftyp":
        return data[8:12] in (b"avis", b"msf1", b"hevc")
    return data.startswith(b"GIF8") and _frames(data) > 1


def _frames(data: bytes) -> int:
    """The number of frames of a GIF, counted to two; those behind the first `MOST_BLOCKS` blocks are not seen."""
    position, frames, in_blocks = 13 + _colours(data[10:11]), 0, False
    for _ in range(MOST_BLOCKS):
        if frames == 2 or position >= len(data):
            break
        if in_blocks:  # each behind its length, and an empty one at the end
            in_blocks = data[position] > 0
            position += 1 + data[position]
        elif data[position] == 0x2C:  # a frame: its place, size and colours, then its pixels
            frames, in_blocks = frames + 1, True
            position += 11 + _colours(data[position + 9 : position + 10])
        elif data[position] == 0x21:  # an extension
            in_blocks = True
            position += 2
        else:
            break
    return frames


def _colours(flags: bytes) -> int:
    """Bytes of the table of colours that flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
