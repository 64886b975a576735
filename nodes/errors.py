"""The one family of errors that a user can cause. Each message is a single sentence: what is wrong, with the value, and what to do.

The engine raises them, a node shows them unchanged, the terminal prints them and leaves with status 2.
"""


class LikenessError(Exception):
    """Something the user can mend; the message is one sentence that says how."""


class InputError(LikenessError):
    """A value, a count or a combination of inputs that cannot be used."""


class PictureError(LikenessError):
    """A picture that cannot be read or measured."""


class NoFaceError(LikenessError):
    """A picture that had to show a face shows none."""


class IdentityError(LikenessError):
    """An identity file or template that cannot be used here."""


class MissingPackageError(LikenessError):
    """A Python package that the chosen option needs is not installed."""


class MissingModelError(LikenessError):
    """A model file that the chosen option needs is not on disk, or not what it should be."""


class DownloadError(LikenessError):
    """A download that was asked for did not arrive whole; what arrived is kept for the next try."""
