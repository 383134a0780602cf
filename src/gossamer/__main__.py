"""The `gossamer` command, and `python -m gossamer`.

`gossamer predict` needs NumPy alone, and so does not wait for what the other commands import.
"""

import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["predict"]:
        from gossamer.predict_command import main as predict

        sys.exit(predict(sys.argv[2:]))
    try:
        from gossamer.cli import main as others
    except ModuleNotFoundError as missing:
        sys.exit(
            f"gossamer: this command needs the package {missing.name}, which is not installed: "
            "run `pip install gossamer`. With NumPy alone only `gossamer predict` works."
        )
    except KeyboardInterrupt:
        print("gossamer: interrupted before anything was done", file=sys.stderr)
        sys.exit(130)
    others()


if __name__ == "__main__":
    main()
