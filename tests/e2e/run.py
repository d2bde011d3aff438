"""Runs the end-to-end tests against two hubs that it starts and stops: `run.py [NAME_PART...]`.

AIOX_BIN names the `aiox` program. Every `async def test_*(mesh)` of every test_*.py is run, or those whose name
contains one of the arguments. Nothing is skipped: what cannot run has failed. The exit status is 0 only when all passed.
"""

import asyncio
import importlib
import inspect
import logging
import sys
import time
import traceback
from pathlib import Path

from mesh import Mesh

# The order matters for the clock only: the tests that kill processes come last.
LAST = "test_crash"
# Seconds for one test; its attribute `patience` says otherwise.
TEST_TIME = 180.0


def find_tests(wanted: list[str]) -> list[tuple[str, object]]:
    """Name and function of the tests to run."""
    modules = sorted((path.stem for path in Path(__file__).parent.glob("test_*.py")), key=lambda name: (name == LAST, name))
    found = []
    for module_name in modules:
        module = importlib.import_module(module_name)
        for name, function in vars(module).items():
            if name.startswith("test_") and inspect.iscoroutinefunction(function):
                full_name = f"{module_name}.{name}"
                if not wanted or any(part in full_name for part in wanted):
                    found.append((full_name, function))
    return found


async def run_tests(tests: list[tuple[str, object]]) -> tuple[int, int]:
    """Runs the tests one after the other; returns how many passed and failed."""
    passed = failed = 0
    async with Mesh() as mesh:
        for name, function in tests:
            started = time.monotonic()
            try:
                async with asyncio.timeout(getattr(function, "patience", TEST_TIME)):
                    await function(mesh)
            except Exception:
                failed += 1
                print(f"FAILED {name} ({time.monotonic() - started:.1f} s)")
                traceback.print_exc(file=sys.stdout)
                print(mesh.last_log_lines(), flush=True)
            else:
                passed += 1
                print(f"ok     {name} ({time.monotonic() - started:.1f} s)", flush=True)
            finally:
                await mesh.end_test()
    return passed, failed


def main() -> int:
    """Returns the exit status."""
    logging.basicConfig(level=logging.CRITICAL)
    tests = find_tests(sys.argv[1:])
    if not tests:
        print(f"no test is named like {' or '.join(sys.argv[1:])}")
        return 2
    try:
        passed, failed = asyncio.run(run_tests(tests))
    except Exception:
        traceback.print_exc(file=sys.stdout)
        passed, failed = 0, len(tests)
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
