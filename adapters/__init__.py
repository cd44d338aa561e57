"""Shells and bridges for toolkits other than ART."""

if not __name__.startswith("art_ext."):
    # with the repository root on sys.path a bare `import adapters` would find this folder and hide
    # somebody else's package of that name
    raise ImportError("this folder is imported as art_ext.adapters")
