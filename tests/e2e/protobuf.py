"""Just enough of Protobuf's wire format to build and read cursors and recordings without generated code."""
import base64
import dataclasses
import gzip


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return varint((value << 1) ^ (value >> 63))


def unzigzag(value):
    return (value >> 1) ^ -(value & 1)


def number_field(number, value):
    return varint(number << 3) + varint(value) if value else b""


def bytes_field(number, value):
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    """[(number, value), …]: int for varints, bytes for the rest."""
    found = []
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        elif tag & 7 == 2:
            size, at = read_varint(data, at)
            if at + size > len(data):
                raise ValueError("the message is cut off")
            value, at = bytes(data[at : at + size]), at + size
        else:
            raise ValueError(f"wire type {tag & 7}")
        found.append((tag >> 3, value))
    return found


def all_of(data, number):
    return [value for n, value in fields(data) if n == number]


def one_of(data, number, default):
    return next(iter(reversed(all_of(data, number))), default)


def row(values):
    """A query.Row; None = NULL."""
    lengths = b"".join(zigzag(-1 if v is None else len(v)) for v in values)
    return bytes_field(1, lengths) + bytes_field(2, b"".join(v for v in values if v is not None))


def row_values(data):
    """The values of a query.Row."""
    lengths = one_of(data, 1, b"")
    values = one_of(data, 2, b"")
    found = []
    at = offset = 0
    while at < len(lengths):
        size, at = read_varint(lengths, at)
        size = unzigzag(size)
        if size < 0:
            found.append(None)
        else:
            found.append(values[offset : offset + size])
            offset += size
    return found


INT64 = 265


def last_known_pk(name, value, kind=INT64):
    """A query.QueryResult with one key column and one row, as vtgate sends it."""
    field = bytes_field(1, name) + number_field(2, kind) + number_field(8, 63) + number_field(10, 53251)
    return bytes_field(1, field) + bytes_field(4, row([str(value).encode()]))


@dataclasses.dataclass
class TableCursor:
    """psdbconnect.v1alpha1.TableCursor; `lastpk` is a serialized query.QueryResult or None."""

    shard: str = ""
    keyspace: str = ""
    position: str = ""
    lastpk: bytes = None

    def encode(self):
        """As it stands in a state: base64."""
        data = b"".join(
            bytes_field(number, text)
            for number, text in ((1, self.shard), (2, self.keyspace), (3, self.position))
            if text
        )
        if self.lastpk is not None:
            data += bytes_field(4, self.lastpk)
        return base64.b64encode(data).decode()

    @staticmethod
    def decode(text):
        data = base64.b64decode(text, validate=True)
        cursor = TableCursor(*(one_of(data, n, b"").decode() for n in (1, 2, 3)))
        cursor.lastpk = one_of(data, 4, None)
        return cursor

    @property
    def lastpk_values(self):
        return [row_values(r) for r in all_of(self.lastpk, 4)] if self.lastpk is not None else None


# -- recordings ----------------------------------------------------------------------------------------------------

ROW, FIELD, VGTID = 12, 13, 15


def responses(file):
    """The serialized responses of a recording."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    at = 0
    while at < len(data):
        size, at = read_varint(data, at)
        yield data[at : at + size]
        at += size


@dataclasses.dataclass
class Event:
    kind: int
    timestamp: int
    body: bytes


def events(file):
    """Every ROW, FIELD and VGTID event of a recording, in order; `body` is the RowEvent, FieldEvent or VGtid."""
    numbers = {ROW: 5, FIELD: 6, VGTID: 7}
    for response in responses(file):
        for event in all_of(response, 1):
            kind = one_of(event, 1, 0)
            if kind in numbers:
                yield Event(kind, one_of(event, 2, 0), one_of(event, numbers[kind], b""))


def first_positions(file):
    """{(keyspace, shard): position}: the first real position of each shard of a recording."""
    found = {}
    for event in events(file):
        if event.kind == VGTID:
            for shard in all_of(event.body, 1):
                name = (one_of(shard, 1, b"").decode(), one_of(shard, 2, b"").decode())
                position = one_of(shard, 3, b"").decode()
                if position not in ("", "current"):
                    found.setdefault(name, position)
    return found
