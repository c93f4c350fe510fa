"""How Airbyte's destinations read a value by the type that the catalog declares (the rules of the bulk CDK): numbers and
booleans become text where text is declared, text is parsed where a time is declared, and what does not fit becomes null."""
import datetime
import decimal
import json
import re

LOST = object()  # the destination would write null in its place


def declared_type(schema):
    """One of boolean, integer, number, string, date, time_tz, time, timestamp_tz, timestamp, array, object."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kind = next(k for k in kinds if k != "null")
    airbyte_type, form = schema.get("airbyte_type"), schema.get("format")
    if kind == "number" and airbyte_type == "integer":
        return "integer"
    if kind != "string":
        return kind
    if form == "date":
        return "date"
    if form == "time":
        return "time" if airbyte_type == "time_without_timezone" else "time_tz"
    if form == "date-time":
        return "timestamp" if airbyte_type == "timestamp_without_timezone" else "timestamp_tz"
    return "string"  # with any airbyte_type that it does not know, such as big_integer


def _moment(text, fallback_zone):
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=fallback_zone)


def coerce(value, schema):
    """The destination's value, or LOST. Numbers with a fraction come as Decimal."""
    if value is None:
        return None
    kind = declared_type(schema)
    try:
        if kind == "boolean":
            return value if isinstance(value, bool) else LOST
        if kind in ("integer", "number"):
            if isinstance(value, bool) or not isinstance(value, (int, str, decimal.Decimal)):
                return LOST
            number = decimal.Decimal(value)
            if kind == "number":
                return number
            return int(number) if number == number.to_integral_value() else LOST
        if kind == "string":
            if isinstance(value, bool):
                return "true" if value else "false"
            return value if isinstance(value, str) else json.dumps(value, default=str) if isinstance(value, (list, dict)) else str(value)
        if kind in ("array", "object"):
            return value if isinstance(value, list if kind == "array" else dict) else LOST
        if not isinstance(value, str):
            return LOST
        if kind == "date":
            return datetime.date.fromisoformat(value)
        if kind in ("time", "time_tz"):
            if not re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", value):
                return LOST
            time = datetime.time.fromisoformat(value)
            return time if kind == "time" or time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
        moment = _moment(value, datetime.timezone.utc)
        return moment if kind == "timestamp_tz" else moment.replace(tzinfo=None)
    except (ValueError, decimal.InvalidOperation):
        return LOST
