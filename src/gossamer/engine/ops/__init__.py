"""The operators, one a file. A file that is put here is known without a line more.

It holds a frozen dataclass derived from `Operator`, with a name, typed fields, `infer_shape`,
`run`, `sampled` for the tests of all operators, and `held` if it takes memory beside its value;
what makes it of calls of PyTorch; and `register`. What a file of a network holds of it stands in a
row of docs/gsm-format.md. The compiled kernels have it where their `operators` names it; until then
it runs on NumPy alone.
"""

import importlib
import pkgutil

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
