"""Create the virtual environment, or say in one line which Python is needed."""

import sys
import venv


def main() -> None:
    """Create the environment named on the command line."""
    if sys.version_info < (3, 11):  # noqa: UP036 -- this file is run by whatever python3 is
        sys.exit(
            f"knowledge-system needs Python 3.11 or newer, this is {sys.version.split()[0]}: set PYTHON=python3.11"
        )
    venv.create(sys.argv[1], with_pip=True)


if __name__ == "__main__":
    main()
