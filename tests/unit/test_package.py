"""The public face: names, laziness of the import, and no side effects."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xearth

HEAVY = ("torch", "matplotlib", "scipy.stats", "pint", "distributed", "properscoring", "numba")
ROOT = Path(__file__).resolve().parents[2]


def in_subprocess(code: str, cwd: Path | None = None) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fresh() -> dict[str, object]:
    """What a fresh interpreter has after `import xearth`, and then after the star import."""
    code = f"""
import json, sys, xearth
heavy = [name for name in {HEAVY!r} if name in sys.modules]
import xarray
accessor = hasattr(xarray.DataArray, "earthformer")
before = {{"before", *dir()}}
from xearth import *
star = sorted(set(dir()) - before)
print(json.dumps({{"heavy": heavy, "accessor": accessor, "star": star}}))
"""
    return json.loads(in_subprocess(code))


def test_import_loads_no_heavy_library(fresh):
    assert fresh["heavy"] == []


def test_accessor_is_registered_by_the_import(fresh):
    assert fresh["accessor"] is True


def test_every_public_name_exists():
    missing = [name for name in xearth.__all__ if not hasattr(xearth, name)]
    assert missing == []
    assert len(set(xearth.__all__)) == len(xearth.__all__)


def test_star_import_gives_exactly_the_public_names(fresh):
    assert fresh["star"] == sorted(xearth.__all__)


def test_late_names_are_those_that_type_checkers_see():
    """The table of homes, the imports for type checkers and __all__ say the same."""
    tree = ast.parse(Path(xearth.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (name.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert typed == {*xearth._HOME.items(), ("samples", "data.sources")}
    assert set(xearth._HOME) < set(xearth.__all__)


def test_dir_lists_the_names_that_load_late():
    assert set(xearth.__all__) <= set(dir(xearth))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xearth.no_such_name


def test_public_names_are_in_the_api_page():
    text = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    documented = set(re.findall(r"\w+", text))
    special = {"XearthError", "XearthWarning", "errors"}  # by automodule
    missing = [name for name in xearth.__all__ if name not in documented | special]
    assert missing == []


def test_typed_marker_is_beside_the_code():
    assert (Path(xearth.__file__).parent / "py.typed").is_file()


def test_version_is_that_of_the_project_file():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert xearth.__version__ == project["version"]


def all_modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(xearth.__path__, prefix="xearth.")]


def test_walk_finds_the_rooms():
    rooms = {name.split(".")[1] for name in all_modules()}
    assert {"cf", "fields", "data", "models", "verification", "cli", "plotting"} <= rooms


def test_importing_every_module_has_no_side_effect(tmp_path):
    """No file, no random state, no default dtype, no pint application registry is touched."""
    code = f"""
import json, os, random
import numpy as np, pint, torch
application = pint.get_application_registry().get()
before = (
    random.getstate(),
    np.random.get_state()[1].tolist(),
    torch.random.get_rng_state().tolist(),
    str(torch.get_default_dtype()),
    torch.get_num_threads(),
)
for name in {all_modules()!r}:
    __import__(name)
after = (
    random.getstate(),
    np.random.get_state()[1].tolist(),
    torch.random.get_rng_state().tolist(),
    str(torch.get_default_dtype()),
    torch.get_num_threads(),
)
print(json.dumps({{
    "changed": [i for i, (a, b) in enumerate(zip(before, after)) if a != b],
    "registry": pint.get_application_registry().get() is application,
    "files": os.listdir("."),
}}))
"""
    report = json.loads(in_subprocess(code, cwd=tmp_path))
    assert report == {"changed": [], "registry": True, "files": []}


def test_the_shipped_models_load_without_the_compiler_of_torch():
    """It takes seconds to import, and nothing is compiled."""
    code = """
import json, sys, torch, xearth
from xearth.forecasting.io import shipped
before = set(sys.modules)
for name in shipped():
    xearth.load(name)
compiler = {"torch._dynamo", "torch._inductor", "sympy"}
print(json.dumps(sorted(compiler & (set(sys.modules) - before))))
"""
    assert json.loads(in_subprocess(code)) == []
