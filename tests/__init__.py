"""A package, so that ``tests.toys`` is ours and not sought in a package ``tests`` that some
wheel installed.
"""
