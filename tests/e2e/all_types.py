"""The table all_types of local-branch --all-types, and what each of its values has to become: an independent reading of
docs/types.md, from MySQL's text as the truth has it."""
import base64
import datetime
import decimal
import json
import re
import struct

# Column → (MySQL type, character set).
COLUMNS = {
    "id": ("bigint", None),
    "c_tinyint": ("tinyint", None),
    "c_tinyint_u": ("tinyint unsigned", None),
    "c_bool": ("tinyint(1)", None),
    "c_smallint": ("smallint", None),
    "c_smallint_u": ("smallint unsigned", None),
    "c_mediumint": ("mediumint", None),
    "c_mediumint_u": ("mediumint unsigned", None),
    "c_int": ("int", None),
    "c_int_u": ("int unsigned", None),
    "c_bigint": ("bigint", None),
    "c_bigint_u": ("bigint unsigned", None),
    "c_float": ("float", None),
    "c_double": ("double", None),
    "c_decimal": ("decimal(20,5)", None),
    "c_decimal0": ("decimal(10,0)", None),
    "c_date": ("date", None),
    "c_datetime": ("datetime", None),
    "c_datetime6": ("datetime(6)", None),
    "c_timestamp": ("timestamp", None),
    "c_timestamp3": ("timestamp(3)", None),
    "c_time": ("time", None),
    "c_time6": ("time(6)", None),
    "c_year": ("year", None),
    "c_char": ("char(5)", "utf-8"),
    "c_varchar": ("varchar(20)", "utf-8"),
    "c_varchar_bin": ("varchar(20)", "utf-8"),
    "c_tinytext": ("tinytext", "utf-8"),
    "c_text": ("text", "utf-8"),
    "c_mediumtext": ("mediumtext", "utf-8"),
    "c_longtext": ("longtext", "utf-8"),
    "c_binary": ("binary(4)", None),
    "c_varbinary": ("varbinary(10)", None),
    "c_tinyblob": ("tinyblob", None),
    "c_blob": ("blob", None),
    "c_mediumblob": ("mediumblob", None),
    "c_longblob": ("longblob", None),
    "c_bit1": ("bit(1)", None),
    "c_bit9": ("bit(9)", None),
    "c_bit64": ("bit(64)", None),
    "c_enum": ("enum('x','y,z','q''t')", "utf-8"),
    "c_set": ("set('a','b','c')", "utf-8"),
    "c_json": ("json", None),
    "c_geometry": ("geometry", None),
    "c_point": ("point", None),
    "c_vector": ("vector(3)", None),
    "c_latin1": ("varchar(20)", "cp1252"),
    "c_utf8mb3": ("varchar(20)", "utf-8"),
    "c_utf16": ("varchar(20)", "utf-16-be"),
    "c_ucs2": ("varchar(20)", "utf-16-be"),
    "c_utf32": ("varchar(20)", "utf-32-be"),
    "c_gbk": ("varchar(20)", "gbk"),
    "c_sjis": ("varchar(20)", "shift_jis"),
    "c_cp1251": ("varchar(20)", "cp1251"),
    "c_koi8r": ("varchar(20)", "koi8-r"),
    "c_big5": ("varchar(20)", "big5"),
    "c_ascii": ("varchar(20)", "ascii"),
    "c_enum_latin1": ("enum('é','ü')", "cp1252"),
    "c_generated": ("int", None),
    "c_invisible": ("int", None),
}

INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint", "year")
TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")

NULLED = object()  # null, with an entry in meta.changes


def base_type(mysql_type):
    return re.match(r"\w+", mysql_type).group(0)


def bytes_of(value):
    """A value of the truth as MySQL's bytes."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def _number(value):
    return str(int(value)) if value == int(value) else repr(value)


def _wkt(data, at=0):
    """(text, end) of the geometries that all_types holds."""
    order = "<" if data[at] == 1 else ">"
    kind = struct.unpack_from(order + "I", data, at + 1)[0]
    at += 5
    if kind == 1:
        x, y = struct.unpack_from(order + "dd", data, at)
        return f"POINT({_number(x)} {_number(y)})", at + 16
    count = struct.unpack_from(order + "I", data, at)[0]
    at += 4
    if kind == 2:
        points = [struct.unpack_from(order + "dd", data, at + 16 * i) for i in range(count)]
        return "LINESTRING(" + ",".join(f"{_number(x)} {_number(y)}" for x, y in points) + ")", at + 16 * count
    assert (kind, count) == (7, 0), (kind, count)
    return "GEOMETRYCOLLECTION EMPTY", at


def _moment(text):
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S" + (".%f" if "." in text else ""))
    except ValueError:
        return NULLED


def expected(column, value):
    """What a record has to hold for a value of the truth: a JSON value (decimals as Decimal), or NULLED."""
    mysql_type, charset = COLUMNS[column]
    if value is None:
        return None
    data = bytes_of(value)
    kind = base_type(mysql_type)
    if mysql_type == "tinyint(1)":
        return int(data) != 0
    if kind in INTEGERS:
        return int(data)
    if kind == "decimal":
        return decimal.Decimal(data.decode())
    if kind in ("float", "double"):
        return float(data)
    if kind == "bit":
        number = int.from_bytes(data, "big")
        return number != 0 if mysql_type == "bit(1)" else number
    if kind == "date":
        moment = _moment(data.decode() + " 00:00:00")
        return moment if moment is NULLED else f"{moment:%Y-%m-%d}".rjust(10, "0")
    if kind in ("datetime", "timestamp"):
        moment = _moment(data.decode())
        zone = "Z" if kind == "timestamp" else ""
        return moment if moment is NULLED else f"{moment:%Y-%m-%dT%H:%M:%S.%f}{zone}"
    if kind == "time":
        text = data.decode()
        if text.startswith("-") or int(text.split(":")[0]) > 23:
            return NULLED
        return text if "." in text else text + ".000000"
    if kind in TEXTS:
        return data.decode(charset)
    if kind in BYTES:
        return base64.b64encode(data).decode()
    if kind == "json":
        return json.dumps(json.loads(data), separators=(",", ":"), ensure_ascii=False)
    if kind in ("geometry", "point"):
        text, end = _wkt(data[4:])
        assert end == len(data) - 4
        return text
    assert kind == "vector", mysql_type
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def same(column, found, wanted):
    """`found` as a record has it, numbers with a fraction as Decimal."""
    if wanted is NULLED:
        return found is None
    if isinstance(wanted, decimal.Decimal):
        return str(found) == str(wanted)  # all digits, also zeroes at the end
    if isinstance(wanted, float):
        found = None if found is None else float(found)
        # The binary log has all digits of a FLOAT, MySQL's text six.
        return found == wanted or (column == "c_float" and float(f"{found:.6g}") == wanted)
    if isinstance(wanted, list) and found is not None:
        return [float(v) for v in found] == wanted
    return type(found) is type(wanted) and found == wanted


def differences(record, row):
    """How a record (parsed with parse_float=Decimal) differs from a row of the truth: a list of texts."""
    data = record["data"]
    found = []
    nulled = set()
    for column in COLUMNS:
        wanted = expected(column, row[column])
        if wanted is NULLED:
            nulled.add(column)
        if not same(column, data[column], wanted):
            found.append(f"{column}: {data[column]!r}, but the truth is {row[column]!r}")
    changes = record.get("meta", {}).get("changes", [])
    if {c["field"] for c in changes} != nulled:
        found.append(f"meta.changes {changes}, but {sorted(nulled)} cannot be told")
    for change in changes:
        if (change["change"], change["reason"]) != ("NULLED", "SOURCE_SERIALIZATION_ERROR"):
            found.append(f"meta.changes {change}")
    return found
