"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake of the user's: one clear line, exit code 2."""
