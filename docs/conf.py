"""Sphinx configuration. Build offline, warnings as errors: ``ci/test docs``."""

from __future__ import annotations

import os
import warnings

import xearth

# The kernels that run the pages choose the backend that puts figures into them.
os.environ.pop("MPLBACKEND", None)

project = "xearth"
author = "the xearth developers"
copyright = author
version = release = xearth.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "gallery",
    # sphinx-gallery writes notebooks and sources beside the pages that show them
    "auto_gallery/*.ipynb",
    "auto_gallery/*.py",
    "auto_gallery/*.json",
    "sg_execution_times.rst",
    "performance",  # tables that the page performance.rst includes
    # tables that the cards of the models include
    "models/enso-small-table.rst",
    "models/enso-multi-table.rst",
]
root_doc = "index"
nitpicky = False
toc_object_entries = False

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_use_plots = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
# Notes of progress bars and kernels on standard error are not part of a page.
nb_output_stderr = "remove"
# A figure is shown as PNG, and its repr beside it helps nobody.
nb_mime_priority_overrides = [("html", "image/png", 5)]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "capture_repr": (),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib",),
    "doc_module": ("xearth",),
    "backreferences_dir": None,
}

html_theme = "pydata_sphinx_theme"
html_title = f"xearth {release}"
html_static_path = []
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Third-party notices of this kind say nothing about the page being built.
warnings.filterwarnings("ignore", category=DeprecationWarning)
