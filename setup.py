"""Package list for the mapped folders; everything else is in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

MAPPED = ("adapters", "benchmarks")

for name in MAPPED:
    link = pathlib.Path(__file__).parent / "art_ext" / name
    if link.is_file():  # git writes a small text file where it may not make a symbolic link
        raise SystemExit(
            f"art_ext/{name} is a plain file, but must be a symbolic link to ../{name}: "
            "enable links (git config core.symlinks true) and check the repository out again."
        )

excluded = [f"art_ext.{name}{tail}" for name in MAPPED for tail in ("", ".*")]
packages = find_packages(include=["art_ext", "art_ext.*"], exclude=excluded)
for name in MAPPED:
    packages += [f"art_ext.{name}"] + [f"art_ext.{name}.{sub}" for sub in find_packages(name)]
setup(packages=packages)
