"""Print what an extra of pyproject.toml installs, for an environment without the package."""

import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
print("\n".join(settings["project"]["optional-dependencies"][sys.argv[1]]))
