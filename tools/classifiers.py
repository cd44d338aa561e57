"""Check the classifiers of pyproject.toml against those that a package index knows."""

import sys
from pathlib import Path

import tomllib
from trove_classifiers import classifiers

settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
unknown = sorted(set(settings["project"]["classifiers"]) - classifiers)
sys.exit(f"unknown classifiers: {', '.join(unknown)}" if unknown else 0)
