"""Damage for files: bytes anywhere, and what a format's structure says, with lengths and checksums that fit again."""

from __future__ import annotations

import io
import json
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

Mutation = Callable[[bytes, bytes, Random], bytes]
"""A file's bytes and another's of its kind -> damaged bytes."""

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    4096,
    32767,
    65535,
    65536,
    2**20,
    2**28,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
NUMBERS += (2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, *(-n for n in (1, 2, 8, 128, 32768, 2**31, 2**63)))
VALUES = (
    None,
    True,
    False,
    "",
    "x",
    "w",
    "w+",
    "toy",
    "../x",
    "é\n\u2028\0",
    "9" * 5000,
    [],
    {},
    [[]],
    {"": 0},
    -0.0,
    0.5,
)
VALUES += (1e-320, 1e38, 1e39, 1e308, -1e308, float("nan"), float("inf"), 10**400, [0] * 1000)


def damage_bytes(data: bytes, other: bytes, rng: Random) -> bytes:
    """Flip, replace, delete, duplicate, cut and splice, at one place or several."""
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, n = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 100, 2000))
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.choice((rng.randbytes(n), bytes(n), b"\xff" * n)) + data[at + n :]
        elif kind == 2:
            data = data[:at] + data[at + n :]
        elif kind == 3:
            data = data[:at] + data[at : at + n] * rng.choice((2, 2, 3, 50)) + data[at + n :]
        elif kind == 4:
            width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            number = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, order)
            data = data[:at] + number + data[at + width :]
        elif kind == 5 and rng.random() < 0.3:
            data = data[:at]
        elif kind == 6:
            start = rng.randrange(len(other) + 1)
            data = (
                data[:at] + other[start:]
                if rng.random() < 0.3
                else data[:at] + other[start : start + n] + data[at + n :]
            )
    return data


def damage_json(value: Any, rng: Random) -> Any:
    """Change numbers, texts, keys and lists somewhere in a JSON value; a new value is made."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        home, key = rng.choice(places)
        kind = rng.randrange(7)
        if kind == 0:
            home[key] = rng.choice(VALUES)
        elif kind == 1:
            home[key] = rng.choice(NUMBERS)
        elif kind == 2:
            del home[key]
        elif kind == 3:
            there, other = rng.choice(places)
            home[key] = json.loads(json.dumps(there[other]))
        elif kind == 4 and isinstance(home, dict):
            home[rng.choice(("", "x", "version", key + "x"))] = home.pop(key)
        elif kind == 5 and isinstance(home, list):
            home.extend(json.loads(json.dumps(home)) * rng.choice((1, 1, 30)))
        elif kind == 6 and isinstance(home[key], int | float):
            home[key] = rng.choice((-1, 2, 0.5, 1e10)) * home[key] + rng.choice((-1, 0, 0, 1))
        value = _bounded(value)
    return value


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _bounded(value: Any) -> Any:
    return value if len(json.dumps(value)) < 200_000 else {}


def json_text(data: bytes, other: bytes, rng: Random) -> bytes:
    """A JSON file."""
    return _dumps(damage_json(json.loads(data), rng))


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def safetensors(data: bytes, other: bytes, rng: Random) -> bytes:
    """Its header, what ganvas says in that, and the numbers."""
    size = int.from_bytes(data[:8], "little")
    head, numbers = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = rng.randrange(4)
    if kind == 0:
        head = damage_json(head, rng)
    elif kind == 1:
        head["__metadata__"]["ganvas"] = json.dumps(damage_json(json.loads(head["__metadata__"]["ganvas"]), rng))
    elif kind == 2:
        head, numbers = _resize(head, numbers, rng)
    else:
        number = rng.choice((float("nan"), float("inf"), 0.0, -1.0, 3e38, 1e-40))
        at = rng.randrange(len(numbers) // 4 + 1) * 4
        numbers = numbers[:at] + struct.pack("<f", number) * rng.choice((1, 1, 100)) + numbers[at + 4 :]
        numbers = numbers[: len(data) - 8 - size]
    text = _dumps(head)
    return len(text).to_bytes(8, "little") + text + numbers


def _resize(head: dict[str, Any], numbers: bytes, rng: Random) -> tuple[dict[str, Any], bytes]:
    """Give one tensor another type or shape, with as many numbers as that has."""
    name = rng.choice([key for key in head if key != "__metadata__"])
    parts = {key: numbers[slice(*value["data_offsets"])] for key, value in head.items() if key != "__metadata__"}
    own = head[name]
    own["dtype"] = rng.choice((own["dtype"], own["dtype"], "F16", "BF16", "F64", "I64", "U8", "BOOL"))
    if rng.random() < 0.7 and own["shape"]:
        axis = rng.randrange(len(own["shape"]))
        own["shape"][axis] = min(4096, rng.choice((0, 1, own["shape"][axis] + 1, own["shape"][axis] * 2)))
    else:
        own["shape"] = rng.choice((own["shape"][::-1], own["shape"][1:], [1, *own["shape"]], [0], []))
    width = {"F64": 8, "I64": 8, "U8": 1, "BOOL": 1, "F16": 2, "BF16": 2}.get(own["dtype"], 4)
    for side in own["shape"]:
        width *= side
    if width < 1 << 24:
        parts[name] = (parts[name] * (width // max(len(parts[name]), 1) + 1) + bytes(width))[:width]
    at = 0
    for key, part in parts.items():
        head[key]["data_offsets"] = [at, at + len(part)]
        at += len(part)
    return head, b"".join(parts.values())


def png(data: bytes, other: bytes, rng: Random) -> bytes:
    """Chunks dropped, doubled, moved or changed, packed texts and pixels inside, with their checksums."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    i, kind = rng.randrange(len(chunks)), rng.randrange(8)
    name, content = chunks[i]
    if kind == 0:
        del chunks[i]
    elif kind == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[i])
    elif kind == 2:
        chunks[i] = (
            rng.choice((b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"gAMA", b"acTL")),
            content,
        )
    elif name in (b"IDAT", b"zTXt", b"tEXt"):
        chunks[i] = (name, _packed(name, content, rng))
    else:
        chunks[i] = (name, damage_bytes(content, other, rng))
    body = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return data[:8] + b"".join(body)


def _packed(name: bytes, content: bytes, rng: Random) -> bytes:
    key, _, rest = content.partition(b"\0")
    if name == b"tEXt":
        return key + b"\0" + _text(rest, rng)
    if name == b"zTXt":
        return key + b"\0\0" + zlib.compress(_text(zlib.decompress(rest[1:]), rng))
    return zlib.compress(damage_bytes(zlib.decompress(content), content, rng))


def _text(text: bytes, rng: Random) -> bytes:
    return json_text(text, text, rng) if rng.random() < 0.8 else damage_bytes(text, text, rng)


def tiff(data: bytes, other: bytes, rng: Random) -> bytes:
    """A field of its directory: the tag, the type, the count or the value."""
    start = int.from_bytes(data[4:8], "little")
    field = start + 2 + 12 * rng.randrange(int.from_bytes(data[start : start + 2], "little"))
    at, width = rng.choice(((0, 2), (2, 2), (4, 4), (8, 2), (8, 4)))
    number = rng.choice((rng.choice(NUMBERS), rng.randrange(1, 13), rng.randrange(254, 340)))
    return data[: field + at] + (number % (1 << 8 * width)).to_bytes(width, "little") + data[field + at + width :]


def jpeg(data: bytes, other: bytes, rng: Random) -> bytes:
    """A segment dropped, doubled or changed, with its length."""
    parts, at = [], 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append((data[at : at + 2], data[at + 4 : at + 2 + size]))
        at += 2 + size
    i, kind = rng.randrange(len(parts)), rng.randrange(4)
    if kind == 0:
        del parts[i]
    elif kind == 1:
        parts.insert(rng.randrange(len(parts)), parts[i])
    else:
        parts[i] = (parts[i][0], damage_bytes(parts[i][1], other, rng)[:65_000])
    segments = [mark + struct.pack(">H", len(content) + 2) + content for mark, content in parts]
    return data[:2] + b"".join(segments) + data[at:]


def pickled(data: bytes, other: bytes, rng: Random) -> bytes:
    """Opcodes dropped, doubled, swapped, taken from another file, or with another number."""
    steps = list(_opcodes(data))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        i, kind = rng.randrange(len(steps)), rng.randrange(6)
        if kind == 0:
            del steps[i]
        elif kind == 1:
            steps.insert(i, steps[i])
        elif kind == 2:
            j = rng.randrange(len(steps))
            steps[i], steps[j] = steps[j], steps[i]
        elif kind == 3:
            steps.insert(i, rng.choice(_opcodes(other)))
        elif kind == 4:  # numbers are few among the opcodes
            whole = [k for k, step in enumerate(steps) if step[:1] in b"KMJ\x8a"]
            steps[rng.choice(whole) if whole else i] = _number(rng.choice(NUMBERS))
        else:
            held = [k for k, step in enumerate(steps) if step[:1] in b"CB\x8eX\x8c" and len(step) > 4]
            j = rng.choice(held) if held else i
            steps[j] = _held(steps[j], rng)
    return b"".join(steps)


@lru_cache(64)
def _opcodes(data: bytes) -> tuple[bytes, ...]:
    """A pickle's opcodes with their arguments; a text's frame is left out, as lengths change."""
    places = [(place or 0, op.name) for op, _, place in pickletools.genops(data)]
    ends = [place for place, _ in places[1:]] + [len(data)]
    return tuple(data[start:end] for (start, name), end in zip(places, ends, strict=True) if name != "FRAME")


def _number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _held(step: bytes, rng: Random) -> bytes:
    """Bytes or a text with what it holds damaged: an archive inside as an archive."""
    head = {b"C": 2, b"B": 5, b"\x8e": 9, b"X": 5, b"\x8c": 2}[step[:1]]
    content = step[head:]
    damaged = archive if content.startswith(b"PK\x03\x04") else damage_bytes
    content = damaged(content, content, rng)
    if step[:1] in b"X\x8c":
        content = content.decode("utf-8", "replace").encode()
        return b"X" + struct.pack("<I", len(content)) + content
    return b"B" + struct.pack("<I", len(content)) + content


def archive(data: bytes, other: bytes, rng: Random) -> bytes:
    """Members of an archive of torch's dropped, doubled, renamed or changed (pickles as pickles), with their checksums."""
    members = [[name, content] for name, content in _members(data)]
    i, kind = rng.randrange(len(members)), rng.randrange(10)
    heads = [k for k, (name, _) in enumerate(members) if name.endswith("data.pkl")]
    if kind == 0:
        del members[i]
    elif kind == 1:
        members[i][0] = rng.choice((members[rng.randrange(len(members))][0], members[i][0] + "x", "/x", ""))
    elif kind == 2:
        members[i][1] = damage_bytes(members[i][1], other, rng)
    elif kind == 3:
        members[i][1] = members[rng.randrange(len(members))][1]
    elif heads:
        head = members[heads[0]][1]
        members[heads[0]][1] = pickled(head, head, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        for name, content in members:
            # ZipFile.writestr itself warns of double names.
            written.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


@lru_cache(64)
def _members(data: bytes) -> tuple[tuple[str, bytes], ...]:
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return tuple((name, found.read(name)) for name in found.namelist())


def torch_save(data: bytes, other: bytes, rng: Random) -> bytes:
    """What torch.save wrote, as an archive; older files as bytes."""
    return (archive if data.startswith(b"PK\x03\x04") else damage_bytes)(data, other, rng)


def csv(data: bytes, other: bytes, rng: Random) -> bytes:
    """Cells and lines."""
    rows = [line.split(b",") for line in data.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 8))):
        row = rng.choice(rows) or [b""]
        at, kind = rng.randrange(len(row)), rng.randrange(6)
        if kind == 0:
            row[at] = str(rng.choice(NUMBERS)).encode()
        elif kind == 1:
            row[at] = str(rng.choice(VALUES)).encode("utf-8", "replace")
        elif kind == 2 and len(row) > 1:
            del row[at]
        elif kind == 3:
            row.insert(at, rng.choice(rng.choice(rows) or [b""]))
        elif kind == 4:
            rows.insert(rng.randrange(len(rows)), list(rng.choice(rows)))
        else:
            row[at] = rng.choice((b'"', b'"a\n', b"\0", b"\xff", b"1e400", b"-0", b"0x1", b"1_0", " ١".encode(), b""))
    return rng.choice((b"\n", b"\n", b"\n", b"\r", b"\r\n")).join(b",".join(row) for row in rows)
