"""Import every module of the installed provider; say which fail. Runs without our other scripts."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from pathlib import Path


def main() -> int:
    import airflow_provider_sms as package

    root = Path(package.__file__).parent
    if "site-packages" not in root.parts:
        print(f"this is not the installed provider, but {root}")
        return 1
    names = [package.__name__]
    names += [found.name for found in pkgutil.walk_packages([str(root)], f"{package.__name__}.")]
    failed = 0
    for name in names:
        # What Python or Alembic runs by itself, and nobody imports.
        if name.endswith((".__main__", ".migrations.env")):
            continue
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
            failed += 1
            print(f"can not import {name}:\n{traceback.format_exc()}")
    print(f"{len(names) - failed} modules imported, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
