"""The `mmjax` program: `mmjax <command> [arguments]`.

Exit codes: 0 done; 2 a mistake the user can mend, told in one sentence on stderr; 75 interrupted by SIGTERM
with everything saved (run the same command again to resume); 1 anything else.
"""

import ctypes
import glob
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from absl import flags

from mmjax import __version__
from mmjax import config as configs
from mmjax.errors import UserError

COMMANDS = {
    "data": "build a data set or look into one",
    "train": "train a system, or resume its training",
    "evaluate": "run a config's evaluators on a checkpoint",
    "generate": "caption a picture, or draw one from text",
    "convert": "read or write public weights in the Hugging Face layout",
    "reproduce": "check the published numbers that this library can compute",
    "parameters": "count the parameters of a config by module, from shapes alone",
    "sharding": "show how a config's parameters are laid over a mesh",
    "compile": "compile a config for a TPU pod on this machine and report memory and speed",
    "quickstart": "build a small world, train everything on it and write a report",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits the process with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        sys.exit(_dispatch(arguments))
    except UserError as error:
        if debug:
            raise
        print(f"mmjax: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _dispatch(arguments: list[str]) -> int | None:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}; the commands are {', '.join(COMMANDS)}")
    module = importlib.import_module(f"mmjax.cli.{command}")
    if {"--help", "-h"} & set(rest) and not getattr(module, "EXPLAINS_ITSELF", False):
        print(module.__doc__.strip())
        return 0
    keep_compiled_programs()
    return module.main(rest)


def usage() -> str:
    """The text of `mmjax --help`."""
    rows = "\n".join(f"  {name:<11} {purpose}" for name, purpose in COMMANDS.items())
    return (
        f"usage: mmjax <command> [arguments]\n\n{rows}\n\n"
        "mmjax <command> --help explains a command. --debug shows the traceback of a user error.\n"
        "Configs: --config clip:tiny (shipped) or --config path.py:variant, then --config.key.key=value."
    )


def parse(
    arguments: Sequence[str], define: Callable[[flags.FlagValues], None]
) -> tuple[flags.FlagValues, list[str]]:
    """Flags of one command.

    Args:
      arguments: what follows the command's name.
      define: declares the flags, e.g. `lambda f: flags.DEFINE_string("out", None, "...", flag_values=f)`.
        Where it declares none called `config`, `--config` and `--config.key=value` are read too, and the flag
        `config` holds the completed, overridden ConfigDict (None without `--config`).

    Returns:
      the parsed flags, and the positional arguments.

    Raises:
      UserError: an unknown flag, an ill-typed value, an unknown config key.
    """
    values = flags.FlagValues()
    define(values)
    overrides = []
    if "config" not in values:
        arguments, overrides = _split_overrides(arguments)
        flags.DEFINE_string("config", None, "config file and variant", flag_values=values)
    try:
        _, *positional = values(["mmjax", *arguments])
    except flags.Error as error:
        raise UserError(str(error).split("\n")[0]) from error
    if isinstance(values.config, str) and (location := values.config):
        values["config"].using_default_value = False
        values["config"].value = configs.override(configs.load(location), overrides)
    elif overrides:
        raise UserError(f"{overrides[0].split('=')[0]} needs --config first")
    return values, positional


def _split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates `--config.key=value` (or `--config.key value`) from the other arguments."""
    rest, overrides, remaining = [], [], list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith(("--config.", "--noconfig.")):
            rest.append(argument)
            continue
        overrides.append(argument)
        if "=" not in argument and remaining and not remaining[0].startswith("--"):
            overrides[-1] += "=" + remaining.pop(0)
    return rest, overrides


def require(values: flags.FlagValues, *names: str) -> None:
    """Raises a `UserError` naming the first flag of `names` that was not given."""
    for name in names:
        if getattr(values, name) is None:
            raise UserError(f"give --{name}; mmjax <command> --help shows how")


def keep_compiled_programs() -> None:
    """Keeps XLA's compiled programs in the user's cache directory: a second start need not compile."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "mmjax" / "compiled"))


def keep_freed_memory() -> None:
    """Where the processor itself computes, has glibc keep the memory that is freed, in one arena.

    The temporary memory of a training step is one block, which glibc asks of the kernel for every step, and
    writing to its pages for the first time takes a fifth of it. Only the first arena can hold such a block,
    and the limit is read when a thread starts: to be called before XLA's do. Not for programs that only
    prepare data: their threads would wait for each other.
    """
    if any(map(glob.glob, ("/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*"))):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # <malloc.h>
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        for option, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, -1)):
            set_option(option, value)
