"""Errors that a user can act on: one sentence that says what is wrong and what to do.

The command line prints the sentence without a traceback and turns the class into an exit status:
``UsageError`` is 2 (the call itself was wrong), every other ``HspanError`` is 1 (an input failed).
"""


class HspanError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(HspanError, ValueError):
    """The call is wrong whatever the input: unknown model, impossible scale, misspelt option."""


class InputError(HspanError, ValueError):
    """A file or array can't be used: missing, damaged, of an unsupported kind, or unwritable."""


class WeightsError(HspanError, ValueError):
    """A checkpoint is damaged, foreign, or doesn't fit its network; lists the differences."""


class BackendUnavailable(HspanError, RuntimeError):  # noqa: N818 (what users catch is a state)
    """A backend that was asked for by name can't run here, with the reason."""
