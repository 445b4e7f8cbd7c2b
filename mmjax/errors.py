"""The exceptions that are meant for the person at the keyboard."""

EXIT_USER_ERROR = 2
EXIT_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: run the same command again


class UserError(Exception):
    """A mistake the user can mend, told in one sentence.

    The sentence names the config key, file or record and says what to change. The command line prints it
    without a traceback (unless `--debug`) and exits with `exit_code`.
    """

    exit_code = EXIT_USER_ERROR


class TemporaryError(UserError):
    """Nobody's mistake, perhaps: the same command may succeed later."""

    exit_code = EXIT_TEMPORARY
