"""``python -m art_ext``: the same as the command ``art-ext``."""

from art_ext.cli import main

main()
