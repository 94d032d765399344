"""How Sphinx builds these pages: ``sphinx-build -W -b html docs build/docs``.

With the network, and DOCS_LINKS=1, names of other projects lead to their pages.
"""

from __future__ import annotations

import os
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
html_css_files = ["narrow.css"]

# An inventory that cannot be fetched is a warning, after a while.
if os.environ.get("DOCS_LINKS") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_timeout = 20
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3/", None),
        "mpi4py": ("https://mpi4py.readthedocs.io/en/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "cupy": ("https://docs.cupy.dev/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
