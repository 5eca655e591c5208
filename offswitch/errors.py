"""The one exception that means: the user can mend this."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake of the user's: one clear line, exit code 2."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Within the block, a mistake of the user's ends the program with one line and exit code 2."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"offswitch: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("offswitch: interrupted; the same command goes on from here\n")
        raise SystemExit(130) from None
