"""The command line: one short module per command.

Every module `mmjax.cli.<command>` has a docstring (printed by `--help`) and `main(arguments: list[str])`.
"""
