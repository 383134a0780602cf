"""Run every benchmark, one after the other; the machine should be idle.

GOSSAMER_DATA=... python -m benchmarks.run_all
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run each script as a process of its own."""
    for script in sorted(HERE.glob("*.py")):
        if not script.name.startswith("_") and script.name != "run_all.py":
            print(f"== {script.name}", flush=True)
            subprocess.run(
                [sys.executable, "-m", f"benchmarks.{script.stem}"], cwd=HERE.parent, check=True
            )


if __name__ == "__main__":
    main()
