"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake the user can mend, told in one sentence.

    The sentence names the config key, file or record and says what to change. The command line prints it
    without a traceback (unless `--debug`) and exits with code 2.
    """
