"""The same as ``art-ext papers``."""

from art_ext.cli.papers import app

if __name__ == "__main__":
    app(prog_name="python -m art_ext.benchmarks.papers")
