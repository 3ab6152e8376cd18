"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import sentei

# onerror: a package that fails to import fails its own test below, not the collection of all.
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(sentei.__path__, "sentei.", onerror=lambda name: None)
)


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_examples_run(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    report = []
    for test in finder.find(module, name):
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.append)
    assert not report, "".join(report)
