"""No circle of imports, those for type checkers included; import-linter holds the layers (`make lint`)."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("ddfm")
    # ddfm/__init__.py names modules of all layers and loads them when they are first asked for.
    modules = sorted(graph.modules - {"ddfm"})
    TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) - {"ddfm"} for module in modules}
    ).prepare()  # raises CycleError, which names the circle
    assert len(modules) > 100
