"""How this pack is installed: the commands to tell a user, and the environment variables of an operator. Read alike by nodes and terminal."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

from .errors import MissingPackageError

# Not resolved: a pack linked into custom_nodes counts as being there.
PACK = Path(os.path.abspath(__file__)).parents[1]

COMMERCIAL_VARIABLE = "LIKENESS_COMMERCIAL_ONLY"


def switched_on(variable: str) -> bool:
    """Whether a variable is set to 1, true, yes or on."""
    return os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on")


def in_custom_nodes() -> bool:
    """Whether the pack lies in a ComfyUI, where ComfyUI Manager puts it, rather than installed as a package."""
    return PACK.parent.name == "custom_nodes"


@contextmanager
def needed(package: str):
    """Around the import of an optional package: its absence, or a part of it that does not load, is one sentence."""
    try:
        yield
    except ImportError as error:
        raise MissingPackageError(
            f"The package {package} is needed here and cannot be imported ({error}): run `{pip_command(f'install {package}')}`."
        ) from None


def _quoted(path) -> str:
    """Quotes only where they are needed: PowerShell takes a quoted command for a text."""
    return f'"{path}"' if " " in str(path) else str(path)


def likeness_command(arguments: str) -> str:
    """What to type to run `likeness ARGUMENTS` here: inside a ComfyUI the command is not on the path, and the Python must be ComfyUI's."""
    return f"{_quoted(sys.executable)} {_quoted(PACK)} {arguments}" if in_custom_nodes() else f"likeness {arguments}"


def pip_command(arguments: str) -> str:
    """What to type to run pip in the Python that runs this."""
    return f"{_quoted(sys.executable)} -m pip {arguments}" if in_custom_nodes() else f"python -m pip {arguments}"
