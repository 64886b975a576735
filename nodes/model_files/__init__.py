"""Models that are downloaded when asked for, and only then: the catalogue, where each file belongs, and the download itself."""

from .catalogue import (
    CATALOGUE,
    HubFile,
    Member,
    ModelEntry,
    ModelFile,
    WebFile,
    entry,
    find_models_dir,
    find_models_dir_or_none,
    human_size,
    missing_sentence,
    rows,
)
from .downloads import BusyError, Downloads
from .transfer import download

__all__ = [
    "CATALOGUE",
    "BusyError",
    "Downloads",
    "HubFile",
    "Member",
    "ModelEntry",
    "ModelFile",
    "WebFile",
    "download",
    "entry",
    "find_models_dir",
    "find_models_dir_or_none",
    "human_size",
    "missing_sentence",
    "rows",
]
