"""Configuration of training and evaluation: each option is one field of one class.

``options`` describes a field, ``training`` and ``evaluation`` declare the classes, ``files`` reads
and writes TOML, and ``parsing`` reads values from text. No module here imports torch, so that
``art-ext train --help`` is quick.
"""
