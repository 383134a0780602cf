"""Write docs/study.schema.json, or check that it is what the code says."""

import json
import sys
from pathlib import Path

from gossamer.studies.schema import study_schema

FILE = Path(__file__).parent / "study.schema.json"


def main() -> None:
    """Write the file; with ``--check`` compare it."""
    text = json.dumps(study_schema(), indent=2) + "\n"
    if "--check" not in sys.argv[1:]:
        FILE.write_text(text, encoding="utf-8")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"{FILE.name} is out of date: run python docs/study_schema.py")


if __name__ == "__main__":
    main()
