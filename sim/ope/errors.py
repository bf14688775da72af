"""What can go wrong in an evaluation besides its file and its mapping (`sim.replay.errors`).

OpeError             the evaluation cannot go on (exit code 2: what was asked for cannot be)
+-- MissingLibrary   a library that is not installed
+-- UnusedOption     an option that would do nothing
+-- UnfitLearner     a model that cannot predict these rewards
"""


class OpeError(Exception):
    """Base of the tree; the message is one readable line."""


class MissingLibrary(OpeError):
    """Something to be installed first."""


class UnusedOption(OpeError):
    """An option that does not go with the log."""


class UnfitLearner(OpeError):
    """A learner that does not go with the log."""
