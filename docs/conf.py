"""How Sphinx builds these pages: ``sphinx-build -W -b html docs build/docs``."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "mooncake_mpi"
author = "the mooncake_mpi contributors"
project_copyright = "2026, the mooncake_mpi contributors"
release = installed_version("mooncake_mpi")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["examples"]
html_theme = "furo"
html_title = f"mooncake_mpi {release}"
html_static_path = ["_static"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
