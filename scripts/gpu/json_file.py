"""JSON files that are whole whenever their program is stopped."""

import json
import os


def write_json(path, value):
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    os.replace(temporary, path)


def read_json(path):
    """The value, or None if there is no such file or it is not JSON."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
