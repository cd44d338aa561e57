"""Shell classes planned from the registry: names, defaults, docstrings and source text.

A ``Host`` holds the conventions of a toolkit and a ``Plan`` one class. ``build`` makes the class at
run time, ``source`` writes it. No toolkit is imported here.
"""

from art_ext.shells.plan import Host, Keyword, Plan, build, plan, plans

__all__ = ["Host", "Keyword", "Plan", "build", "plan", "plans"]
