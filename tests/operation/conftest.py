"""The fixtures are the system tests'."""

import importlib.util
import os
import sys

SYSTEM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system")
sys.path.insert(0, SYSTEM)
spec = importlib.util.spec_from_file_location("system_conftest", os.path.join(SYSTEM, "conftest.py"))
system_conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(system_conftest)

services = system_conftest.services
make_world = system_conftest.make_world
world = system_conftest.world
pytest_runtest_makereport = system_conftest.pytest_runtest_makereport
