"""`trasluz` and `python -m trasluz`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from trasluz.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the command line itself was being imported
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
