"""Speed, parity and paper tables: run them with `python -m art_ext.benchmarks.NAME`."""

if not __name__.startswith("art_ext."):
    # with the repository root on sys.path, a bare `import benchmarks` would find this folder and
    # hide another package of that name
    raise ImportError("this folder is imported as art_ext.benchmarks")
