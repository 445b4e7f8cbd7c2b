"""Model code of packages that cannot be imported whole: they ask for torchvision, and PyPI has none for
CPU builds of torch."""

import importlib
import importlib.util
import sys
import types

import torch

TORCHVISION = ("torchvision", "torchvision.ops", "torchvision.ops.misc")


def modules(
    *names: str, packages: tuple[str, ...], constants: tuple[str, ...] = (), hidden: tuple[str, ...] = ()
) -> list[types.ModuleType]:
    """Imports modules while empty packages stand in for theirs.

    The one name that the models take from torchvision serves for freezing, which no recording does.

    Args:
      packages: whose `__init__` is not run.
      hidden: optional packages that must not see what stands in.
      constants: modules whose constants are all that others import from their package.
    """
    added = {name: types.ModuleType(name) for name in packages}
    for name, module in added.items():
        module.__version__ = ""
        module.__path__ = list(importlib.util.find_spec(name.split(".")[0]).submodule_search_locations)
        module.__path__ = ["/".join([path, *name.split(".")[1:]]) for path in module.__path__]
    if importlib.util.find_spec("torchvision") is None:
        added |= {name: types.ModuleType(name) for name in TORCHVISION}
        added[TORCHVISION[-1]].FrozenBatchNorm2d = torch.nn.BatchNorm2d
    added |= dict.fromkeys(hidden)  # None makes importing it an ImportError
    before = {name: sys.modules.pop(name) for name in added if name in sys.modules}
    sys.modules.update(added)
    try:
        for name in constants:
            found = vars(importlib.import_module(name))
            vars(added[name.rpartition(".")[0]]).update({k: v for k, v in found.items() if k.isupper()})
        return [importlib.import_module(name) for name in names]
    finally:
        for name in added:
            del sys.modules[name]
        sys.modules.update(before)
