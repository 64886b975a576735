"""Environment variables that an operator sets, read alike by the nodes and the terminal."""

import os

COMMERCIAL_VARIABLE = "LIKENESS_COMMERCIAL_ONLY"


def switched_on(variable: str) -> bool:
    """Whether a variable is set to 1, true, yes or on."""
    return os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on")
